"""Linear interpolation without aliasing, beside PyTorch's."""

import subprocess
import sys

import numpy as np
import pytest
import torch

from jcl.data.interpolation import interpolate, make_taps


@pytest.mark.parametrize(("old", "new"), [(9, 9), (9, 10), (9, 31), (40, 17), (40, 20), (3, 1), (1, 4), (200, 3)])
def test_taps_are_those_of_pytorch(old: int, new: int) -> None:
    """Each column of the identity, resampled, is what one value of the source has a share in."""
    taps = make_taps(old, new)
    found = np.zeros((new, old))
    for places, weights in zip(taps.places, taps.weights, strict=True):
        found[np.arange(new), places] += weights
    identity = torch.eye(old, dtype=torch.float64)[None, None]
    expected = torch.nn.functional.interpolate(identity, (new, old), mode="bilinear", antialias=True)[0, 0].numpy()
    np.testing.assert_allclose(found, expected, atol=1e-6)
    np.testing.assert_allclose(found.sum(1), 1, atol=1e-6)


@pytest.mark.parametrize("shape", [(45, 61), (90, 20), (33, 61), (45, 7), (1, 1)])
@pytest.mark.parametrize("slices", [1, 60])
def test_slices_are_those_of_pytorch(shape: tuple[int, int], slices: int) -> None:
    array = np.random.default_rng(0).random((slices, 45, 61), np.float32)
    out = np.full((slices, *shape), np.nan, np.float32)
    interpolate(array, (make_taps(45, shape[0]), make_taps(61, shape[1])), out)
    expected = torch.nn.functional.interpolate(
        torch.from_numpy(array)[None].double(), shape, mode="bilinear", antialias=True
    )
    np.testing.assert_allclose(out, expected[0].numpy(), atol=1e-6)


def test_a_part_alone_gives_what_the_whole_gives() -> None:
    """Where only a part of a slice is not 0, working on this part changes not a bit."""
    random = np.random.default_rng(0)
    for old, new in ((40, 52), (40, 19), (40, 40), (7, 3)):
        values = np.zeros((1, old, 1), np.float32)
        first, last = sorted(random.integers(0, old, 2).tolist())
        values[0, first : last + 1, 0] = random.random(last + 1 - first)
        taps, columns = make_taps(old, new), make_taps(1, 1)
        whole = np.empty((1, new, 1), np.float32)
        interpolate(values, (taps, columns), whole)
        there, source, part_taps = taps.of_part(first, last)
        part = np.empty_like(whole[:, there])
        interpolate(values[:, source], (part_taps, columns), part)
        np.testing.assert_array_equal(part, whole[:, there])
        assert not np.delete(whole, np.arange(there.start, there.stop), axis=1).any()


def test_preparing_loads_neither_pytorch_nor_pydicom() -> None:
    """Each of prepare's processes would spend longer on loading them than on several volumes."""
    code = "import sys, jcl.stages.prepare; print(sorted({'torch', 'pydicom', 'scipy', 'rich'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
