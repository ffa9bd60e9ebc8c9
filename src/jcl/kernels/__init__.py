"""Convolutions and batch normalisation of our own for float32 on a CPU, compiled on the machine that runs them."""

from jcl._lazy import attach

__getattr__, __dir__ = attach(__name__)
