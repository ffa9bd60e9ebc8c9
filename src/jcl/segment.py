"""Run a segmentation network over the slices of a volume, batch by batch."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float32, Integer, UInt8
from torch import Tensor, nn
from torch.nn import functional as F

from jcl.data.resampling import prepare_volume
from jcl.data.volumes import Volume
from jcl.device import autocast
from jcl.errors import UsageError


def class_scores(
    network: nn.Module,
    images: Float32[np.ndarray, "d c h w"],
    *,
    batch_size: int,
    device: torch.device,
    precision: torch.dtype,
) -> Iterator[Float[Tensor, "b k h w"]]:
    """Softmax over the classes for each slice, in order, `batch_size` slices at a time and never all at once.

    Args:
        network: a backbone in evaluation mode, on `device`.
        images: slices as the store has them.
        batch_size: slices at a time; bounds the memory.
        device: where the network is.
        precision: bfloat16 or float32, see `jcl.device`.

    Raises:
        UsageError: a batch without a slice is asked for.
    """
    if batch_size < 1:
        raise UsageError(f"batch_size is {batch_size}; at least 1 is needed")
    for start in range(0, len(images), batch_size):
        batch = torch.from_numpy(np.ascontiguousarray(images[start : start + batch_size])).to(device)
        with torch.inference_mode(), autocast(device, precision):
            logits = network(batch.contiguous(memory_format=torch.channels_last))
        yield logits.float().softmax(1)


def pad_centred(
    images: Float32[np.ndarray, "c d h w"], size: tuple[int, int]
) -> tuple[Float32[np.ndarray, "c d H W"], tuple[slice, slice]]:
    """Pad slices with zeros as the store does, so that a network sees what it was trained on.

    Slices larger than `size` stay as they are. Also returns the rows and columns that hold the image.
    """
    height, width = images.shape[2:]
    rows, columns = max(size[0], height), max(size[1], width)
    top, left = (rows - height) // 2, (columns - width) // 2
    around = ((0, 0), (0, 0), (top, rows - height - top), (left, columns - width - left))
    return np.pad(images, around), (slice(top, top + height), slice(left, left + width))


def resize_scores(scores: Float[Tensor, "b k h w"], shape: tuple[int, int]) -> Float[Tensor, "b k H W"]:
    """Scores on another in-plane grid over the same area, bilinear, with anti-aliasing where it is coarser."""
    if scores.shape[2:] == torch.Size(shape):
        return scores
    return F.interpolate(scores, size=shape, mode="bilinear", align_corners=False, antialias=True)


def segment_volume(
    network: nn.Module,
    volume: Volume,
    recipe: Mapping[str, Any],
    *,
    batch_size: int,
    device: torch.device,
    precision: torch.dtype,
) -> UInt8[np.ndarray, "d h w"]:
    """Class of each voxel of a volume, which is prepared by the recipe, on its own grid (turned).

    Scores are brought back to the volume's grid before the winner is taken, which keeps borders smooth. What is in
    memory for the whole volume is the prepared image and one label a voxel; padding and scores are a batch's only.

    Args:
        network: a backbone in evaluation mode, on `device`.
        batch_size: slices at a time; bounds the memory.
    """
    image, _ = prepare_volume(volume, recipe)
    classes = np.empty(volume.geometry.shape, np.uint8)
    for start in range(0, len(classes), max(1, batch_size)):
        part = image[:, start : start + batch_size]
        padded, content = pad_centred(part, (recipe["padded"][0], recipe["padded"][1]))
        (scores,) = class_scores(
            network, padded.swapaxes(0, 1), batch_size=batch_size, device=device, precision=precision
        )
        for number, own in enumerate(scores[:, :, *content].split(1), start=start):
            classes[number] = resize_scores(own, volume.geometry.shape[1:]).argmax(1)[0].cpu().numpy()
    return classes


def class_values(recipe: Mapping[str, Any]) -> Integer[np.ndarray, " k"]:
    """The value of each class in the data set's label files, as the smallest type that holds them all."""
    values = np.array([0, *recipe["class_values"]])
    return values.astype(np.result_type(np.min_scalar_type(values.min()), np.min_scalar_type(values.max())))
