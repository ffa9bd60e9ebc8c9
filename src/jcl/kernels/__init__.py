"""Convolutions and batch normalisation of our own, compiled on the machine: for a CPU, in float32 and bfloat16."""

from jcl._lazy import attach

__getattr__, __dir__ = attach(__name__)
