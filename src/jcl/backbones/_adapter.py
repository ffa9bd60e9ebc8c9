"""Any network with an encoder and a decoder of named parts as a backbone."""

import difflib
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import chain
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from jcl.backbones._base import Backbone, crop_like, encode_padded
from jcl.backbones._staged import Layout, measure, run_decoder_block, run_encoder
from jcl.errors import UsageError

__all__ = ["Adapted", "DecoderBlockSpec", "adapt", "unwrap"]

DecoderBlockSpec = str | tuple[str | Callable[..., Tensor], *tuple[str, ...]]
"""A name, a pair of names, or a function and names (see `adapt`)."""


class Adapted(Backbone):
    """A backbone (see `jcl.backbones.Backbone`) made by `adapt`; the user's network is its only submodule, `module`.

    Names of weights are those of the user's network behind `module.`; of a tensor that has several names there, the
    first. Any image size is taken: it is padded with zeros to a multiple of `stride`, and `forward` crops its output
    back.
    """

    def __init__(self, module: nn.Module, layout: Layout, in_channels: int) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.blocks = len(layout.decoder)
        self.layout = layout
        sizes = measure(module, layout, in_channels)
        self.stride, self.feature_channels, self.block_channels = sizes.stride, sizes.encoder, sizes.decoder
        self.module = module
        self.register_state_dict_post_hook(_drop_second_names)
        self.register_load_state_dict_pre_hook(_fill_second_names)

    def encode(self, x: Float[Tensor, "b c h w"]) -> list[Tensor]:
        """Output of every encoder level, shallow to deep (see `encode_padded`)."""
        return encode_padded(partial(run_encoder, self.module, self.layout), x, self.stride)

    def decoder_channels(self, blocks: int) -> int:
        """As the dry run found them."""
        return (self.feature_channels[-1], *self.block_channels)[blocks]

    def submodule_names(self, blocks: int) -> tuple[str, ...]:
        """Those that the layout names."""
        decoder = (name for _, names in self.layout.decoder[:blocks] for name in names)
        return tuple(f"module.{name}" for name in (*self.layout.encoder, *decoder))

    def logits(self, features: list[Tensor], like: Float[Tensor, "b c h w"]) -> Float[Tensor, "b k h w"]:
        """By the head that the layout names."""
        head = self.module.get_submodule(self.layout.head)
        return crop_like(head(self.decode(features)), like)

    def _decode_block(self, index: int, x: Tensor, skip: Tensor | None) -> Tensor:
        assert skip is not None
        return run_decoder_block(self.module, self.layout, index, x, skip)


def adapt(
    module: nn.Module,
    *,
    encoder: Sequence[str],
    decoder: Sequence[DecoderBlockSpec],
    head: str,
    in_channels: int | None = None,
) -> Adapted:
    """Make a network of the user's own a backbone, which every method can pre-train.

    Channels, stride and the order of the parts are found by running the network once on a small image; the parts
    have to give what the network itself gives.

    Args:
        module: takes images (b, c, h, w) and returns logits (b, k, h, w), or a tuple or list that begins with them.
        encoder: names of submodules, shallow to deep. Each is called with the output of the one before; each but the
            first halves height and width. The last is the bottleneck.
        decoder: one block for each of the encoder's levels but the last, deep to shallow; each doubles height and
            width. A name is called as `block(x, skip)`. A pair of names is `second(cat([first(x), skip]))`. A function
            with names is called as `function(*submodules, x, skip)`; it has to be one of a Python module, not a lambda,
            if the network is to be copied to another process.
        head: name of what turns the last block's output into logits.
        in_channels: channels of the images (None: those of the first convolution in the first encoder level).

    Raises:
        UsageError: the parts do not fit: no such submodule, not run by the network, in another order, of the wrong
            size, or not all that the network computes.

    Examples:
        >>> from jcl.backbones.plain_conv_unet import PlainConvUNet
        >>> net = adapt(
        ...     PlainConvUNet(width=4),
        ...     encoder=[f"encoder.stages.{n}" for n in range(5)],
        ...     decoder=[(f"decoder.transpconvs.{n}", f"decoder.stages.{n}") for n in range(4)],
        ...     head="decoder.seg_layers.3",
        ... )
        >>> net.stride, net.feature_channels
        (16, (4, 8, 16, 32, 64))
    """
    known = {id(submodule): name for name, submodule in module.named_modules()}

    def first_name(name: str) -> str:
        return known[id(_submodule(module, name))]

    layout = Layout(
        encoder=tuple(map(first_name, encoder)),
        decoder=tuple((call, tuple(map(first_name, names))) for call, names in map(_call_and_names, decoder)),
        head=first_name(head),
    )
    if len(layout.decoder) != len(layout.encoder) - 1 or not layout.decoder:
        raise UsageError(
            f"{len(layout.encoder)} encoder levels and {len(layout.decoder)} decoder blocks; the decoder needs one for "
            "each of the encoder's but the last"
        )
    return Adapted(module, layout, in_channels or _image_channels(module, layout))


def unwrap(network: nn.Module) -> nn.Module:
    """The module that was given to `adapt`, with the weights as they are now.

    Raises:
        UsageError: `network` was not made by `adapt`.
    """
    if not isinstance(network, Adapted):
        raise UsageError(f"{type(network).__name__} was not made by jcl.backbones.adapt, so that nothing is in it")
    return network.module


def _call_and_names(block: DecoderBlockSpec) -> tuple[Callable[..., Tensor], tuple[str, ...]]:
    match block:
        case str(name):
            return _call, (name,)
        case (str(up), str(units)):
            return _up_and_join, (up, units)
        case (call, *names) if callable(call) and names:
            return call, tuple(names)
        case _:
            raise UsageError(f"decoder block {block!r}: a name, a pair of names, or a function and names are needed")


def _call(block: nn.Module, x: Tensor, skip: Tensor) -> Tensor:
    return block(x, skip)


def _up_and_join(up: nn.Module, units: nn.Module, x: Tensor, skip: Tensor) -> Tensor:
    return units(torch.cat([up(x), skip], dim=1))


def _submodule(module: nn.Module, name: str) -> nn.Module:
    try:
        return module.get_submodule(name)
    except AttributeError as error:
        names = [each for each, _ in module.named_modules() if each]
        close = difflib.get_close_matches(name, names) or [each for each, _ in module.named_children()]
        raise UsageError(f"{type(module).__name__} has no submodule {name!r}; it has: {', '.join(close)}") from error


def _image_channels(module: nn.Module, layout: Layout) -> int:
    for layer in module.get_submodule(layout.encoder[0]).modules():
        if isinstance(layer, nn.Conv2d):
            return layer.in_channels
    raise UsageError(f"{layout.encoder[0]} has no two-dimensional convolution; give in_channels")


def _second_names(network: nn.Module) -> Iterator[tuple[str, str]]:
    """Further names of tensors that have several, each with the first."""
    first: dict[int, str] = {}
    tensors = chain(network.named_parameters(remove_duplicate=False), network.named_buffers(remove_duplicate=False))
    for name, tensor in tensors:
        if id(tensor) in first:
            yield name, first[id(tensor)]
        first.setdefault(id(tensor), name)


def _drop_second_names(network: nn.Module, state: dict[str, Any], prefix: str, metadata: Any) -> None:
    """Leave each tensor in the state once: safetensors refuses to write one under two names."""
    for name, _ in _second_names(network):
        state.pop(prefix + name, None)


def _fill_second_names(network: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    """Let a state without second names be loaded strictly."""
    for name, first in _second_names(network):
        if prefix + first in state:
            state.setdefault(prefix + name, state[prefix + first])
