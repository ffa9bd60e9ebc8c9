"""Colours: channels that say nothing are left out, and where grey is asked for brightness takes their place."""

import numpy as np
from jaxtyping import Float32, Shaped

__all__ = ["COLOURS", "WITH_ALPHA", "brightness", "plain_channels"]

COLOURS, WITH_ALPHA = 3, 4
"""Channels of a colour image."""

LUMA = (0.299, 0.587, 0.114)
"""Of red, green and blue (ITU-R BT.601), as Pillow's and OpenCV's grey."""


def plain_channels(array: Shaped[np.ndarray, "c d h w"], wanted: int) -> Shaped[np.ndarray, "k d h w"]:
    """The channels of a colour image without those that say nothing, down to as many as are wanted.

    Screenshots and exports save grey as red, green and blue, and add an opaque channel. Nothing is lost.
    """
    if len(array) == WITH_ALPHA and wanted < WITH_ALPHA and (array[-1] == _opaque(array)).all():
        array = array[:COLOURS]
    if len(array) == COLOURS and wanted == 1 and (array[0] == array[1]).all() and (array[0] == array[2]).all():
        array = array[:1]
    return array


def brightness(array: Shaped[np.ndarray, "3 d h w"]) -> Float32[np.ndarray, "1 d h w"]:
    """Of red, green and blue the one value that a grey picture would have, not rounded."""
    return np.tensordot(np.array([LUMA], np.float32), array.astype(np.float32), axes=1)


def _opaque(array: Shaped[np.ndarray, "c d h w"]) -> int:
    return int(np.iinfo(array.dtype).max) if array.dtype.kind in "iu" else 1
