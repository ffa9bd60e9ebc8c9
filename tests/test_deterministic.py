"""Deterministic algorithms within, and as before without."""

import pytest
import torch

from jcl.deterministic import bit_for_bit


def test_it_is_on_within_and_restored_after():
    assert not torch.are_deterministic_algorithms_enabled()
    with bit_for_bit(True):
        assert torch.are_deterministic_algorithms_enabled()
        with pytest.raises(KeyError), bit_for_bit(True):
            raise KeyError
    assert not torch.are_deterministic_algorithms_enabled()


def test_off_it_changes_nothing():
    with bit_for_bit(False):
        assert not torch.are_deterministic_algorithms_enabled()
