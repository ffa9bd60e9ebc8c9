"""The command line: parsing, help and what is printed; nothing here computes."""

from jcl._lazy import attach

__getattr__, __dir__ = attach(__name__)
