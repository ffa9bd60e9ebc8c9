"""Losses, one module a kind; all of them are also found here."""

from jcl._lazy import attach
from jcl.losses.contrastive import info_nce, negative_cosine, position_mask, queue_info_nce
from jcl.losses.dense import dense_byol, dense_info_nce, dense_mse, equivariance
from jcl.losses.segmentation import (
    cross_entropy,
    dice_cross_entropy,
    log_dice,
    log_dice_cross_entropy,
    soft_dice,
)

__all__ = [
    "cross_entropy",
    "dense_byol",
    "dense_info_nce",
    "dense_mse",
    "dice_cross_entropy",
    "equivariance",
    "info_nce",
    "log_dice",
    "log_dice_cross_entropy",
    "negative_cosine",
    "position_mask",
    "queue_info_nce",
    "soft_dice",
]

__getattr__, __dir__ = attach(__name__)
