"""Channels of colour that say nothing: three equal ones of a grey picture, and transparency that hides nothing."""

import numpy as np
from jaxtyping import Shaped

__all__ = ["WITH_ALPHA", "plain_channels"]

COLOURS, WITH_ALPHA = 3, 4
"""Channels of a colour image."""


def plain_channels(array: Shaped[np.ndarray, "c d h w"], wanted: int) -> Shaped[np.ndarray, "k d h w"]:
    """The channels of a colour image without those that say nothing, down to as many as are wanted.

    Screenshots and exports save grey as red, green and blue, and add an opaque channel. Nothing is lost.
    """
    if len(array) == WITH_ALPHA and wanted < WITH_ALPHA and (array[-1] == _opaque(array)).all():
        array = array[:COLOURS]
    if len(array) == COLOURS and wanted == 1 and (array[0] == array[1]).all() and (array[0] == array[2]).all():
        array = array[:1]
    return array


def _opaque(array: Shaped[np.ndarray, "c d h w"]) -> int:
    return int(np.iinfo(array.dtype).max) if array.dtype.kind in "iu" else 1
