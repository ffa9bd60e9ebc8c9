"""Scores on the slices of the source, against a product of matrices, and how many are in memory."""

import gc
import weakref

import numpy as np
import pytest
import torch

from jcl.inference.through import own_scores


def weights_by_hand(prepared: int, own: int) -> torch.Tensor:
    step = prepared / own
    centres = (torch.arange(own) + 0.5) * step
    triangles = (1 - (torch.arange(prepared) + 0.5 - centres[:, None]).abs() / max(step, 1.0)).clamp(min=0)
    return triangles / triangles.sum(1, keepdim=True)


@pytest.mark.parametrize(("prepared", "own"), [(12, 6), (6, 12), (7, 5), (5, 7), (40, 1), (1, 4), (3, 3)])
def test_each_slice_is_the_mean_of_what_lies_beside_it(prepared, own):
    scores = torch.rand(prepared, 2, 3, 4, generator=torch.Generator().manual_seed(0)).softmax(1)
    found = torch.stack(list(own_scores(iter(scores), prepared, own)))
    wanted = torch.einsum("op,pkhw->okhw", weights_by_hand(prepared, own), scores)
    assert torch.allclose(found, wanted, atol=1e-6)
    assert torch.allclose(found.sum(1), torch.ones(own, 3, 4), atol=1e-6)


def test_slices_come_as_soon_as_they_can_and_no_more_are_kept():
    kept: list[weakref.ref] = []

    def scores():
        for _ in range(200):
            each = torch.rand(2, 4, 4)
            kept.append(weakref.ref(each))
            yield each
            del each

    for number, _ in enumerate(own_scores(scores(), 200, 50)):
        gc.collect()
        assert len(kept) <= 4 * (number + 2)
        assert sum(ref() is not None for ref in kept) <= 3
    assert number == 49
    assert np.isclose(len(kept), 200)
