"""The queue against Python's own."""

from collections import deque

import pytest
import torch

from jcl.ssl.memory_bank import MemoryBank


@pytest.mark.parametrize("batches", [[1] * 9, [2] * 7, [5, 5], [4, 3, 6], [12], [3, 13, 2]])
def test_keeps_the_last_rows_whatever_the_size_of_the_batches(batches):
    queue, wanted = MemoryBank(keys=torch.full((5, 2), -1.0), names=torch.full((5,), -1)), deque([-1] * 5, maxlen=5)
    count = 0
    for size in batches:
        names = torch.arange(count, count + size)
        queue.push(keys=names[:, None] * torch.tensor([1.0, 10.0]), names=names)
        wanted.extend(names.tolist())
        count += size
        assert sorted(queue["names"].tolist()) == sorted(wanted)
        held = queue["names"] >= 0
        assert torch.equal(queue["keys"][held], queue["names"][held, None] * torch.tensor([1.0, 10.0])), "side by side"
        assert queue.full() == (count >= 5)


def test_is_saved_whole():
    queue = MemoryBank(keys=torch.zeros(4))
    queue.push(keys=torch.tensor([1.0, 2.0, 3.0]))
    other = MemoryBank(keys=torch.zeros(4))
    other.load_state_dict(queue.state_dict())
    for each in (queue, other):
        each.push(keys=torch.tensor([4.0, 5.0]))
    assert torch.equal(queue["keys"], other["keys"])
    assert queue["keys"].tolist() == [5.0, 2.0, 3.0, 4.0]


def test_rows_keep_no_gradient():
    queue = MemoryBank(keys=torch.zeros(4))
    queue.push(keys=torch.ones(2, requires_grad=True) * 2)
    assert not queue["keys"].requires_grad
