"""Turned and scaled views: compared with an interpolation of our own, one view after the other."""

from functools import partial

import numpy as np
import pytest
import torch
from scipy import ndimage

from jcl.inference.predictor import part_scores
from jcl.inference.turned import Turned, views_of, volume_scores
from support.thresholds import threshold_network


def moved(image: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """(c, h, w) resampled at the places that a matrix of x and y from the centre gives; 0 outside."""
    height, width = image.shape[1:]
    rows, columns = np.mgrid[:height, :width]
    x, y = columns - (width - 1) / 2, rows - (height - 1) / 2
    there = np.einsum("ab,bij->aij", matrix, np.stack([x, y]))
    places = [there[1] + (height - 1) / 2, there[0] + (width - 1) / 2]
    padded = np.pad(image, ((0, 0), (2, 2), (2, 2)))
    return np.stack([ndimage.map_coordinates(c, [p + 2 for p in places], order=1, cval=0) for c in padded])


def test_views():
    assert views_of() == (((1.0, -0.0), (0.0, 1.0)),)
    views = views_of(tta=True)
    assert len(views) == len(set(views)) == 9
    assert len(views_of(tta=True, mirror=True)) == 18
    sizes = sorted({round(float(np.sqrt(abs(np.linalg.det(view)))), 6) for view in views})
    assert sizes == pytest.approx([1 / 1.1, 1, 1 / 0.9], abs=1e-6)
    angles = sorted({round(np.degrees(np.arctan2(view[1][0], view[1][1]))) for view in views})
    assert angles == [-10, 0, 10]
    assert {np.sign(np.linalg.det(view)) for view in views_of(mirror=True)} == {1, -1}


def test_the_mean_is_that_of_the_views_brought_back(monkeypatch):
    """On images that are not square, for a network that takes more than a pixel into account."""
    torch.manual_seed(0)
    network = torch.nn.Conv2d(1, 3, 3, padding=1)
    image = ndimage.gaussian_filter(np.random.default_rng(0).normal(size=(1, 20, 31)), (0, 2, 2)).astype(np.float32)
    views = views_of(tta=True, mirror=True)
    total, held = np.zeros((3, 20, 31)), np.zeros((1, 20, 31))
    for view in views:
        seen = moved(image, np.array(view)).astype(np.float32)
        with torch.no_grad():
            scores = network(torch.from_numpy(seen)[None]).softmax(1)[0].numpy()
        total += moved(scores, np.linalg.inv(view))
        held += moved(np.ones_like(held), np.linalg.inv(view))
    with torch.no_grad():
        found = Turned(network, views)(torch.from_numpy(image)[None]).softmax(1)[0].numpy()
    np.testing.assert_allclose(found, total / held, atol=1e-4)
    np.testing.assert_allclose(found.sum(0), 1, atol=1e-5)


def test_a_network_that_knows_no_sides_is_the_same_mirrored():
    network = threshold_network(0.5)
    images = torch.rand(2, 1, 16, 24)
    with torch.no_grad():
        plain, mirrored = network(images).softmax(1), Turned(network, views_of(mirror=True))(images).softmax(1)
    torch.testing.assert_close(plain, mirrored, atol=1e-3, rtol=0)


def test_what_is_not_finite_stays_so():
    class Broken(torch.nn.Module):
        def forward(self, images):
            return torch.full((1, 2, *images.shape[2:]), torch.nan)

    assert Turned(Broken(), views_of(mirror=True))(torch.rand(1, 1, 4, 4)).isnan().all()


def test_volumes_are_turned_before_blocks_are_cut_of_them():
    """Slice by slice, by an interpolation of our own; the windows of each view are those of the volume as it is."""
    torch.manual_seed(0)
    network = torch.nn.Conv3d(1, 3, 3, padding=1).eval()
    noise = np.random.default_rng(1).normal(size=(1, 6, 20, 31))
    volume = ndimage.gaussian_filter(noise, (0, 1, 2, 2)).astype(np.float32)
    how = {"batch_size": 2, "device": torch.device("cpu"), "precision": torch.float32}
    slide = partial(volume_scores, block=(4, 16, 16), **how)
    views = views_of(tta=True, mirror=True)
    total, held = np.zeros((6, 3, 20, 31)), np.zeros((1, 20, 31))
    for view in views:
        seen = np.stack([moved(volume[:, z], np.array(view)) for z in range(6)], axis=1).astype(np.float32)
        back = np.linalg.inv(view)
        total += np.stack([moved(scores.numpy(), back) for scores in slide(network, seen)])
        held += moved(np.ones_like(held), back)
    looks = Turned(network, views)
    found = np.stack([scores.numpy() for scores in slide(looks, volume)])
    np.testing.assert_allclose(found, total / held, atol=1e-4)
    plain = np.stack([scores.numpy() for scores in slide(network, volume)])
    np.testing.assert_allclose(np.stack(list(slide(Turned(network, views_of()), volume))), plain, atol=1e-6)
    parts = part_scores(looks, volume, {"padded": (20, 31), "block": [4, 16, 16]}, **how)
    np.testing.assert_allclose(np.concatenate([scores.numpy() for scores in parts]), found, atol=1e-6)
