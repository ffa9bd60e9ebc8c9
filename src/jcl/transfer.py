"""Carry pre-trained weights into a network, and say what fitted."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from jcl.errors import DataError

PREFIXES = ("module.", "_orig_mod.")
"""What wrappers (several processes, compilation) put before names."""


@dataclass(frozen=True, kw_only=True)
class TransferReport:
    """Names of tensors: loaded, adapted to another number of input channels, and left as they were."""

    loaded: tuple[str, ...]
    adapted: tuple[str, ...]
    fresh: tuple[str, ...]
    share: float
    """Share of the network's parameters, by number of values, that were pre-trained."""

    def __str__(self) -> str:
        """What a person reads: counts, percent, and the parts that start fresh."""
        parts = sorted(
            {".".join(name.split(".")[:2]) if name.startswith("decoder") else name.split(".")[0] for name in self.fresh}
        )
        adapted = f", {len(self.adapted)} adapted to the number of channels" if self.adapted else ""
        fresh = f"; fresh: {', '.join(parts)}" if parts else ""
        return f"{len(self.loaded)} tensors loaded{adapted}, {self.share:.1%} of the parameters{fresh}"


def transfer(network: nn.Module, weights: Mapping[str, Tensor], parts: Sequence[str]) -> TransferReport:
    """Load into `network` those `weights` that belong to its submodules `parts`.

    The first convolution is adapted when only its number of input channels differs: each new channel gets
    the mean over the old ones, scaled so that the layer's output keeps its size.

    Raises:
        DataError: a tensor of the parts is missing or has another shape, so that part of what was learned
            would be lost without a word; or nothing is there to load.
    """
    weights = {_bare(name): tensor for name, tensor in weights.items()}
    wanted = network.state_dict()
    chosen = [name for name in wanted if any(name.startswith(f"{part}.") for part in parts)]
    if not any(name in weights for name in chosen):
        raise DataError("none of the pre-trained weights belong to this network; is it the same backbone?")
    loaded: list[str] = []
    adapted: list[str] = []
    for name in chosen:
        if name not in weights:
            raise DataError(f"the pre-trained weights lack {name}; they come from another network or were cut short")
        given, own = weights[name], wanted[name]
        if given.shape == own.shape:
            own.copy_(given)
            loaded.append(name)
        elif (
            own.ndim == given.ndim == 4
            and own.shape[0] == given.shape[0]
            and own.shape[2:] == given.shape[2:]
            and not adapted
        ):
            own.copy_(given.mean(1, keepdim=True).expand_as(own) * (given.shape[1] / own.shape[1]))
            adapted.append(name)
        else:
            raise DataError(
                f"{name} has shape {tuple(given.shape)} in the pre-trained weights, {tuple(own.shape)} in the network; "
                "take the same backbone, width and depth"
            )
    own_names = [name for name, _ in network.named_parameters()]
    sizes = {name: wanted[name].numel() for name in own_names}
    carried = set(loaded) | set(adapted)
    return TransferReport(
        loaded=tuple(loaded),
        adapted=tuple(adapted),
        fresh=tuple(name for name in wanted if name not in carried),
        share=sum(size for name, size in sizes.items() if name in carried) / sum(sizes.values()),
    )


def _bare(name: str) -> str:
    for prefix in PREFIXES:
        name = name.removeprefix(prefix)
    return name
