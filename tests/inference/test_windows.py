"""Sliding windows: every voxel covered, weights as MONAI has them, and the same scores as of its own inferer."""

import itertools

import numpy as np
import pytest
import torch
from torch import nn

from jcl.backbones.unet3d import UNet3D
from jcl.inference.finite import NotFiniteError
from jcl.inference.windows import gaussian_weights, window_scores, window_starts

HOW = {"device": torch.device("cpu"), "precision": torch.float32}


class Window(nn.Module):
    """Two classes by the voxel itself and by its place in the window, so that overlaps differ."""

    dimensions = 3

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        place = torch.linspace(-1, 1, x[0, 0].numel()).view(x.shape[2:])
        return torch.cat([x, 3 * x[:, :1] * place], dim=1)


def scores_of(network: nn.Module, volume: np.ndarray, block, **more) -> np.ndarray:
    return torch.stack(list(window_scores(network, volume, block, **{"batch_size": 3, **HOW, **more}))).numpy()


def slowly(network: nn.Module, volume: np.ndarray, block) -> np.ndarray:
    """All windows into one volume of sums, in float64."""
    lacking = [max(0, b - n) for n, b in zip(volume.shape[1:], block, strict=True)]
    padded = np.pad(volume, [(0, 0), *((less // 2, less - less // 2) for less in lacking)])
    weights = gaussian_weights(block).double().numpy()
    total = np.zeros((2, *padded.shape[1:]))
    weight = np.zeros(padded.shape[1:])
    for start in itertools.product(*map(window_starts, padded.shape[1:], block)):
        at = tuple(slice(s, s + b) for s, b in zip(start, block, strict=True))
        with torch.no_grad():
            scores = network(torch.from_numpy(padded[(slice(None), *at)].copy())[None]).softmax(1)[0].double().numpy()
        total[(slice(None), *at)] += scores * weights
        weight[at] += weights
    inside = tuple(slice(less // 2, less // 2 + n) for less, n in zip(lacking, volume.shape[1:], strict=True))
    return (total / weight)[(slice(None), *inside)]


SHAPES = [(7, 9, 11), (4, 6, 8), (3, 20, 5), (1, 1, 1), (16, 6, 8), (5, 13, 8)]


@pytest.mark.parametrize("shape", SHAPES)
def test_the_same_as_with_all_in_memory(shape):
    volume = np.random.default_rng(0).normal(size=(1, *shape)).astype(np.float32)
    ours = scores_of(Window(), volume, (4, 6, 8))
    assert ours.shape == (shape[0], 2, *shape[1:])
    assert np.abs(ours.swapaxes(0, 1) - slowly(Window(), volume, (4, 6, 8))).max() < 1e-5


@pytest.mark.parametrize("shape", SHAPES)
def test_the_same_as_monai(shape):
    inferers = pytest.importorskip("monai.inferers")
    volume = np.random.default_rng(1).normal(size=(1, *shape)).astype(np.float32)
    network = Window()
    theirs = inferers.sliding_window_inference(
        torch.from_numpy(volume)[None], (4, 6, 8), 2, lambda x: network(x).softmax(1), overlap=0.5, mode="gaussian"
    )[0].numpy()
    assert np.abs(scores_of(network, volume, (4, 6, 8)).swapaxes(0, 1) - theirs).max() < 1e-4


def test_windows_cover_a_side_and_go_no_further():
    for extent, side in itertools.product(range(1, 40), range(1, 12)):
        starts = window_starts(extent, side)
        assert starts == sorted(set(starts))
        assert {place for start in starts for place in range(start, start + side)} >= set(range(extent))
        assert starts[-1] == max(0, extent - side)
        assert all(b - a <= max(1, side // 2) for a, b in itertools.pairwise(starts))


def test_a_network_of_voxels_is_itself():
    """Where every window says the same of a voxel, weights and overlaps change nothing."""
    volume = np.random.default_rng(2).normal(size=(2, 9, 10, 7)).astype(np.float32)
    head = nn.Conv3d(2, 3, 1)
    with torch.no_grad():
        whole = head(torch.from_numpy(volume)[None]).softmax(1)[0].numpy()
    assert np.abs(scores_of(head, volume, (4, 5, 3)).swapaxes(0, 1) - whole).max() < 1e-5


def test_slices_come_before_all_windows_are_computed():
    """Memory is bounded only if they are let go of."""
    seen: list[int] = []

    class Counted(Window):
        def forward(self, x):
            seen.append(len(x))
            return super().forward(x)

    slices = window_scores(Counted(), np.zeros((1, 40, 6, 8), np.float32), (4, 6, 8), batch_size=1, **HOW)
    for number, _ in enumerate(slices):
        assert len(seen) <= number // 2 + 1
    assert len(seen) == 19


def test_batches_change_nothing():
    torch.manual_seed(0)
    network = UNet3D(width=2, strides=((2, 2, 2),)).eval()
    volume = np.random.default_rng(3).random((1, 9, 12, 10), np.float32)
    one = scores_of(network, volume, (4, 6, 8), batch_size=1)
    assert np.abs(one - scores_of(network, volume, (4, 6, 8), batch_size=5)).max() < 1e-5


def test_what_is_not_a_number_is_said():
    with pytest.raises(NotFiniteError, match="NaN or infinite"):
        scores_of(Window(), np.full((1, 4, 6, 8), np.nan, np.float32), (4, 6, 8))
