"""What the commands do, one module each; stages talk by files."""

from jcl._lazy import attach

__getattr__, __dir__ = attach(__name__)
