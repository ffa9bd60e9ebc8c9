"""Other programs on jcl's splits and volumes, for the same time: nnU-Net v2 by its own commands, MONAI's BasicUNet."""
