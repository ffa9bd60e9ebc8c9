"""Have a network run on the kernels: its layers are exchanged, weights and their names stay."""

import itertools
from typing import cast

from torch import nn

from jcl.kernels.layers import Chain, Convolution, Normalisation, Pooling
from jcl.kernels.library import KernelError, load_library
from jcl.norms import SharedBatchNorm, converted

__all__ = ["have_kernels", "use_kernels"]


def have_kernels() -> bool:
    """Whether the kernels can be had on this machine; the first call may compile them."""
    try:
        load_library()
    except KernelError:
        return False
    return True


def use_kernels(network: nn.Module) -> None:
    """Exchange the layers that the kernels can compute: 3 x 3 convolutions, batch normalisations, 2 x 2 pooling.

    A ReLU or leaky ReLU right behind one in an `nn.Sequential` becomes part of it, and a sequence of nothing but
    convolutions with their normalisations a chain, in which less goes through memory. What a layer cannot do with the
    kernels (bfloat16, a GPU, few pixels) it does as before. Do this after the last change of the network's layers, and
    save its `state_dict`, whose names are the old ones, not the network.

    Raises:
        KernelError: the kernels cannot be compiled here.
    """
    lanes: int = load_library().jcl_lanes()
    for part in list(network.modules()):
        for name, child in list(part.named_children()):
            if type(child) is nn.Conv2d and _is_plain(child) and _goes_by(child, lanes):
                child.__class__ = Convolution
            elif type(child) is nn.MaxPool2d and _halves(child):
                child.__class__ = Pooling
            elif type(child) in (nn.BatchNorm2d, SharedBatchNorm) and _is_usual(child, lanes):
                setattr(part, name, converted(cast("nn.BatchNorm2d", child), Normalisation))
        if isinstance(part, nn.Sequential) and type(part).forward is nn.Sequential.forward:
            _join(part)
            if _is_chain(part):
                part.__class__ = Chain


def _halves(layer: nn.MaxPool2d) -> bool:
    pairs = [_pair(value) for value in (layer.kernel_size, layer.stride, layer.padding, layer.dilation)]
    return pairs == [(2, 2), (2, 2), (0, 0), (1, 1)] and not (layer.ceil_mode or layer.return_indices)


def _pair(value: int | tuple[int, ...]) -> tuple[int, ...]:
    return (value, value) if isinstance(value, int) else tuple(value)


def _is_plain(layer: nn.Module) -> bool:
    """Whether it is a 3 x 3 convolution that keeps height and width."""
    if not isinstance(layer, nn.Conv2d):
        return False
    kind = (layer.kernel_size, layer.stride, layer.dilation, layer.groups, layer.padding_mode)
    return kind == ((3, 3), (1, 1), (1, 1), 1, "zeros") and layer.padding in ((1, 1), "same")


def _goes_by(layer: nn.Conv2d, lanes: int) -> bool:
    return layer.in_channels % lanes == 0 and layer.out_channels % lanes == 0


def _is_usual(layer: nn.Module, lanes: int) -> bool:
    norm = cast("nn.BatchNorm2d", layer)
    return norm.affine and norm.num_features % lanes == 0


def _join(part: nn.Sequential) -> None:
    """Let a layer do the activation behind it, too."""
    layers = [number for number, layer in enumerate(part) if not isinstance(layer, nn.Identity)]
    for number, after in itertools.pairwise(layers):
        layer, activation = part[number], part[after]
        if isinstance(layer, (Convolution, Normalisation)) and isinstance(activation, (nn.ReLU, nn.LeakyReLU)):
            layer.slope = activation.negative_slope if isinstance(activation, nn.LeakyReLU) else 0.0
            part[after] = nn.Identity()


def _is_chain(part: nn.Sequential) -> bool:
    """Whether it is convolutions with their normalisations right behind them, and nothing more than a sequence."""
    layers = [layer for layer in part if not isinstance(layer, nn.Identity)]
    pairs = list(zip(layers[::2], layers[1::2], strict=False))
    fitting = all(
        _is_plain(layer) and getattr(layer, "slope", 1) == 1 and isinstance(norm, Normalisation)
        for layer, norm in pairs
    )
    own = [name for name in vars(type(part)) if not name.startswith("__")]
    bare = type(part) is nn.Sequential or (nn.Sequential in type(part).__bases__ and not own)
    return bool(pairs) and len(layers) % 2 == 0 and fitting and bare
