"""What pre-training methods share besides losses and views: heads, teachers, memory."""

from jcl._lazy import attach

__getattr__, __dir__ = attach(__name__)
