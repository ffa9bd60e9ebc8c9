"""Batches: what they hold, their order, and that workers change nothing."""

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch

from jcl.config import PrepareConfig
from jcl.data.batches import BatchOrder, Slices, list_slices, load_batches
from jcl.data.store import Store
from jcl.errors import DataError
from jcl.stages.prepare import prepare
from scans import write_volumes


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    base: Path = tmp_path_factory.mktemp("batches")
    source = write_volumes(base / "scans", patients=4, labelled=2, slices=5)
    opened = prepare(PrepareConfig(source=source, out=base / "store", labels="1=ball", workers=1))
    yield opened
    opened.close()


def test_slices_of_chosen_patients(store: Store):
    assert len(list_slices([store], [None], labelled=False)) == 20
    assert len(list_slices([store], [None], labelled=True)) == 10
    chosen = list_slices([store], [{"p1", "p3"}], labelled=False)
    assert {store.cases[s.case].patient for s in chosen} == {"p1", "p3"}
    with pytest.raises(DataError, match="no labelled slices"):
        list_slices([store], [{"p3"}], labelled=True)


def test_a_batch_holds_what_the_store_has(store: Store):
    slices = list_slices([store], [None], labelled=True)
    order = BatchOrder([0] * len(slices), 3, seed=0)
    batch = next(load_batches(Slices([store], slices, labels=True), order))
    for row, index in enumerate(order.epoch(0)[0]):
        where = slices[index]
        assert torch.equal(batch.images[row], torch.from_numpy(store.image(where.case, where.slice)))
        assert batch.labels is not None
        assert np.array_equal(batch.labels[row].numpy(), store.label(where.case, where.slice))
        assert batch.positions[row] == pytest.approx((where.slice + 1) / 5)
        assert batch.volumes[row] == where.case


def test_unlabelled_batches_read_no_labels(store: Store):
    slices = list_slices([store], [None], labelled=False)
    batch = next(load_batches(Slices([store], slices, labels=False), BatchOrder([0] * 20, 4, seed=0)))
    assert batch.labels is None


def test_an_epoch_has_every_slice_once_but_the_incomplete_batch():
    order = BatchOrder([0] * 11, 3, seed=0)
    assert order.batches_per_epoch == 3
    for epoch in range(3):
        seen = list(itertools.chain(*order.epoch(epoch)))
        assert len(seen) == len(set(seen)) == 9
    assert order.epoch(0) != order.epoch(1)


def test_batches_come_from_one_store_each_in_proportion():
    order = BatchOrder([0] * 12 + [1] * 6, 3, seed=0)
    stores = [{index // 12 for index in batch} for batch in order.epoch(0)]
    assert all(len(found) == 1 for found in stores)
    assert sorted(found.pop() for found in stores) == [0, 0, 0, 0, 1, 1]


def test_fewer_slices_than_a_batch_give_one_smaller_batch():
    assert [len(batch) for batch in BatchOrder([0] * 3, 16, seed=0).epoch(0)] == [3]


@pytest.mark.parametrize("start", [0, 1, 5, 6, 13])
def test_the_order_goes_on_at_any_step(start):
    whole = list(itertools.islice(BatchOrder([0] * 20, 3, seed=4), 20))
    assert list(itertools.islice(BatchOrder([0] * 20, 3, seed=4, start=start), 20 - start)) == whole[start:]
    assert list(itertools.islice(BatchOrder([0] * 20, 3, seed=5), 20)) != whole


@pytest.mark.slow
def test_workers_change_nothing(store: Store):
    slices = list_slices([store], [None], labelled=False)
    runs = []
    for workers in (0, 2):
        batches = load_batches(Slices([store], slices, labels=False), BatchOrder([0] * 20, 4, seed=1), workers=workers)
        runs.append([next(batches).images for _ in range(7)])
    assert all(torch.equal(a, b) for a, b in zip(*runs, strict=True))
