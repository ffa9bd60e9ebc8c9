"""Work spread over processes of this machine, or over a Ray cluster."""

from jcl._lazy import attach

__getattr__, __dir__ = attach(__name__)
