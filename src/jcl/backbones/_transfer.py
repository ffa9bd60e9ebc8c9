"""Carry pre-trained weights into a network, and say what fitted."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Generator, Tensor, nn

from jcl.backbones._base import Backbone, dimensions_of
from jcl.backbones._surgery import frozen
from jcl.errors import DataError, UsageError

__all__ = ["ADAPTATIONS", "TransferReport", "pretrained_modules_of", "transfer"]

PREFIXES = ("module.", "_orig_mod.", "network.", "model.", "backbone.")
"""What wrappers (several processes, compilation, training programs, methods) put before names."""

ADAPTATIONS = ("mean", "repeat")
"""Ways to give the first layer another number of channels (see `transfer`)."""


@dataclass(frozen=True, kw_only=True)
class TransferReport:
    """Names of tensors: loaded, adapted to another number of image channels, left as they were, and left aside."""

    loaded: tuple[str, ...]
    adapted: tuple[str, ...]
    adaptation: str
    """How `adapted` were: `mean` or `repeat`."""
    fresh: tuple[str, ...]
    unknown: tuple[str, ...]
    """Given tensors for which the network has no place."""
    share: float
    """Share of the network's parameters, by number of values, that were pre-trained."""

    def __str__(self) -> str:
        """What a person reads: counts, percent, the parts that start fresh, and what was not used."""
        adapted = (
            f", {len(self.adapted)} adapted to the number of channels by {self.adaptation}" if self.adapted else ""
        )
        carried = {above for name in (*self.loaded, *self.adapted) for above in _above(name)}
        parts = sorted({next(above for above in _above(name) if above not in carried) for name in self.fresh})
        fresh = f"; fresh: {', '.join(parts)}" if parts else ""
        unknown = f"; not used: {len(self.unknown)} tensors, {self.unknown[0]} for one" if self.unknown else ""
        return f"{len(self.loaded)} tensors loaded{adapted}, {self.share:.1%} of the parameters{fresh}{unknown}"


@torch.no_grad()
def transfer(
    network: Backbone, weights: Mapping[str, Tensor], parts: Sequence[str], *, adapt: str = "mean"
) -> TransferReport:
    """Load into `network` those `weights` that belong to its submodules `parts`.

    The convolutions that see the image are adapted when only their number of input channels differs. With `mean` each
    new channel gets the mean over the old ones, for channels of another meaning; with `repeat` the old ones are taken
    in turn, for channels that mean the same and some more. Both scale by old over new number, so that the output
    keeps its size. Prefixes of wrappers are taken off.

    Raises:
        UsageError: no such adaptation.
        DataError: nothing fits, a tensor of the parts is missing, has another shape, or is more than the network has,
            so that part of what was learned would be lost without a word. The network is then as it was.
    """
    if adapt not in ADAPTATIONS:
        raise UsageError(f"adapt is {adapt!r}; it is one of {', '.join(ADAPTATIONS)}")
    wanted = network.state_dict()
    chosen = [name for name in wanted if _is_in(name, parts)]
    weights = _without_prefixes(weights, chosen)
    unknown = _unknown(weights, wanted)
    _check_names(weights, chosen, [name for name in unknown if _is_in(name, parts)])
    differing = [name for name in chosen if weights[name].shape != wanted[name].shape]
    if differing:
        _check_shapes(network, weights, wanted, chosen, differing)
    for name in chosen:
        given = weights[name]
        wanted[name].copy_(_with_channels(given, wanted[name].shape[1], adapt) if name in differing else given)
    sizes = {name: parameter.numel() for name, parameter in network.named_parameters()}
    return TransferReport(
        loaded=tuple(name for name in chosen if name not in differing),
        adapted=tuple(differing),
        adaptation=adapt,
        fresh=tuple(name for name in wanted if name not in chosen),
        unknown=tuple(unknown),
        share=sum(size for name, size in sizes.items() if name in chosen) / sum(sizes.values()),
    )


def pretrained_modules_of(network: Backbone, weights: Mapping[str, Tensor]) -> tuple[str, ...]:
    """Names of the submodules that weights of unknown origin are for: the encoder, and as many decoder blocks as occur.

    The head is left out: its classes are those of another task.
    """
    weights = _without_prefixes(weights, list(network.state_dict()))
    for blocks in range(network.blocks, 0, -1):
        added = set(network.submodule_names(blocks)) - set(network.submodule_names(blocks - 1))
        if any(_is_in(name, added) for name in weights):
            return network.submodule_names(blocks)
    return network.submodule_names(0)


def _without_prefixes(weights: Mapping[str, Tensor], chosen: Sequence[str]) -> dict[str, Tensor]:
    """The weights with names as in `chosen`.

    Raises:
        DataError: no name fits, with or without a prefix.
    """
    found = _behind_prefix(weights, set(chosen))
    if not found:
        theirs, ours = (", ".join(list(names)[:2]) or "none at all" for names in (weights, chosen))
        raise DataError(
            "none of the pre-trained weights belong to this network; is it the same backbone? "
            f"Their names are as {theirs}; its are as {ours}"
        )
    return found


def _behind_prefix(weights: Mapping[str, Tensor], chosen: set[str]) -> dict[str, Tensor]:
    """The weights whose names, less some prefixes or with that of an adapted network, are in `chosen`; {} if none."""
    if not weights or weights.keys() & chosen:
        return dict(weights)
    if any(f"module.{name}" in chosen for name in weights):
        return {f"module.{name}": tensor for name, tensor in weights.items()}
    for prefix in PREFIXES:
        inner = {name.removeprefix(prefix): t for name, t in weights.items() if name.startswith(prefix)}
        if found := _behind_prefix(inner, chosen):
            return found
    return {}


def _unknown(weights: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> list[str]:
    """Names of weights that the network lacks, less second names of tensors that it has."""
    known = [tensor for name, tensor in weights.items() if name in wanted]
    return [
        name
        for name, tensor in weights.items()
        if name not in wanted and not any(tensor.shape == t.shape and torch.equal(tensor, t) for t in known)
    ]


def _check_names(weights: Mapping[str, Tensor], chosen: Sequence[str], surplus: Sequence[str]) -> None:
    missing = [name for name in chosen if name not in weights]
    if missing and surplus:
        raise DataError(
            f"the pre-trained weights lack {missing[0]} and have {surplus[0]}; they come from another network, or one "
            "of another depth"
        )
    if missing:
        raise DataError(
            f"the pre-trained weights lack {missing[0]} ({len(missing)} of {len(chosen)} tensors); they come from a "
            "network of less depth or were cut short"
        )
    if surplus:
        raise DataError(
            f"the network has no {surplus[0]}, which is in the pre-trained weights ({len(surplus)} such tensors); they "
            "come from a network of greater depth"
        )


def _check_shapes(
    network: Backbone,
    weights: Mapping[str, Tensor],
    wanted: Mapping[str, Tensor],
    chosen: Sequence[str],
    differing: Sequence[str],
) -> None:
    """Only the layers that see the image may have another shape, and of that only another number of channels."""
    image_layers = _image_layers(network)
    wrong = [n for n in differing if n not in image_layers or not _only_channels(weights[n], wanted[n])]
    if not wrong:
        return
    name = wrong[0]
    given, own = weights[name], wanted[name]
    shapes = (
        f"{name} has shape {tuple(given.shape)} in the pre-trained weights, {tuple(own.shape)} in the network"
        f" ({len(wrong)} of {len(chosen)} tensors differ)"
    )
    if 2 * len(wrong) > len(chosen):
        raise DataError(f"another width: {shapes}; give --width as in the pre-training")
    if _only_channels(given, own):
        raise DataError(f"{shapes}; only the layer that sees the image is adapted to another number of channels")
    raise DataError(f"{shapes}; take the same backbone, width and depth")


def _only_channels(given: Tensor, own: Tensor) -> bool:
    return given.ndim == own.ndim >= 4 and given.shape[0] == own.shape[0] and given.shape[2:] == own.shape[2:]


def _image_layers(network: Backbone) -> set[str]:
    """Names of the weights of all convolutions that get the image itself, padded perhaps."""
    sides = [2 * network.stride] * dimensions_of(network)
    like = next(network.parameters())
    image = torch.rand(1, network.in_channels, *sides, generator=Generator().manual_seed(0)).to(like)
    seen: set[str] = set()
    names = {id(m): name for name, m in network.named_modules() if isinstance(m, (nn.Conv2d, nn.Conv3d))}

    def note(layer: nn.Module, inputs: tuple[Any, ...]) -> None:
        if torch.equal(inputs[0][..., *map(slice, sides)], image):
            seen.add(f"{names[id(layer)]}.weight")

    hooks = [m.register_forward_pre_hook(note) for m in network.modules() if id(m) in names]
    try:
        with frozen(network, [""]):
            network.encode(image)
    finally:
        for hook in hooks:
            hook.remove()
    return seen


def _with_channels(given: Tensor, channels: int, adapt: str) -> Tensor:
    """(o, c, …) to (o, channels, …); see `transfer`."""
    old = given.shape[1]
    if adapt == "mean":
        return given.mean(1, keepdim=True).expand(-1, channels, *given.shape[2:]) * (old / channels)
    return given[:, torch.arange(channels) % old] * (old / channels)


def _is_in(name: str, parts: Iterable[str]) -> bool:
    return any(name.startswith(f"{part}.") for part in parts)


def _above(name: str) -> list[str]:
    """`a.b.c`: a, a.b, a.b.c."""
    steps = name.split(".")
    return [".".join(steps[:length]) for length in range(1, len(steps) + 1)]
