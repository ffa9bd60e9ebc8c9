"""Trainings that end when their time is used up. nnU-Net's is copied into its own environment, where jcl is not."""
