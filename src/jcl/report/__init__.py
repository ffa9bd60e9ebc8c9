"""From results to tables and pictures."""

from jcl._lazy import attach

__getattr__, __dir__ = attach(__name__)
