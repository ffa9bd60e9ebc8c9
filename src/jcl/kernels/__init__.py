"""Convolutions and batch normalisation of our own for float32 on a CPU, compiled on the machine that runs them."""
