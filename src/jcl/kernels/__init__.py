"""Convolutions and batch normalisation of our own on a CPU, compiled on the machine that runs them; in float32 and bfloat16."""

from jcl._lazy import attach

__getattr__, __dir__ = attach(__name__)
