"""What is seen of a case: doubt against a slow loop, features that padding and batches do not change."""

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import ndimage

from jcl import backbones
from jcl.config import PrepareConfig
from jcl.data.store import Store
from jcl.inference.predictor import NotFiniteError
from jcl.inference.slice_looks import CaseLook, Looker, look_at_case, vector_of
from jcl.stages.prepare import prepare
from support.scans import write_volumes
from support.shared import made_once
from support.thresholds import STEEP, threshold_network

THRESHOLD = 0.6


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Slices of 24 x 24 pixels, padded to 40 x 40."""

    def make(out: Path) -> None:
        scans = write_volumes(out.with_name("scans"), patients=3, slices=5, size=24)
        prepare(PrepareConfig(source=scans, out=out, labels="1=ball", size=40, workers=1))

    return Store.open(made_once(tmp_path_factory, "looks", make))


def looker(*networks: torch.nn.Module, structures: int = 1, batch_size: int = 2) -> Looker:
    how = {"device": torch.device("cpu"), "precision": torch.float32}
    return Looker(networks=list(networks), context=0, structures=structures, batch_size=batch_size, **how)


def scores_of(store: Store, case: int, *thresholds: float) -> np.ndarray:
    """Of the structure, in each pixel of the content, straight from the store."""
    content = store.content(case)
    images = np.stack([store.image(case, n)[0][content] for n in range(store.cases[case].slices)]).astype(float)
    return np.mean([1 / (1 + np.exp(-STEEP * (images - each))) for each in thresholds], axis=0)


def entropy_of(p: np.ndarray) -> np.ndarray:
    return -sum(q * np.log2(np.maximum(q, 1e-12)) for q in (p, 1 - p))


@pytest.mark.parametrize("thresholds", [(THRESHOLD,), (0.5, 0.7)])
def test_doubt_is_that_of_the_mean_scores_within_the_scan(store: Store, thresholds: tuple[float, ...]):
    look = look_at_case(store, 1, looker(*map(threshold_network, thresholds)))
    p = scores_of(store, 1, *thresholds)
    entropy = entropy_of(p)
    assert look.slice_doubts == pytest.approx(entropy.mean((1, 2)).tolist(), abs=1e-4)
    near = ndimage.binary_dilation(p > 0.5, np.ones((3, 3, 3)))
    assert look.doubt == pytest.approx(entropy[near].mean(), abs=1e-4)


def test_a_run_that_finds_nothing_has_no_doubt_of_the_case(store: Store):
    look = look_at_case(store, 0, looker(threshold_network(3.0)))
    assert look.doubt is None
    assert look.slice_doubts == pytest.approx([0] * 5, abs=1e-6)


def test_a_pre_training_has_features_alone(store: Store):
    torch.manual_seed(0)
    network = backbones.load("unet")(in_channels=1, classes=2, width=2).eval()
    look = look_at_case(store, 0, looker(network, structures=0))
    assert (look.slice_doubts, look.doubt) == (None, None)
    assert look.features.shape == (5, network.feature_channels[-1])
    assert np.linalg.norm(look.features, axis=1) == pytest.approx(np.ones(5), abs=1e-5)


def test_batches_change_nothing(store: Store):
    torch.manual_seed(0)
    network = backbones.load("unet")(in_channels=1, classes=2, width=2).eval()
    one, all_at_once = (look_at_case(store, 2, looker(network, batch_size=size)) for size in (1, 100))
    np.testing.assert_allclose(one.features, all_at_once.features, atol=1e-5)
    assert one.slice_doubts == pytest.approx(all_at_once.slice_doubts, abs=1e-5)


@backbones.Backbone.register
class Own(torch.nn.Module):
    """A network of one's own, which is a backbone by what it has; features are the mean of blocks, and ones."""

    stride = 8

    def encode(self, x: torch.Tensor) -> list[torch.Tensor]:
        pooled = torch.nn.functional.avg_pool2d(x, 8)
        return [x, torch.cat([pooled, torch.ones_like(pooled)], 1)]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([torch.zeros_like(x), STEEP * (x - THRESHOLD)], 1)


def test_padding_is_not_counted(store: Store):
    """Of a case in the middle of zeros the features are those of the case."""
    look = look_at_case(store, 0, looker(Own(), structures=0))
    content = store.content(0)
    for number in range(5):
        mean = store.image(0, number)[0][content].mean()
        expected = np.array([mean, 1]) / np.hypot(mean, 1)
        assert look.features[number] == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("name", backbones.available(2))
def test_every_network_has_features(store: Store, name: str):
    torch.manual_seed(0)
    network = backbones.load(name)(in_channels=1, classes=3, width=4 if name != "uctransnet" else 8).eval()
    look = look_at_case(store, 0, looker(network, structures=2, batch_size=5))
    assert np.isfinite(look.features).all()
    assert np.ptp(look.features, axis=0).max() > 0
    assert all(0 <= each <= 1 for each in look.slice_doubts or [2])


def test_a_network_of_ones_own_needs_no_logits(store: Store):
    look = look_at_case(store, 0, looker(Own()))
    assert look.slice_doubts == pytest.approx(
        entropy_of(scores_of(store, 0, THRESHOLD)).mean((1, 2)).tolist(), abs=1e-4
    )


def test_what_is_no_number_is_named(store: Store):
    network = threshold_network(THRESHOLD)
    torch.nn.init.constant_(network.head.bias, float("nan"))
    with pytest.raises(NotFiniteError):
        look_at_case(store, 0, looker(network))


@pytest.mark.parametrize("slices", [1, 3, 4, 10])
def test_a_patients_vector_has_the_parts_of_a_scan_in_order(slices: int):
    features = np.linspace(0, 1, slices, dtype=np.float32)[:, None] if slices > 1 else np.ones((1, 1), np.float32)
    vector = vector_of([CaseLook(features, None, None)])
    assert vector.shape == (4,)
    assert (np.diff(vector) >= 0).all()
    if slices == 10:
        parts = [features[0:3], features[2:5], features[5:8], features[7:10]]
        assert vector == pytest.approx([part.mean() for part in parts])
    two = vector_of([CaseLook(features, None, None), CaseLook(3 * features, None, None)])
    assert two == pytest.approx(2 * vector)
