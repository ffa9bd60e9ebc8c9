"""Have a network run on the kernels: its layers stay, and compute in another way."""

from collections.abc import Callable
from functools import partial
from typing import Any, TypeGuard, cast

import torch
from torch import nn

from jcl.distributed.sync_batch_norm import SharedBatchNorm, convert_sync_batchnorm
from jcl.kernels.layers import Link, chain, convolution, max_pooling, normalisation, sequence
from jcl.kernels.library import KernelError, load_library, say_without

__all__ = ["have_kernels", "use_kernels"]


def have_kernels() -> bool:
    """Whether the kernels can be had on this machine; the first call may compile them, or say why it cannot."""
    try:
        load_library()
    except KernelError as error:
        say_without(error)
        return False
    return True


def use_kernels(network: nn.Module) -> None:
    """Replace `forward` of the layers that the kernels can compute: `del layer.forward` undoes it.

    These are 3 x 3 convolutions, batch normalisations and 2 x 2 pooling. A ReLU or leaky ReLU right behind one in an
    `nn.Sequential` is computed with it, and a sequence of nothing but convolutions with their normalisations as a
    chain, in which less goes through memory. What a layer cannot do with the kernels (bfloat16, a GPU, few pixels) it
    does as before. Do this after the last change of the network's layers; their weights and their names stay.

    Raises:
        KernelError: the kernels cannot be compiled here.
    """
    lanes: int = load_library().jcl_lanes()
    convert_sync_batchnorm(network, torch.device("cpu"))  # the kernels normalise over all processes
    for layer in network.modules():  # a sequence comes before its layers
        forward = _forward_of(layer, lanes)
        if forward is not None:
            layer.forward = forward


def _forward_of(layer: nn.Module, lanes: int) -> Callable[..., Any] | None:
    """What is to be its `forward`; None where that stays."""
    if isinstance(layer, nn.Sequential):
        return _forward_of_sequence(layer, lanes)
    if _is_convolution(layer, lanes):
        return partial(convolution, layer)
    if _is_normalisation(layer, lanes):
        return partial(normalisation, layer)
    return partial(max_pooling, lanes) if _halves(layer) else None


def _forward_of_sequence(layers: nn.Sequential, lanes: int) -> Callable[..., Any] | None:
    if type(layers).forward is not nn.Sequential.forward or not _is_untouched(layers):
        return None
    links = _links(layers, lanes)
    pairs = list(zip(links[::2], links[1::2], strict=False))
    if pairs and len(links) % 2 == 0 and all(_is_pair(*pair, lanes) for pair in pairs):
        on_tiles = [_is_convolution(link.layer, lanes) and link.layer.bias is None for link, _ in pairs]
        return partial(chain, pairs, on_tiles)
    return partial(sequence, links) if any(link.activation for link in links) else None


def _links(layers: nn.Sequential, lanes: int) -> list[Link]:
    """The layers, each with the activation behind it that it can compute."""
    links: list[Link] = []
    for layer in layers:
        joins = isinstance(layer, (nn.ReLU, nn.LeakyReLU)) and links and links[-1].activation is None
        if joins and (_is_convolution(links[-1].layer, lanes) or _is_normalisation(links[-1].layer, lanes)):
            links[-1] = Link(links[-1].layer, layer)
        elif not isinstance(layer, nn.Identity):
            links.append(Link(layer))
    return links


def _is_pair(first: Link, second: Link, lanes: int) -> bool:
    """Whether it is a convolution and the normalisation right behind it."""
    return _is_plain(first.layer) and first.activation is None and _is_normalisation(second.layer, lanes)


def _is_untouched(layer: nn.Module) -> bool:
    return "forward" not in vars(layer)


def _is_convolution(layer: nn.Module, lanes: int) -> TypeGuard[nn.Conv2d]:
    """Whether it is one that the kernels take."""
    if type(layer) is not nn.Conv2d or not _is_plain(layer):
        return False
    return layer.in_channels % lanes == 0 and layer.out_channels % lanes == 0 and _is_untouched(layer)


def _is_plain(layer: nn.Module) -> TypeGuard[nn.Conv2d]:
    """Whether it is a 3 x 3 convolution that keeps height and width."""
    if not isinstance(layer, nn.Conv2d):
        return False
    kind = (layer.kernel_size, layer.stride, layer.dilation, layer.groups, layer.padding_mode)
    return kind == ((3, 3), (1, 1), (1, 1), 1, "zeros") and layer.padding in ((1, 1), "same")


def _is_normalisation(layer: nn.Module, lanes: int) -> TypeGuard[nn.BatchNorm2d | SharedBatchNorm]:
    """Whether it is one that the kernels take."""
    if type(layer) not in (nn.BatchNorm2d, SharedBatchNorm):
        return False
    norm = cast("nn.BatchNorm2d", layer)
    return norm.affine and norm.num_features % lanes == 0 and _is_untouched(norm)


def _halves(layer: nn.Module) -> bool:
    """Whether it takes the maxima of 2 x 2 pixels."""
    if type(layer) is not nn.MaxPool2d or not _is_untouched(layer):
        return False
    pairs = [_pair(value) for value in (layer.kernel_size, layer.stride, layer.padding, layer.dilation)]
    return pairs == [(2, 2), (2, 2), (0, 0), (1, 1)] and not (layer.ceil_mode or layer.return_indices)


def _pair(value: int | tuple[int, ...]) -> tuple[int, ...]:
    return (value, value) if isinstance(value, int) else tuple(value)
