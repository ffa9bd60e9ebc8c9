"""Whether what a network computes of a scan is a number."""

import torch
from torch import Tensor

from jcl.errors import DataError

__all__ = ["NotFiniteError", "check_finite"]


class NotFiniteError(DataError):
    """What the network computes of an image is NaN or infinite."""


def check_finite(logits: Tensor) -> None:
    """See that it is.

    Raises:
        NotFiniteError: it is not.
    """
    if not bool(torch.isfinite(logits).all()):
        raise NotFiniteError(
            "the network's output is NaN or infinite; see that the scan has values as those of the training"
        )
