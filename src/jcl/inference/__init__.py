"""A trained network over whole scans."""

from jcl._lazy import attach

__getattr__, __dir__ = attach(__name__)
