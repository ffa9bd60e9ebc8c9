"""Grids: resampling in plane."""

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from jcl.data.intensities import normalise
from jcl.data.resampling import prepare_parts, prepare_volume, resample_image, resample_label
from jcl.data.volumes import read_image


@settings(deadline=None, max_examples=40)
@given(
    st.tuples(st.integers(1, 4), st.integers(1, 40), st.integers(1, 40)),
    st.tuples(st.floats(0.3, 3), st.floats(0.3, 3)),
    st.floats(0.4, 3),
    st.integers(0, 99),
)
def test_resampling_keeps_range_and_extent(
    shape: tuple[int, int, int], spacing: tuple[float, float], target: float, seed: int
) -> None:
    array = np.random.default_rng(seed).random((2, *shape), np.float32)
    found, reached = resample_image(array, (7.0, *spacing), target)
    assert found.shape[:2] == array.shape[:2]
    for new, old, before, after in zip(found.shape[2:], shape[1:], spacing, reached[1:], strict=True):
        assert new == 1 or abs(new - old * before / target) <= 0.5 + 1e-9
        assert new * after == pytest.approx(old * before)
    assert reached[0] == 7
    for channel, source in zip(found, array, strict=True):
        assert source.min() <= channel.min() <= channel.max() <= source.max()
    labels = (array[0] * 4).astype(np.uint8)
    resampled = resample_label(labels, (7.0, *spacing), target)
    assert resampled.shape == found.shape[1:]
    assert set(np.unique(resampled)) <= set(np.unique(labels))


def test_resampling_is_that_of_pillow() -> None:
    """Pillow's own filter is another program for the same triangle."""
    from PIL import Image

    array = np.random.default_rng(0).random((1, 1, 50, 70), np.float32)
    for target in (1.7, 0.8):
        found, _ = resample_image(array, (1.0, 1.0, 1.0), target)
        size = (found.shape[3], found.shape[2])
        expected = np.asarray(Image.fromarray(array[0, 0]).resize(size, Image.Resampling.BILINEAR))
        np.testing.assert_allclose(found[0, 0], expected.clip(array.min(), array.max()), atol=1e-5)


def test_resampled_labels_are_the_largest_share() -> None:
    labels = np.random.default_rng(0).integers(0, 4, (20, 30, 34)).astype(np.uint8)
    found = resample_label(labels, (3.0, 1.0, 1.0), 1.6)
    shares = torch.nn.functional.interpolate(
        torch.stack([torch.from_numpy(labels == value) for value in range(4)], dim=1).double(),
        found.shape[1:], mode="bilinear", antialias=True,
    ).numpy()  # fmt: skip
    winners = shares.argmax(axis=1)
    two_best = np.sort(shares, axis=1)[:, -2:]
    clear = two_best[:, 1] - two_best[:, 0] > 1e-5
    assert clear.mean() > 0.99
    np.testing.assert_array_equal(found[clear], winners[clear])


def test_every_structure_of_a_few_pixels_survives() -> None:
    labels = np.zeros((1, 64, 64), np.uint8)
    for value in range(1, 8):
        labels[0, 8 * value : 8 * value + 3, 8 * value : 8 * value + 3] = value
    assert set(np.unique(resample_label(labels, (1.0, 1.0, 1.0), 2.0))) == set(range(8))


def test_without_a_target_nothing_changes() -> None:
    array = np.random.default_rng(0).random((1, 2, 5, 6), np.float32)
    found, reached = resample_image(array, (2.0, 0.9, 1.1), None)
    assert found is array
    assert reached == (2.0, 0.9, 1.1)


def test_prepare_volume_follows_the_recipe(tmp_path: Path) -> None:
    image = sitk.GetImageFromArray(np.random.default_rng(0).integers(0, 200, (3, 40, 50)).astype(np.int16))
    image.SetSpacing((1, 1, 5))
    sitk.WriteImage(image, str(tmp_path / "a.nrrd"))
    volume = read_image([tmp_path / "a.nrrd"])
    recipe = {"clip": [1.0, 99.0], "normalisation": "zscore", "spacing": 2.0}
    found, reached = prepare_volume(volume, recipe)
    expected, _ = resample_image(normalise(volume.array, "zscore"), volume.spacing, 2.0)
    np.testing.assert_array_equal(found, expected)
    assert reached == (5.0, 2.0, 2.0)


@pytest.mark.parametrize("spacing", [None, 1.4])
@pytest.mark.parametrize("method", ["minmax", "zscore"])
def test_parts_are_those_of_the_whole(tmp_path: Path, spacing: float | None, method: str) -> None:
    image = sitk.GetImageFromArray(np.random.default_rng(0).normal(0, 90, (7, 40, 50)).astype(np.float32))
    sitk.WriteImage(image, str(tmp_path / "a.nrrd"))
    volume = read_image([tmp_path / "a.nrrd"])
    recipe = {"clip": [2.0, 90.0], "normalisation": method, "spacing": spacing}
    whole, _ = prepare_volume(volume, recipe)
    parts = [part.copy() for part in prepare_parts(volume, recipe, 3)]
    assert [part.shape[1] for part in parts] == [3, 3, 1]
    np.testing.assert_array_equal(np.concatenate(parts, 1), whole)


@pytest.mark.parametrize(("slices", "context"), [(1, 1), (2, 2), (7, 1), (7, 3)])
@pytest.mark.parametrize("spacing", [None, 1.3])
@pytest.mark.parametrize("at_a_time", [1, 3, 100])
def test_parts_bring_their_neighbours(tmp_path, slices, context, spacing, at_a_time) -> None:
    array = np.random.default_rng(0).normal(50, 30, (slices, 9, 8)).astype(np.float32)
    image = sitk.GetImageFromArray(array)
    image.SetSpacing((1.0, 1.5, 6.0))
    sitk.WriteImage(image, str(tmp_path / "a.nrrd"))
    recipe = {"clip": [2.0, 90.0], "normalisation": "minmax", "spacing": spacing}
    whole, _ = prepare_volume(read_image([tmp_path / "a.nrrd"]), recipe)
    volume = read_image([tmp_path / "a.nrrd"])
    parts = [part.copy() for part in prepare_parts(volume, {**recipe, "context": context}, at_a_time)]
    assert [part.shape[1] for part in parts] == [min(at_a_time, slices - s) for s in range(0, slices, at_a_time)]
    seen = np.concatenate(parts, 1)
    assert seen.shape[:2] == (2 * context + 1, slices)
    for number in range(slices):
        for place, offset in enumerate(range(-context, context + 1)):
            np.testing.assert_array_equal(seen[place, number], whole[0, min(max(number + offset, 0), slices - 1)])
