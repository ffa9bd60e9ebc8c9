"""Deterministic algorithms within, and as before without."""

import pytest
import torch

from jcl.training.reproducibility import deterministic_algorithms


def test_it_is_on_within_and_restored_after():
    assert not torch.are_deterministic_algorithms_enabled()
    with deterministic_algorithms(True):
        assert torch.are_deterministic_algorithms_enabled()
        with pytest.raises(KeyError), deterministic_algorithms(True):
            raise KeyError
    assert not torch.are_deterministic_algorithms_enabled()


def test_off_it_changes_nothing():
    with deterministic_algorithms(False):
        assert not torch.are_deterministic_algorithms_enabled()
