"""Segmenting in a browser: a server on this machine, its page, and the way in for 3D Slicer."""

from jcl._lazy import attach

__getattr__, __dir__ = attach(__name__)
