"""Several runs as one: which may be averaged, and the mean of their scores on a scan's own grid."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import Tensor, nn

from jcl.data.alike import meaning_of
from jcl.data.block_plan import block_of
from jcl.data.context import context_of
from jcl.data.resampling import prepare_parts
from jcl.data.volumes import Volume
from jcl.errors import DataError, UsageError
from jcl.inference.predictor import ready_to_segment, stream_scores
from jcl.inference.turned import LEAST, Turned, views_of

__all__ = [
    "Group",
    "Mean",
    "Member",
    "check_agree",
    "check_prepared_alike",
    "load_members",
    "make_groups",
    "parts_of",
    "prepared_alike",
    "slice_scores",
]

Load = Callable[[Path], tuple[nn.Module, dict[str, Any]]]
"""What reads the network of a run and what is recorded with it."""


@dataclass(frozen=True, kw_only=True)
class Member:
    """A run whose scores are averaged with those of others: its folder, its network, and what is recorded of it."""

    run: Path
    network: nn.Module
    info: dict[str, Any]

    @property
    def preparation(self) -> dict[str, Any]:
        """How its slices are prepared."""
        return self.info["recipe"]


@dataclass(frozen=True, kw_only=True)
class Group:
    """Runs whose slices are prepared alike, as one network.

    `share` is that of its runs among all.
    """

    network: nn.Module
    preparation: Mapping[str, Any]
    share: float


class Mean(nn.Module):
    """Networks of the same classes; the logits are the logarithms of the mean scores.

    Args:
        networks: each images (b, c, h, w) to logits (b, k, h, w).
    """

    def __init__(self, networks: Iterable[nn.Module]) -> None:
        super().__init__()
        self.networks = nn.ModuleList(networks)

    def forward(self, images: Float[Tensor, "b c *space"]) -> Float[Tensor, "b k *space"]:
        """Logarithms of the mean scores."""
        scores = [network(images).float().softmax(1) for network in self.networks]
        return (torch.stack(scores).sum(0) / len(scores)).clamp_min(LEAST).log()


def load_members(runs: Sequence[Path], load: Load) -> list[Member]:
    """The runs, which have to agree.

    Raises:
        UsageError: none is given, or one twice.
        DataError: one cannot be read, or two do not agree.
    """
    if not runs:
        raise UsageError("run: at least one run folder is needed")
    for one, other in combinations(runs, 2):
        if one.resolve() == other.resolve():
            raise UsageError(f"{other}: given twice; a run counts once in the mean")
    members = [Member(run=run, network=network, info=info) for run in runs for network, info in (load(run),)]
    check_agree(members)
    return members


def check_agree(members: Sequence[Member]) -> None:
    """See that all runs have the same classes, label values and channels.

    Raises:
        DataError: two have not; the message names them.
    """
    first = members[0]
    for other in members[1:]:
        for what, of in _COMPARED.items():
            ours, theirs = of(first.preparation), of(other.preparation)
            if ours != theirs:
                raise DataError(
                    f"{first.run} and {other.run} have not the same {what} ({ours} and {theirs}); "
                    "give runs that segment the same"
                )


def check_prepared_alike(members: Sequence[Member]) -> None:
    """See that all runs take the same slices of a scan.

    Raises:
        DataError: two do not; the message names them.
    """
    for other in members[1:]:
        seen = [context_of(each.preparation) for each in (members[0], other)]
        if seen[0] != seen[1]:
            raise DataError(
                f"{members[0].run} and {other.run} see slices with other neighbours (context {seen[0]} and {seen[1]}); "
                "`jcl predict` averages them"
            )
        if not prepared_alike(other.preparation, members[0].preparation):
            raise DataError(
                f"{members[0].run} and {other.run} prepare their slices differently, so that they have no store in "
                "common; `jcl predict` averages them on the grid of each scan"
            )


def prepared_alike(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two preparations make the same slices of a scan."""
    return _slices(one) == _slices(other)


def _classes(preparation: Mapping[str, Any]) -> list[str]:
    return list(preparation["classes"])


def _values(preparation: Mapping[str, Any]) -> list[int]:
    return list(preparation["class_values"])


def _channels(preparation: Mapping[str, Any]) -> int:
    return int(preparation["channels"])


_COMPARED: dict[str, Callable[[Mapping[str, Any]], Any]] = {
    "classes": _classes,
    "label values": _values,
    "number of channels": _channels,
}


def make_groups(
    members: Sequence[Member], device: torch.device, precision: torch.dtype, *, tta: bool = False, mirror: bool = False
) -> list[Group]:
    """The runs, ready to segment, together as far as their slices are prepared alike.

    A single run without other views is its network itself.

    Args:
        members: runs that agree; their networks are changed.
        device: where they compute.
        precision: see `jcl.inference.predictor.ready_to_segment`.
        tta, mirror: see `jcl.inference.turned.views_of`.
    """
    views = views_of(tta=tta, mirror=mirror)
    alike: list[list[Member]] = []
    for member in members:
        ready_to_segment(member.network, device, precision)
        same = (some for some in alike if prepared_alike(some[0].preparation, member.preparation))
        if (found := next(same, None)) is None:
            alike.append([member])
        else:
            found.append(member)
    groups: list[Group] = []
    for some in alike:
        network = some[0].network if len(some) == 1 else Mean(each.network for each in some)
        network = Turned(network, views) if len(views) > 1 else network
        share = len(some) / len(members)
        groups.append(Group(network=network.eval(), preparation=some[0].preparation, share=share))
    return groups


def _slices(preparation: Mapping[str, Any]) -> tuple[Any, ...]:
    """All that decides which slices a network sees of a scan."""
    meaning = tuple(meaning_of(preparation).items())
    return (*meaning, context_of(preparation), *preparation["padded"], block_of(preparation))


def parts_of(groups: Sequence[Group], volume: Volume, slices: int) -> list[Iterator[Float32[np.ndarray, "k s H W"]]]:
    """For each group the slices of a volume as its networks take them, some at a time.

    The volume's own array is overwritten; a second preparation needs a copy of it. Where a network sees blocks, all
    slices are one part.
    """
    copies = [replace(volume, array=volume.array.copy()) for _ in groups[1:]]
    pairs = zip(groups, [*copies, volume], strict=True)
    return [prepare_parts(each, group.preparation, slices) for group, each in pairs]


def slice_scores(
    groups: Sequence[Group],
    parts: Sequence[Iterator[Float32[np.ndarray, "k s H W"]]],
    shape: tuple[int, int, int],
    *,
    spacing: float,
    batch_size: int,
    device: torch.device,
    precision: torch.dtype,
) -> Iterator[Float[Tensor, "k h w"]]:
    """Mean score of each class for one slice after the other, on the volume's own grid.

    Args:
        groups: whose scores are averaged.
        parts: see `parts_of`.
        shape: slices, rows and columns of the volume's own grid (turned).
        spacing: mm between these slices.
        batch_size: slices at a time.
        device: where the networks are.
        precision: bfloat16 or float32.

    Raises:
        NotFiniteError: what a network computes is not finite.
    """
    how: dict[str, Any] = {"batch_size": batch_size, "device": device, "precision": precision}

    found = [
        stream_scores(group.network, some, group.preparation, shape, spacing=spacing, **how)
        for group, some in zip(groups, parts, strict=True)
    ]
    for each in zip(*found, strict=True):
        if len(each) == 1:
            yield each[0][0]
        else:
            yield torch.stack([group.share * one[0] for group, one in zip(groups, each, strict=True)]).sum(0)
