"""A training on blocks: which it sees, how its network is planned by them, and what is not offered for them yet."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from jcl import backbones
from jcl.config import TrainingConfig
from jcl.data.block_plan import Block, block_of, check_block, median_spacing, plan_strides
from jcl.data.store import Store
from jcl.errors import UsageError
from jcl.files import read_json

__all__ = [
    "FOREGROUND",
    "block_taken",
    "check_offered",
    "refuse_blocks",
    "sees_blocks",
    "strides_for",
]

FOREGROUND = 1 / 3
"""Of a batch of blocks, drawn around structures: nnU-Net's share."""


def sees_blocks(info: Mapping[str, Any]) -> bool:
    """Whether the network of a run, by its `run.json`, sees blocks."""
    settings = cast("dict[str, Any]", info.get("settings") or {})
    return settings.get("block") is not None or block_of(info.get("recipe") or {}) is not None


def refuse_blocks(info: Mapping[str, Any], run: Path, what: str) -> None:
    """Raises UsageError where the network of a run sees blocks, for what is not offered for these yet."""
    if sees_blocks(info):
        raise UsageError(f"{run}: {what} is not offered in three dimensions yet")


def block_taken(network: str, asked: Block | None, init: Path | None = None) -> Block | None:
    """The block that a training sees: as asked, or as the run has it that it starts from; None for slices.

    Args:
        network: name of the backbone.
        asked: by --block.
        init: `run.json` of the run that it starts from.

    Raises:
        UsageError: a block for a network that sees slices, none for one that does not, or one that cannot be meant.
    """
    if backbones.dimensions(network) == 2:
        if asked is not None:
            known = ", ".join(backbones.available(3))
            raise UsageError(f"--block is for a network of three dimensions ({known}); {network} sees slices")
        return None
    recorded: object = read_json(init) if init is not None else {}
    settings = cast("dict[str, Any]", recorded).get("settings", {}) if isinstance(recorded, dict) else {}
    given = asked or block_of(cast("dict[str, Any]", settings))
    if given is None:
        raise UsageError(f"{network} sees blocks; say which with --block, as --block 16 32 32")
    return check_block(given)


def check_offered(config: TrainingConfig) -> None:
    """See that nothing is asked for that is not there for blocks.

    Raises:
        UsageError: something is; the message names it.
    """
    names = {"context": "--context", "label_noise": "--label-noise"}
    for name, flag in names.items():
        if getattr(config, name, None):
            raise UsageError(f"{flag} is not offered in three dimensions yet; leave it out")


def strides_for(stores: Sequence[Store], patients: Sequence[Collection[str] | None], block: Block) -> list[list[int]]:
    """How a network's levels divide a block, by the median spacing of these patients' cases (None: of everyone's)."""
    spacings = [
        record.spacing
        for store, chosen in zip(stores, patients, strict=True)
        for record in store.cases
        if chosen is None or record.patient in chosen
    ]
    return plan_strides(median_spacing(spacings), block)
