"""What this machine has, what can be expected of it, and what is set wrongly."""

from jcl._lazy import attach

__getattr__, __dir__ = attach(__name__)
