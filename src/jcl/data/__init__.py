"""From files to batches: volumes, the store, splits, slices."""

from jcl._lazy import attach

__getattr__, __dir__ = attach(__name__)
