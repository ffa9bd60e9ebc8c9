"""Blocks: parts of volumes, what is beyond these, where they lie, their order, and what is read of them."""

import itertools
from collections import Counter

import numpy as np
import pytest
import torch

from jcl.data.batches import load_batches
from jcl.data.blocks import (
    BlockDataset,
    BlockDraws,
    BlockList,
    list_blocks,
    margin_of,
    structure_voxels,
    surroundings_of,
)
from jcl.data.sampler import BatchSampler
from jcl.data.store import Store
from jcl.errors import DataError
from jcl.losses.contrastive import position_mask

BLOCK = (4, 8, 12)


def volume(store: Store, case: int) -> tuple[np.ndarray, np.ndarray | None]:
    record = store.cases[case]
    rows, columns = store.content(case)
    image = np.stack([store.image(case, number)[:, rows, columns] for number in range(record.slices)], axis=1)
    if not record.labelled:
        return image, None
    return image, np.stack([store.label(case, number)[rows, columns] for number in range(record.slices)])


def padded(array: np.ndarray, start: tuple[int, ...], block: tuple[int, ...]) -> np.ndarray:
    """The block by index, one voxel after the other."""
    out = np.zeros((*array.shape[:-3], *block), array.dtype)
    for place in np.ndindex(*block):
        there = tuple(s + p for s, p in zip(start, place, strict=True))
        if all(0 <= t < n for t, n in zip(there, array.shape[-3:], strict=True)):
            out[(..., *place)] = array[(..., *there)]
    return out


def test_every_block_is_a_part_of_its_volume(block_store: Store):
    blocks = list_blocks([block_store], [None], BLOCK, labelled=False)
    data = BlockDataset([block_store], blocks, labels=False)
    volumes = [volume(block_store, case)[0] for case in range(3)]
    for number in range(0, len(blocks), 37):
        where = blocks[number]
        (image,) = data.read([number]).images.numpy()
        assert np.array_equal(image, padded(volumes[where.case], where.start, BLOCK)), where


def test_labels_come_with_it(block_store: Store):
    blocks = list_blocks([block_store], [None], BLOCK, labelled=True)
    assert {case for _, case, _ in blocks.cases} == {0, 1}
    batch = BlockDataset([block_store], blocks, labels=True).read(list(range(0, len(blocks), 41)))
    assert batch.labels is not None
    assert batch.labels.dtype == torch.int64
    for row, number in zip(batch.labels.numpy(), range(0, len(blocks), 41), strict=True):
        where = blocks[number]
        label = volume(block_store, where.case)[1]
        assert label is not None
        assert np.array_equal(row, padded(label, where.start, BLOCK))


def test_a_block_comes_with_what_lies_around_it(block_store: Store):
    """Volumes that are smaller than the block, along one side or another, among them."""
    blocks = list_blocks([block_store], [None], BLOCK, labelled=True)
    numbers = list(range(0, len(blocks), 43))
    batch = BlockDataset([block_store], blocks, labels=True, surroundings=True).read(numbers)
    bare = BlockDataset([block_store], blocks, labels=True).read(numbers)
    assert margin_of(BLOCK) == (2, 4, 6)
    assert torch.equal(batch.images, bare.images)
    assert torch.equal(batch.labels, bare.labels)
    assert bare.surroundings is None
    images, labels, sides = surroundings_of(batch)
    assert sides == BLOCK
    for row, number in enumerate(numbers):
        where = blocks[number]
        start = tuple(s - m for s, m in zip(where.start, margin_of(BLOCK), strict=True))
        image, label = volume(block_store, where.case)
        assert np.array_equal(images[row].numpy(), padded(image, start, (8, 16, 24)))
        assert np.array_equal(labels[row].numpy(), padded(label, start, (8, 16, 24)))


def test_the_numbers_are_all_places_and_each_once(block_store: Store):
    blocks = list_blocks([block_store], [None], BLOCK, labelled=False)
    expected = [(0, z, y, x) for z in range(6) for y in range(13) for x in range(6)]
    expected += [(1, 0, y, x) for y in range(5) for x in range(19)]  # three slices in a block of four
    expected += [(2, z, y, -1) for z in range(9) for y in range(3)]  # ten columns in the middle of twelve
    assert [(each.case, *each.start) for each in map(blocks.__getitem__, range(len(blocks)))] == expected
    for wrong in (-1, len(blocks)):
        with pytest.raises(IndexError, match="none with number"):
            blocks[wrong]


def test_positions_are_the_means_of_those_of_the_slices(block_store: Store):
    blocks = list_blocks([block_store], [None], BLOCK, labelled=False)
    numbers = list(range(0, len(blocks), 19))
    batch = BlockDataset([block_store], blocks, labels=False).read(numbers)
    for row, number in enumerate(numbers):
        where = blocks[number]
        slices = block_store.cases[where.case].slices
        crossed = [s for s in range(where.start[0], where.start[0] + BLOCK[0]) if 0 <= s < slices]
        assert batch.positions[row].item() == pytest.approx(np.mean([(s + 1) / slices for s in crossed]))
        assert batch.volumes[row] == where.case
        assert batch.depths is not None
        assert batch.depths[row] == 2 * slices
        assert batch.aspects is not None
        assert batch.aspects[row] == [3, 1, 4][where.case]


def test_a_block_of_one_slice_has_the_position_and_the_mask_of_the_slice():
    """Ten slices at a threshold of a tenth: neighbours lie on it, and are not nearer (decision 20)."""
    positions = torch.tensor([(2 * s + 2) / 20 for s in range(10)])
    ours = position_mask(positions, 0.1, torch.full((10,), 20))
    theirs = position_mask(torch.arange(1, 11) / 10, 0.1, torch.full((10,), 10))
    assert torch.equal(ours, theirs)
    assert not ours.any()


def sampler(store: Store, share: float = 0.0, **settings) -> tuple[BlockList, BatchSampler]:
    blocks = list_blocks([store], [None], BLOCK, labelled=False)
    voxels = structure_voxels([store], list_blocks([store], [None], BLOCK, labelled=True)) if share else None
    redraw = BlockDraws(blocks, share, voxels).redraw
    return blocks, BatchSampler(blocks.tiles(), **{"batch_size": 4, "seed": 3, **settings}, redraw=redraw)


def first(order: BatchSampler, count: int) -> list[list[int]]:
    return list(itertools.islice(iter(order), count))


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_the_order_does_not_hang_on_interruptions_or_processes(block_store: Store, share: float):
    _, whole = sampler(block_store, share)
    expected = first(whole, 23)
    assert expected == first(sampler(block_store, share)[1], 23)
    for start in (1, 7, 20):
        assert first(sampler(block_store, share, start=start)[1], 23 - start) == expected[start:]
    parts = [first(sampler(block_store, share, batch_size=2, rank=r, processes=2)[1], 23) for r in range(2)]
    assert [a + b for a, b in zip(*parts, strict=True)] == expected
    assert first(sampler(block_store, share, seed=4)[1], 23) != expected


def test_each_case_comes_as_often_as_blocks_cover_it_and_at_other_places_each_time(block_store: Store):
    blocks, order = sampler(block_store, batch_size=1)
    assert order.batches_per_epoch == 3 * 3 * 2 + 1 * 2 * 3 + 3 * 2 * 1
    found = [blocks[number] for (number,) in first(order, 20 * order.batches_per_epoch)]
    assert Counter(each.case for each in found) == {0: 20 * 18, 1: 20 * 6, 2: 20 * 6}
    for axis, places in enumerate((6, 13, 6)):
        assert len({each.start[axis] for each in found if each.case == 0}) == places


def test_a_share_is_drawn_around_structures_each_as_likely(block_store: Store):
    """Class 2 is one voxel near a corner of the first case, which few blocks hold by chance."""
    blocks, order = sampler(block_store, 1.0)
    data = BlockDataset([block_store], list_blocks([block_store], [None], BLOCK, labelled=False), labels=False)
    labels = {case: volume(block_store, case)[1] for case in range(2)}
    shown: Counter[tuple[int, int]] = Counter()
    for number in itertools.chain.from_iterable(first(order, 400)):
        where = blocks[number]
        if where.case == 2:  # without labels: anywhere
            continue
        classes = np.unique(padded(labels[where.case], where.start, BLOCK))
        assert classes.max() > 0
        shown.update((where.case, value) for value in classes.tolist())
    assert 0.4 < shown[0, 2] / (shown[0, 1] + shown[0, 2]) < 0.6
    assert shown[1, 1] > 0
    assert data.read([blocks.around(0, (7, 18, 15))]).positions.item() == pytest.approx(7.5 / 9)


def test_some_share(block_store: Store):
    blocks = list_blocks([block_store], [{"p0"}], BLOCK, labelled=True)
    far = {0: [np.array([[7, 18, 15]])]}
    draws = BlockDraws(blocks, 0.3, far)
    around = blocks.around(0, (7, 18, 15))
    drawn = [number for seed in range(500) for number in draws.redraw([0] * 5, np.random.default_rng(seed))]
    assert 0.28 < np.mean([number == around for number in drawn]) < 0.32 + 1 / (6 * 13 * 6)


def test_a_voxel_lies_in_the_middle_of_its_block_or_at_a_border(block_store: Store):
    blocks = list_blocks([block_store], [{"p0"}], BLOCK, labelled=True)
    for voxel in itertools.product((0, 4, 8), (0, 9, 19), (0, 8, 16)):
        start = blocks[blocks.around(0, voxel)].start
        assert start == tuple(min(max(v - b // 2, 0), n - b) for v, b, n in zip(voxel, BLOCK, (9, 20, 17), strict=True))
        assert all(s <= v < s + b for s, v, b in zip(start, voxel, BLOCK, strict=True))


def test_only_the_slices_that_it_crosses_are_read(block_store: Store, monkeypatch: pytest.MonkeyPatch):
    read: list[int] = []
    plain = Store._read
    monkeypatch.setattr(
        Store, "_read", lambda self, record, name, number: read.append(number) or plain(self, record, name, number)
    )
    blocks = list_blocks([block_store], [{"p0"}], BLOCK, labelled=True)
    BlockDataset([block_store], blocks, labels=False).read([blocks.around(0, (4, 9, 8))])
    assert read == [2, 3, 4, 5]


def test_the_loader_takes_them(block_store: Store):
    blocks, order = sampler(block_store)
    data = BlockDataset([block_store], blocks, labels=False)
    for batch, numbers in zip(
        itertools.islice(load_batches(data, order, workers=2), 5), first(sampler(block_store)[1], 5), strict=True
    ):
        assert torch.equal(batch.images, data.read(numbers).images)
        assert torch.equal(batch.to("cpu").images, batch.images)


def test_nobody_to_take_blocks_of(block_store: Store):
    with pytest.raises(DataError, match="no labelled cases"):
        list_blocks([block_store], [{"p2"}], BLOCK, labelled=True)
    with pytest.raises(DataError, match="has no labels"):
        block_store.label_window(2, 0, (slice(0, 1), slice(0, 1)))
