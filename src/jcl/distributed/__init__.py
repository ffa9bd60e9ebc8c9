"""Several processes that train together, and the device of each."""

from jcl._lazy import attach

__getattr__, __dir__ = attach(__name__)
