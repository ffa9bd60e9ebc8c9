"""What pre-training and fine-tuning share: session, schedule, checkpoints, logs."""

from jcl._lazy import attach

__getattr__, __dir__ = attach(__name__)
