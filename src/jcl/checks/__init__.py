"""What `jcl verify` looks for in a store or a run, and what it says of it."""

from jcl._lazy import attach

__getattr__, __dir__ = attach(__name__)
