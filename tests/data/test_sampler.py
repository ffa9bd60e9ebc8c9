"""The order of batches: whole epochs, one store each, the same for ever and from any step on."""

import itertools

import numpy as np
import pytest

from jcl.data.sampler import BatchSampler


def test_an_epoch_has_every_slice_once_but_the_incomplete_batch():
    order = BatchSampler([0] * 11, 3, seed=0)
    assert order.batches_per_epoch == 3
    for epoch in range(3):
        seen = list(itertools.chain(*order.epoch(epoch)))
        assert len(seen) == len(set(seen)) == 9
    assert order.epoch(0) != order.epoch(1)


@pytest.mark.parametrize("stores", [[0] * 50, [0] * 40 + [1] * 2 + [2] * 17])
def test_the_order_is_that_of_shuffled_lists(stores: list[int]):
    """Each store's slices are shuffled and cut, then the batches of all; runs rely on it being the same for ever."""
    order = BatchSampler(stores, 3, seed=7)
    for epoch in range(3):
        random = np.random.default_rng((7, epoch))
        batches: list[list[int]] = []
        for store in sorted(set(stores)):
            shuffled = random.permutation([number for number, each in enumerate(stores) if each == store]).tolist()
            full = [shuffled[at : at + 3] for at in range(0, len(shuffled) - 2, 3)]
            batches += full or [shuffled]
        assert order.epoch(epoch) == [batches[at] for at in random.permutation(len(batches))]


def test_batches_come_from_one_store_each_in_proportion():
    order = BatchSampler([0] * 12 + [1] * 6, 3, seed=0)
    stores = [{index // 12 for index in batch} for batch in order.epoch(0)]
    assert all(len(found) == 1 for found in stores)
    assert sorted(found.pop() for found in stores) == [0, 0, 0, 0, 1, 1]


def test_fewer_slices_than_a_batch_give_one_smaller_batch():
    assert [len(batch) for batch in BatchSampler([0] * 3, 16, seed=0).epoch(0)] == [3]


@pytest.mark.parametrize("start", [0, 1, 5, 6, 13])
def test_the_order_goes_on_at_any_step(start):
    whole = list(itertools.islice(BatchSampler([0] * 20, 3, seed=4), 20))
    assert list(itertools.islice(BatchSampler([0] * 20, 3, seed=4, start=start), 20 - start)) == whole[start:]
    assert list(itertools.islice(BatchSampler([0] * 20, 3, seed=5), 20)) != whole
