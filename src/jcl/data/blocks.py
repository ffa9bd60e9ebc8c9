"""Batches of blocks: parts of volumes, cut from the slices that they cross, and in which order they come.

A block that reaches beyond a volume holds zeros there, which happens only along sides on which the volume is smaller:
it then lies in the block's middle. All places of a block in some cases are numbered, so that a batch is a list of
numbers as one of slices is.

A block may come with its surroundings, twice as long along every side, so that one which is turned has the volume in
its corners and not zeros.
"""

import bisect
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from jcl.data.batches import SliceBatch
from jcl.data.block_plan import Block
from jcl.data.manifest import IGNORE
from jcl.data.store import Store
from jcl.errors import DataError

__all__ = [
    "BlockBatch",
    "BlockDataset",
    "BlockDraws",
    "BlockIndex",
    "BlockList",
    "aspects_of",
    "list_blocks",
    "margin_of",
    "structure_voxels",
    "surroundings_of",
]

Voxels = Int[np.ndarray, "_ 3"]

MOST_VOXELS = 10_000
"""Of each structure of a case that blocks are drawn around: enough to reach all of it (nnU-Net keeps as many)."""


@dataclass(frozen=True)
class BlockBatch(SliceBatch):
    """Blocks of one store, one a row; what compares the rows of a batch takes them as it takes slices."""

    images: Float[Tensor, "b c d h w"]
    positions: Float[Tensor, " b"]
    """Relative position of each block's centre in its volume, the mean of those of its slices."""
    volumes: Int[Tensor, " b"]
    labels: Int[Tensor, "b d h w"] | None = None
    depths: Int[Tensor, " b"] | None = None
    """Twice the slices of each block's volume: a centre may lie between two."""
    aspects: Float[Tensor, " b"] | None = None
    """Through-plane over in-plane spacing of each block."""
    centres: Int[Tensor, "b 3"] | None = None
    """Twice the place of each block's centre in its volume along slices, rows and columns, counted from 1."""
    extents: Int[Tensor, "b 3"] | None = None
    """Twice the slices, rows and columns of each block's volume; over them `centres` are relative."""
    surroundings: Float[Tensor, "b c dd hh ww"] | None = None
    """Each block, in the middle, with as much of its volume around it as `margin_of` says."""
    label_surroundings: Int[Tensor, "b dd hh ww"] | None = None
    """The labels of the surroundings."""


def aspects_of(batch: SliceBatch) -> Float[Tensor, " b"] | None:
    """Through-plane over in-plane spacing of each block, 1 where none is known; None of slices."""
    if not isinstance(batch, BlockBatch):
        return None
    return batch.images.new_ones(len(batch.images)) if batch.aspects is None else batch.aspects


def surroundings_of(
    batch: SliceBatch,
) -> tuple[Float[Tensor, "b c dd hh ww"], Int[Tensor, "b dd hh ww"] | None, Block]:
    """Images and labels of blocks with what lies around them, as far as it was read, and the sides of the block."""
    block = (batch.images.shape[2], batch.images.shape[3], batch.images.shape[4])
    if isinstance(batch, BlockBatch) and batch.surroundings is not None:
        return batch.surroundings, batch.label_surroundings, block
    return batch.images, batch.labels, block


@dataclass(frozen=True, slots=True)
class BlockIndex:
    """A block of a case, by its first slice, row and column; negative where it begins before the volume does."""

    store: int
    case: int
    start: tuple[int, int, int]


class BlockList:
    """All places of a block in some cases, numbered in the order of the cases.

    Args:
        block: slices, rows and columns.
        cases: number of the store, number of the case in it, and the case's slices, rows and columns.
    """

    def __init__(self, block: Block, cases: Sequence[tuple[int, int, Block]]) -> None:
        self.block = block
        self.cases = tuple(cases)
        self._ends = list(itertools.accumulate(math.prod(self.places(case)) for case in range(len(self.cases))))
        self._tiles = [math.prod(-(-n // b) for n, b in zip(extent, block, strict=True)) for _, _, extent in cases]
        self._tile_ends = list(itertools.accumulate(self._tiles))

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def __getitem__(self, number: int) -> BlockIndex:
        if not 0 <= number < len(self):
            raise IndexError(f"{len(self)} places of a block, none with number {number}")
        at = bisect.bisect_right(self._ends, number)
        store, case, extent = self.cases[at]
        _, rows, columns = places = self.places(at)
        within = number - self._ends[at] + math.prod(places)
        first = (within // (rows * columns), within // columns % rows, within % columns)
        starts = (_shifted(each, n, b) for each, n, b in zip(first, extent, self.block, strict=True))
        return BlockIndex(store, case, (next(starts), next(starts), next(starts)))

    def places(self, at: int) -> Block:
        """How many places there are in case number `at` of the list, along each side."""
        slices, rows, columns = (max(1, n - b + 1) for n, b in zip(self.cases[at][2], self.block, strict=True))
        return slices, rows, columns

    def tiles(self) -> Int[np.ndarray, " n"]:
        """Number of the store for each of as many blocks as cover the cases side by side."""
        return np.repeat([store for store, _, _ in self.cases], self._tiles)

    def case_of(self, tile: int) -> int:
        """Which case of the list one of the `tiles` stands for."""
        return bisect.bisect_right(self._tile_ends, tile)

    def anywhere(self, at: int, random: np.random.Generator) -> int:
        """Number of a block at a random place of case number `at`, each place as likely."""
        places = math.prod(self.places(at))
        return self._ends[at] - places + int(random.integers(places))

    def around(self, at: int, voxel: Sequence[int]) -> int:
        """Number of the block of case number `at` with this voxel in its middle, or as near to it as the case goes."""
        places = self.places(at)
        first = [min(max(0, v - b // 2), n - 1) for v, b, n in zip(voxel, self.block, places, strict=True)]
        number = (first[0] * places[1] + first[1]) * places[2] + first[2]
        return self._ends[at] - math.prod(places) + number


def _shifted(first: int, extent: int, side: int) -> int:
    """Where a block begins: one that is longer than the volume holds it in its middle."""
    return first if side <= extent else -((side - extent) // 2)


def list_blocks(
    stores: Sequence[Store], patients: Sequence[set[str] | None], block: Block, *, labelled: bool
) -> BlockList:
    """All places of a block in the cases of the given patients (None: of everyone).

    Raises:
        DataError: there is no such case.
    """
    cases = [
        (number, case, (record.slices, *record.shape))
        for number, (store, chosen) in enumerate(zip(stores, patients, strict=True))
        for case, record in enumerate(store.cases)
        if (chosen is None or record.patient in chosen) and (record.labelled or not labelled)
    ]
    if not cases:
        kind = "labelled cases" if labelled else "cases"
        raise DataError(f"{', '.join(str(store.path) for store in stores)}: no {kind} of the chosen patients")
    return BlockList(block, cases)


@dataclass(frozen=True, eq=False)
class BlockDraws:
    """What makes blocks of a batch of tiles: a random place in the same case, or one around a structure's voxel.

    Attributes:
        blocks: all places.
        share: of the blocks of a batch that are drawn around a structure, each structure of the case as likely.
        voxels: for each case of the list, voxels of each structure that it has.
    """

    blocks: BlockList
    share: float = 0.0
    voxels: Mapping[int, Sequence[Voxels]] | None = None

    def redraw(self, batch: list[int], random: np.random.Generator) -> list[int]:
        """Numbers of blocks for numbers of tiles (see `jcl.data.sampler.BatchSampler`)."""
        cases = [self.blocks.case_of(tile) for tile in batch]
        drawn = [self.blocks.anywhere(at, random) for at in cases]
        count = int(self.share * len(drawn) + random.random())
        for place in random.permutation(len(drawn))[:count].tolist():
            structures = (self.voxels or {}).get(cases[place])
            if structures:
                voxels = structures[int(random.integers(len(structures)))]
                drawn[place] = self.blocks.around(cases[place], voxels[random.integers(len(voxels))].tolist())
        return drawn


def structure_voxels(stores: Sequence[Store], blocks: BlockList) -> dict[int, list[Voxels]]:
    """Voxels of each structure of each case of the list, in the order of the structures; `MOST_VOXELS` at most.

    Reads all labels of the cases.

    Raises:
        DataError: a label is damaged.
    """
    found: dict[int, list[Voxels]] = {}
    for at, (number, case, extent) in enumerate(blocks.cases):
        store = stores[number]
        labels = np.stack([store.label(case, each)[store.content(case)] for each in range(extent[0])])
        random = np.random.default_rng(at)
        structures: list[Voxels] = []
        for value in sorted({*np.unique(labels).tolist()} - {0, IGNORE}):
            voxels = np.argwhere(labels == value)
            structures.append(voxels[np.sort(random.permutation(len(voxels))[:MOST_VOXELS])])
        if structures:
            found[at] = structures
    return found


def margin_of(block: Block) -> Block:
    """Voxels of the surroundings on either side: half of the block (decision 25 says why)."""
    slices, rows, columns = (side // 2 for side in block)
    return slices, rows, columns


class BlockDataset:
    """Blocks of stores, read a batch at a time; of each case only the slices that a block crosses.

    Args:
        stores: where they are.
        blocks: all places.
        labels: whether to read them too.
        surroundings: whether each block comes with what lies around it.
    """

    def __init__(self, stores: Sequence[Store], blocks: BlockList, *, labels: bool, surroundings: bool = False) -> None:
        self.stores = tuple(stores)
        self.blocks = blocks
        self.labels = labels
        self.margin: Block = margin_of(blocks.block) if surroundings else (0, 0, 0)

    def store_numbers(self) -> Int[np.ndarray, " n"]:
        """Number of the store for each of the blocks that an epoch has."""
        return self.blocks.tiles()

    def read(self, indices: Sequence[int], *, pinned: bool = False) -> BlockBatch:
        """The blocks with these numbers, all of one store, as a batch. Threads may call it at the same time.

        Args:
            indices: numbers in `blocks`.
            pinned: images in memory that a GPU can copy from while it computes.

        Raises:
            DataError: a slice is damaged; the message names its file.
        """
        chosen = [self.blocks[index] for index in indices]
        store, block = self.stores[chosen[0].store], self.blocks.block
        sides = [side + 2 * margin for side, margin in zip(block, self.margin, strict=True)]
        images = torch.zeros(len(chosen), store.channels, *sides, pin_memory=pinned)
        labels = torch.zeros(len(chosen), *sides, dtype=torch.int64) if self.labels else None
        for row, where in enumerate(chosen):
            corner = [start - margin for start, margin in zip(where.start, self.margin, strict=True)]
            _cut(store, where.case, corner, images[row].numpy(), None if labels is None else labels[row].numpy())
        middle = (..., *(slice(margin, margin + side) for side, margin in zip(block, self.margin, strict=True)))
        records = [store.cases[where.case] for where in chosen]
        extents = [(record.slices, *record.shape) for record in records]
        centres = [
            [_centre(*axis) for axis in zip(where.start, block, extent, strict=True)]
            for where, extent in zip(chosen, extents, strict=True)
        ]
        return BlockBatch(
            images=images[middle],
            positions=torch.tensor(
                [centre[0] / (2 * record.slices) for centre, record in zip(centres, records, strict=True)]
            ),
            volumes=torch.tensor([where.case for where in chosen]),
            labels=None if labels is None else labels[middle],
            depths=torch.tensor([2 * record.slices for record in records]),
            aspects=torch.tensor([record.spacing[0] / record.spacing[1] for record in records]),
            centres=torch.tensor(centres),
            extents=torch.tensor([[2 * side for side in extent] for extent in extents]),
            surroundings=images if any(self.margin) else None,
            label_surroundings=labels if any(self.margin) else None,
        )


def _centre(start: int, side: int, extent: int) -> int:
    """Twice the mean of the numbers, from 1, of the slices (or rows, or columns) that a block crosses."""
    return extent + 1 if side >= extent else 2 * start + side + 1


def _cut(
    store: Store,
    case: int,
    start: Sequence[int],
    image: Float[np.ndarray, "c d h w"],
    label: Int[np.ndarray, "d h w"] | None,
) -> None:
    """Write a part of a case to zeros, from a first slice, row and column on, which may lie before the volume's."""
    record = store.cases[case]
    extent = (record.slices, *record.shape)
    first = [max(0, s) for s in start]
    stop = [min(n, s + b) for n, s, b in zip(extent, start, image.shape[1:], strict=True)]
    inside = tuple(slice(f - s, e - s) for f, e, s in zip(first, stop, start, strict=True))
    window = (slice(first[1], stop[1]), slice(first[2], stop[2]))
    for number in range(first[0], stop[0]):
        place = (number - start[0], *inside[1:])
        image[:, *place] = store.image_window(case, number, window)
        if label is not None:
            label[place] = store.label_window(case, number, window)
