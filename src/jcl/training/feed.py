"""What a training is fed with: slices or blocks, with labels or without, and how a batch of them is drawn."""

from collections.abc import Sequence
from typing import NamedTuple

from jcl.config import FinetuneConfig, PretrainConfig
from jcl.data.batches import Dataset, SliceDataset
from jcl.data.block_plan import Block
from jcl.data.blocks import BlockDataset, BlockDraws, list_blocks, structure_voxels
from jcl.data.population import check_slices
from jcl.data.sampler import Redraw
from jcl.data.slices import list_slices
from jcl.data.splits import Split
from jcl.data.store import Store
from jcl.data.structure_draws import structure_draws

__all__ = ["Feed", "further_feed", "labelled_feed", "unlabelled_feed"]


class Feed(NamedTuple):
    """What is trained on, what redraws a batch of it (see `jcl.data.sampler.BatchSampler`), and how much it is."""

    dataset: Dataset
    redraw: Redraw | None
    words: str


def labelled_feed(config: FinetuneConfig, store: Store, split: Split) -> Feed:
    """The labelled slices, or the blocks, of the patients that train.

    Raises:
        DataError: there is none, or a label that has to be read is damaged.
    """
    patients, foreground, context = [set(split.train)], config.foreground or 0.0, config.context or 0
    if config.block is not None:
        blocks = list_blocks([store], patients, config.block, labelled=True)
        voxels = structure_voxels([store], blocks) if foreground else None
        draws = BlockDraws(blocks, foreground, voxels)
        return Feed(BlockDataset([store], blocks, labels=True, surroundings=True), draws.redraw, _words(draws))
    slices = list_slices([store], patients, labelled=True)
    shown = structure_draws(store, slices, foreground)
    seen = f" with {context} on either side" if context else ""
    labelled = SliceDataset([store], slices, labels=True, context=context)
    return Feed(labelled, shown and shown.replace, f"{len(slices)} slices{seen}")


def unlabelled_feed(
    config: PretrainConfig,
    stores: Sequence[Store],
    patients: Sequence[set[str] | None],
    *,
    neighbourhood: float | None = None,
) -> Feed:
    """The slices, or the blocks, of these patients (None: of everyone); no label is read.

    Args:
        config: how they are seen.
        stores: where they are.
        patients: of each store.
        neighbourhood: of slices that come with each slice (see `jcl.data.batches.SliceDataset`).

    Raises:
        DataError: there are too few.
    """
    if config.block is not None:
        return _unlabelled_blocks(config.block, stores, patients)
    slices = list_slices(stores, patients, labelled=False)
    check_slices(stores, len(slices))
    seen = f", each with {config.context} on either side" if config.context else ""
    words = f"{len(slices)} slices of {len(slices.cases)} volumes{seen}"
    unlabelled = SliceDataset(stores, slices, labels=False, context=config.context, neighbourhood=neighbourhood)
    return Feed(unlabelled, None, words)


def further_feed(config: FinetuneConfig, stores: Sequence[Store], patients: Sequence[set[str]]) -> Feed:
    """The slices, or the blocks, that a technique learns of beside those of `labelled_feed`; no label is read.

    Args:
        config: how they are seen, as the labelled ones are.
        stores: where they are.
        patients: of each store.

    Raises:
        DataError: there is none.
    """
    if config.block is not None:
        return _unlabelled_blocks(config.block, stores, patients)
    slices = list_slices(stores, patients, labelled=False)
    unlabelled = SliceDataset(stores, slices, labels=False, context=config.context or 0)
    return Feed(unlabelled, None, f"{len(slices)} slices")


def _unlabelled_blocks(block: Block, stores: Sequence[Store], patients: Sequence[set[str] | None]) -> Feed:
    draws = BlockDraws(list_blocks(stores, patients, block, labelled=False))
    return Feed(BlockDataset(stores, draws.blocks, labels=False, surroundings=True), draws.redraw, _words(draws))


def _words(draws: BlockDraws) -> str:
    sides = " x ".join(map(str, draws.blocks.block))
    return f"blocks of {sides} of {len(draws.blocks.cases)} volumes"
