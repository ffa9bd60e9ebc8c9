"""A trained network in the formats of other programs: one module a format."""

from jcl._lazy import attach

__getattr__, __dir__ = attach(__name__)
