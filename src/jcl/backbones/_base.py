"""What methods and trainings ask of a network, and what U-shaped networks share."""

import math
from abc import ABCMeta
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = [
    "MEMBERS",
    "Backbone",
    "crop_like",
    "dimensions_of",
    "encode_padded",
    "extend",
    "growth",
    "multiples_of",
    "pad_to_multiple",
]

MEMBERS = (
    "in_channels",
    "blocks",
    "stride",
    "feature_channels",
    "encode",
    "decode",
    "decoder_channels",
    "submodule_names",
)
"""What an `nn.Module` needs besides `forward` to count as a backbone, whether it is a subclass or not."""


class Backbone(nn.Module, metaclass=ABCMeta):
    """A segmentation network of an encoder, decoder blocks and a head, which every method can pre-train.

    What is here serves a U-shaped network, whose `encoder` returns the features of all levels and whose `decoder` is a
    list of blocks, each called with what the one before returns and the skip of its level; other networks override it.
    Images may have any size: they are padded with zeros to a multiple of `stride`.

    What is said here of images (b, c, h, w) holds for blocks (b, c, d, h, w) where a network has three `dimensions`; it
    then says with `strides` by how much each level divides each side (see `jcl.backbones.unet3d`).
    """

    dimensions: int = 2
    """Sides of an image: 2, or 3 for blocks."""

    in_channels: int
    """Channels of the images."""

    blocks: int
    """Decoder blocks; each doubles height and width."""

    stride: int
    """Height and width of the input over those of the bottleneck."""

    feature_channels: tuple[int, ...]
    """Channels of each level of `encode`, shallow to deep."""

    @staticmethod
    def first_weights(module: nn.Module) -> None:
        """Draw the first weights of a layer, to be given to `apply`, where a network has others than PyTorch's."""

    def encode(self, x: Float[Tensor, "b c *space"]) -> list[Tensor]:
        """Features, shallow to deep; the last is the bottleneck.

        Level l is (b, feature_channels[l], …) with half the height and width of the one before; the bottleneck is
        (b, feature_channels[-1], H / stride, W / stride), where H and W are h and w, padded.
        """
        return self.get_submodule("encoder")(pad_to_multiple(x, multiples_of(self)))

    def decode(self, features: list[Tensor], blocks: int | None = None) -> Tensor:
        """Output of decoder block number `blocks` (None: the last); nothing of the later ones runs.

        Shape: (b, decoder_channels(k), H 2^k / stride, W 2^k / stride). With 0 it is the bottleneck itself.

        Raises:
            ValueError: the decoder does not have that many blocks.
        """
        *skips, x = features
        for index in range(self._count(blocks)):
            x = self._decode_block(index, x, skips.pop() if skips else None)
        return x

    def decoder_channels(self, blocks: int) -> int:
        """Channels that `decode(features, blocks)` returns."""
        return self.feature_channels[-1 - blocks]

    def submodule_names(self, blocks: int) -> tuple[str, ...]:
        """Names of the submodules that `encode` and `decode(features, blocks)` run, and of nothing else.

        `encode` also runs on a copy of the network that has those of 0 blocks alone.
        """
        return ("encoder", *(f"decoder.{index}" for index in range(blocks)))

    def logits(self, features: list[Tensor], like: Float[Tensor, "b c *space"]) -> Float[Tensor, "b k *space"]:
        """What `forward` makes of the features that `encode(like)` returns, changed or not."""
        return crop_like(self.get_submodule("head")(self.decode(features)), like)

    def forward(self, x: Float[Tensor, "b c *space"]) -> Float[Tensor, "b k *space"]:
        """Logits at the size of the input."""
        return self.logits(self.encode(x), x)

    def _count(self, blocks: int | None) -> int:
        """Number of decoder blocks to run (see `decode`)."""
        count = self.blocks if blocks is None else blocks
        if not 0 <= count <= self.blocks:
            raise ValueError(f"blocks is {count}; this decoder has 0 to {self.blocks}")
        return count

    def _decode_block(self, index: int, x: Tensor, skip: Tensor | None) -> Tensor:
        """Output of decoder block number `index`, from 0; no skip where the levels are used up."""
        return self.get_submodule(f"decoder.{index}")(x, skip)


def dimensions_of(network: nn.Module) -> int:
    """Sides of the images that a network takes: 2, unless it says otherwise."""
    return getattr(network, "dimensions", 2)


def multiples_of(network: Backbone) -> int | tuple[int, ...]:
    """What each side of an image is padded to a multiple of."""
    return network.stride if dimensions_of(network) == 2 else growth(network, network.blocks)


def growth(network: Backbone, blocks: int) -> tuple[int, ...]:
    """How many times as large each side is behind so many decoder blocks as at the bottleneck."""
    strides: Sequence[Sequence[int]] = getattr(network, "strides", ((2, 2),) * network.blocks)
    deepest = strides[len(strides) - blocks :]
    return tuple(math.prod(level[axis] for level in deepest) for axis in range(dimensions_of(network)))


def pad_to_multiple(x: Float[Tensor, "b c *space"], multiple: int | Sequence[int]) -> Float[Tensor, "b c *padded"]:
    """Pad with zeros behind the last pixels to the next multiple, one for all sides or one for each.

    There is no copy where none is needed.
    """
    sides = x.shape[2:]
    each = [multiple] * len(sides) if isinstance(multiple, int) else multiple
    behind = [-side % by for side, by in zip(sides, each, strict=True)]
    return F.pad(x, [value for end in reversed(behind) for value in (0, end)]) if any(behind) else x


def extend(x: Float[Tensor, "b c *space"], sides: Sequence[int]) -> Float[Tensor, "b c *sides"]:
    """Repeat the last pixels of each side until it has so many; a side that has them or more stays."""
    for axis, side in enumerate(sides, start=2):
        missing = side - x.shape[axis]
        if missing > 0:
            last = x.narrow(axis, x.shape[axis] - 1, 1)
            x = torch.cat([x, last.expand(*x.shape[:axis], missing, *x.shape[axis + 1 :])], dim=axis)
    return x


def encode_padded(
    encoder: Callable[[Tensor], list[Tensor]], x: Float[Tensor, "b c *space"], stride: int | Sequence[int]
) -> list[Tensor]:
    """Features of `x`, padded to a multiple of `stride`, from an encoder that normalises each slice by itself.

    Normalising takes more than the one value that the bottleneck has of an image of `stride` x `stride` pixels, so
    such an image is encoded with as much zero padding beside it, which is cut off the features. Blocks may have a
    stride for each side.
    """
    x = pad_to_multiple(x, stride)
    each = (stride,) * (x.ndim - 2) if isinstance(stride, int) else tuple(stride)
    if tuple(x.shape[2:]) != each:
        return encoder(x)
    return [level[..., : level.shape[-1] // 2] for level in encoder(F.pad(x, (0, each[-1])))]


def crop_like(x: Float[Tensor, "b k *padded"], like: Float[Tensor, "b c *space"]) -> Float[Tensor, "b k *space"]:
    """Cut off what `pad_to_multiple` had added to `like`."""
    return x[..., *(slice(side) for side in like.shape[2:])]
