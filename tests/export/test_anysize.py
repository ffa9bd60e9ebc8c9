"""Padding by arithmetic gives what the networks' own padding gives, and the check tells what differs."""

import pytest
import torch

from jcl.errors import DataError
from jcl.export.anysize import AnySize, check_same, fixed_size, sizes_to_check
from support.exported import random_network


@pytest.mark.parametrize("size", [(16, 16), (17, 32), (1, 5), (40, 56), (33, 47)])
def test_any_size(size):
    network = random_network()
    image = torch.rand(2, 1, *size)
    assert torch.equal(AnySize(network, network.stride)(image), network(image))


def test_sizes():
    assert fixed_size((40, 48), 16) == (48, 48)
    assert sizes_to_check((40, 48), 16) == [(1, 40, 48), (3, 37, 47), (2, 17, 64)]


def test_the_check_finds_a_small_difference():
    network = random_network()
    batches = sizes_to_check((40, 56), 16)
    assert check_same(network, network, batches, channels=1, what="x") == 0
    largest = max(network(torch.rand(3, 1, 37, 47)).abs().max().item(), 1)
    with pytest.raises(DataError, match="x: answers an image of 40 x 56 otherwise than PyTorch"):
        check_same(network, lambda image: network(image) + 1e-3 * largest, batches, channels=1, what="x")
    with pytest.raises(DataError, match="by inf"):
        check_same(network, lambda image: network(image)[:, :2], batches, channels=1, what="x")
    with pytest.raises(DataError, match="by nan"):
        check_same(network, lambda image: network(image) * float("nan"), batches, channels=1, what="x")
