"""Blur and low resolution against SciPy's filters and by what they must not touch."""

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from jcl.augment import sharpness
from jcl.augment.sharpness import blur, coarsen


def images(count: int = 8, channels: int = 2) -> torch.Tensor:
    return torch.rand(count, channels, 24, 20, generator=torch.Generator().manual_seed(1))


def drawn(count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    first, second = torch.rand(2, count, generator=torch.Generator().manual_seed(seed))
    return first, second


def test_blur_is_scipys_for_the_images_chosen_and_nothing_for_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sharpness, "CHANCE", 0.5)
    given, (chosen, share) = images(), drawn(8, 3)
    found = blur(given, 1.5, generator=torch.Generator().manual_seed(3))
    assert 0 < (chosen < 0.5).sum() < 8
    for number in range(8):
        if chosen[number] < 0.5:
            wanted = gaussian_filter(
                given[number].double().numpy(), (0, *2 * (1.5 * float(share[number]),)), mode="nearest", radius=3
            )
        else:
            wanted = given[number].numpy()
        assert np.abs(found[number].numpy() - wanted).max() < 1e-5


def test_coarse_images_lose_detail_and_keep_their_mean(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sharpness, "CHANCE", 0.5)
    given, (chosen, _) = images(), drawn(8, 5)
    found = coarsen(given, 2.0, generator=torch.Generator().manual_seed(5))
    assert 0 < (chosen < 0.5).sum() < 8
    assert torch.equal(found[chosen >= 0.5], given[chosen >= 0.5])
    coarse = chosen < 0.5
    assert (found[coarse].var((2, 3)) < given[coarse].var((2, 3))).all()
    assert torch.allclose(found.mean((2, 3)), given.mean((2, 3)), atol=0.03)


def test_a_quarter_of_the_images_changes() -> None:
    given = images(400, 1)
    for change in (blur, coarsen):
        found = change(given, 2.0, generator=torch.Generator().manual_seed(0))
        share = (found != given).flatten(1).any(1).float().mean()
        assert 0.18 < float(share) < 0.32
