"""Run a segmentation network over the slices of a volume, batch by batch."""

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float32, Integer, UInt8
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

from jcl.backbones import dimensions_of
from jcl.data.block_plan import block_of
from jcl.data.through_plane import slices_through, through_of
from jcl.distributed.device import autocast, channels_last
from jcl.errors import UsageError
from jcl.inference.finite import NotFiniteError, check_finite
from jcl.inference.through import own_scores
from jcl.inference.turned import volume_scores
from jcl.kernels.exchange import have_kernels, use_kernels
from jcl.kernels.library import has_fast_bfloat16

__all__ = [
    "NotFiniteError",
    "class_scores",
    "class_values",
    "fold_batch_norms",
    "pad_centred",
    "part_scores",
    "ready_to_segment",
    "resize_scores",
    "segment_parts",
    "stream_scores",
]

PIXELS = 1 << 18
"""Of the slices that a processor's network takes at a time (one of 512 x 512). More do not make it faster, and a U-Net
of width 32 needs 1 kB for each while it runs."""


def fold_batch_norms(network: nn.Module) -> nn.Module:
    """Fold each batch normalisation into the convolution right before it; for evaluation only.

    In an `nn.Sequential` that is, whose order is known. The network is changed and returned; in evaluation mode it
    computes the same as before but for rounding.
    """
    for part in network.modules():
        if isinstance(part, nn.Sequential) and type(part).forward is nn.Sequential.forward:
            for number, (first, second) in enumerate(itertools.pairwise(part)):
                if isinstance(first, nn.Conv2d | nn.Conv3d) and isinstance(second, nn.BatchNorm2d | nn.BatchNorm3d):
                    part[number], part[number + 1] = fuse_conv_bn_eval(first, second), nn.Identity()
    return network


def ready_to_segment(network: nn.Module, device: torch.device, precision: torch.dtype) -> nn.Module:
    """Bring a network in evaluation mode to where and how it computes fastest; it is changed and returned.

    On a CPU that is on kernels (see `jcl.kernels`), if they can be had here; in bfloat16 where the
    processor has tiles for it.
    """
    layout = channels_last(dimensions_of(network))
    fold_batch_norms(network).to(device, memory_format=layout)  # pyright: ignore[reportCallIssue]
    if device.type == "cpu" and have_kernels() and (precision == torch.float32 or has_fast_bfloat16()):
        use_kernels(network)
    return network


def class_scores(
    network: nn.Module,
    images: Float32[np.ndarray, "d c h w"],
    *,
    batch_size: int,
    device: torch.device,
    precision: torch.dtype,
) -> Iterator[Float[Tensor, "b k h w"]]:
    """Softmax over the classes for each slice, in order, some slices at a time and never all at once.

    Args:
        network: a backbone in evaluation mode, on `device`.
        images: slices as the store has them.
        batch_size: slices at a time, at most; bounds the memory. A processor takes fewer where they are large.
        device: where the network is.
        precision: bfloat16 or float32, see `jcl.distributed.device`.

    Raises:
        NotFiniteError: what the network computes is not finite.
        UsageError: a batch without a slice is asked for.
    """
    if batch_size < 1:
        raise UsageError(f"batch_size is {batch_size}; at least 1 is needed")
    if device.type == "cpu":
        batch_size = min(batch_size, max(1, PIXELS // (images.shape[2] * images.shape[3])))
    for start in range(0, len(images), batch_size):
        batch = torch.from_numpy(np.ascontiguousarray(images[start : start + batch_size])).to(device)
        with torch.inference_mode(), autocast(device, precision):
            logits = network(batch.contiguous(memory_format=torch.channels_last))
        check_finite(logits)
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


def part_scores(
    network: nn.Module,
    part: Float32[np.ndarray, "c s h w"],
    preparation: Mapping[str, Any],
    *,
    batch_size: int,
    device: torch.device,
    precision: torch.dtype,
) -> Iterator[Float[Tensor, "1 k h w"]]:
    """Softmax over the classes for each of some prepared slices, in order, without padding; arguments as above.

    A network that sees blocks is given all slices of a volume as the only part.
    """
    if block := block_of(preparation):
        for scores in volume_scores(network, part, block, batch_size=batch_size, device=device, precision=precision):
            yield scores[None]
        return
    framed, content = pad_centred(part, (preparation["padded"][0], preparation["padded"][1]))
    images = framed.swapaxes(0, 1)
    for scores in class_scores(network, images, batch_size=batch_size, device=device, precision=precision):
        yield from scores[:, :, *content].split(1)


def stream_scores(
    network: nn.Module,
    parts: Iterable[Float32[np.ndarray, "c s h w"]],
    preparation: Mapping[str, Any],
    shape: tuple[int, int, int],
    *,
    spacing: float,
    batch_size: int,
    device: torch.device,
    precision: torch.dtype,
) -> Iterator[Float[Tensor, "1 k H W"]]:
    """Softmax over the classes for each slice of a volume's own grid, in order, from its prepared slices in parts.

    Args:
        network: see `part_scores`, as all that is not named here.
        parts: see `jcl.data.resampling.prepare_parts`.
        preparation: how they were prepared.
        shape: slices, height and width of the volume's own grid (turned).
        spacing: mm between these slices.
        batch_size: slices at a time.
        device: where the network is.
        precision: bfloat16 or float32.
    """
    how: dict[str, Any] = {"batch_size": batch_size, "device": device, "precision": precision}
    prepared = slices_through(shape[0], spacing, through_of(preparation))
    each = (own for part in parts for own in part_scores(network, part, preparation, **how))
    for own in own_scores(each, prepared, shape[0]):
        yield resize_scores(own, shape[1:])


def resize_scores(scores: Float[Tensor, "b k h w"], shape: tuple[int, int]) -> Float[Tensor, "b k H W"]:
    """Scores on another in-plane grid over the same area, bilinear, with anti-aliasing where it is coarser."""
    if scores.shape[2:] == torch.Size(shape):
        return scores
    if scores.device.type == "mps":  # which has no anti-aliasing
        scores = scores.cpu()
    return F.interpolate(scores, size=shape, mode="bilinear", align_corners=False, antialias=True)


def segment_parts(
    network: nn.Module,
    parts: Iterable[Float32[np.ndarray, "c s h w"]],
    preparation: Mapping[str, Any],
    shape: tuple[int, int, int],
    *,
    spacing: float,
    batch_size: int,
    device: torch.device,
    precision: torch.dtype,
    within: Callable[[float], None] = lambda share: None,
) -> UInt8[np.ndarray, "D H W"]:
    """Class of each voxel of a volume, on its own grid (turned), from its prepared slices in parts.

    Scores are brought back to the volume's grid before the winner is taken, which keeps borders smooth. What is in
    memory for the whole volume is one label a voxel, and what `parts` keeps.

    Args:
        network: a backbone in evaluation mode, on `device`.
        parts: see `jcl.data.resampling.prepare_parts`.
        preparation: how they were prepared.
        shape: slices, height and width of the volume's own grid.
        spacing: mm between these slices.
        batch_size: slices at a time; bounds the memory.
        device: where the network is.
        precision: bfloat16 or float32, see `jcl.distributed.device`.
        within: called now and then with the share that is done.
    """
    classes = np.empty(shape, np.uint8)
    how: dict[str, Any] = {"batch_size": batch_size, "device": device, "precision": precision}
    for number, own in enumerate(stream_scores(network, parts, preparation, shape, spacing=spacing, **how)):
        classes[number] = own.argmax(1)[0].to(torch.uint8).cpu().numpy()
        within((number + 1) / len(classes))
    return classes


def class_values(preparation: Mapping[str, Any]) -> Integer[np.ndarray, " k"]:
    """The value of each class in the data set's label files, as the smallest type that holds them all."""
    values = np.array([0, *preparation["class_values"]])
    return values.astype(np.result_type(np.min_scalar_type(values.min()), np.min_scalar_type(values.max())))
