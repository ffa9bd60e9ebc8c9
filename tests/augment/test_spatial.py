"""Views: the geometry of the warps, and draws that depend on the generator alone."""

import math

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch.nn import functional as F

from jcl.augment.intensity import IntensityRanges, jitter
from jcl.augment.spatial import AffineRanges, random_affine, random_elastic, random_view, shrink, warp, warp_with_labels


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def matrix(angle: float = 0.0, zoom: float = 1.0, x: float = 0.0, y: float = 0.0) -> torch.Tensor:
    c, s = math.cos(angle) / zoom, math.sin(angle) / zoom
    return torch.tensor([[[c, -s, 2 * x], [s, c, 2 * y]]])


def test_identity_changes_nothing():
    image = torch.rand(2, 1, 8, 12)
    torch.testing.assert_close(warp(image, matrix().repeat(2, 1, 1)), image, atol=1e-6, rtol=0)


def test_translation_by_whole_pixels():
    image = torch.zeros(1, 1, 10, 20)
    image[0, 0, 4, 10] = 1
    moved = warp(image, matrix(x=0.1, y=0.2))  # looks 2 columns to the right and 2 rows below
    assert (moved[0, 0] == 1).nonzero().tolist() == [[2, 8]]


@pytest.mark.parametrize("shape", [(24, 24), (16, 32)])
def test_rotation_and_scale_equal_scipy(shape):
    """Also on images that are not square, where a rotation in grid units would shear."""
    height, width = shape
    image = torch.from_numpy(ndimage.gaussian_filter(np.random.default_rng(0).random(shape), 2)).float()
    angle, zoom = 0.4, 1.2
    got = warp(image[None, None], matrix(angle, zoom))[0, 0].numpy()
    rotation = np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]]) / zoom
    centre = (np.array(shape) - 1) / 2
    wanted = ndimage.affine_transform(image.numpy(), rotation, centre - rotation @ centre, order=1)
    margin = 8
    inside = np.s_[margin : height - margin + 1, margin : width - margin]
    np.testing.assert_allclose(got[inside], wanted[inside], atol=1e-4)


@pytest.mark.parametrize("shape", [(64, 64), (40, 96), (33, 17)])
def test_warp_equals_affine_grid_in_double_precision(shape):
    """Many random matrices at once: each image gets its own."""
    height, width = shape
    images = torch.from_numpy(ndimage.gaussian_filter(np.random.default_rng(1).random((12, 2, *shape)), (0, 0, 2, 2)))
    matrices = random_affine(12, AffineRanges(rotation=180, scale=0.5, translation=0.3), generator=generator())
    sheared = matrices.double() * torch.tensor([[1, height / width, 1], [width / height, 1, 1]])
    grid = F.affine_grid(sheared, [12, 1, height, width], align_corners=False)
    wanted = F.grid_sample(images, grid, padding_mode="zeros", align_corners=False)
    torch.testing.assert_close(warp(images.float(), matrices), wanted.float(), atol=1e-5, rtol=0)


def test_a_large_batch_is_warped_in_pieces_with_the_same_result():
    images, matrices = torch.rand(5, 2, 640, 480), random_affine(5, AffineRanges(), generator=generator())
    one_by_one = [warp(image[None], m[None]) for image, m in zip(images, matrices, strict=True)]
    assert torch.equal(warp(images, matrices), torch.cat(one_by_one))


def test_labels_follow_images():
    image = torch.zeros(1, 1, 32, 32)
    image[..., 8:20, 10:26] = 1
    labels = (image[:, 0] > 0).long() * 3
    warped, warped_labels = warp_with_labels(image, labels, matrix(0.3, 1.1, 0.05, -0.05))
    assert set(warped_labels.unique().tolist()) == {0, 3}
    agreement = ((warped[:, 0] > 0.5) == (warped_labels == 3)).float().mean()
    assert agreement > 0.98


def test_draws_come_from_the_generator_alone():
    torch.manual_seed(1)
    first = random_affine(5, AffineRanges(), generator=generator())
    torch.manual_seed(2)
    assert torch.equal(first, random_affine(5, AffineRanges(), generator=generator()))
    assert not torch.equal(first, random_affine(5, AffineRanges(), generator=generator(1)))
    assert len(first.unique(dim=0)) == 5


def test_draws_stay_in_their_ranges_and_fill_them():
    ranges = AffineRanges(rotation=20, scale=0.2, translation=0.1)
    drawn = random_affine(4000, ranges, generator=generator())
    zoom = 1 / drawn[:, 0, :2].norm(dim=1)
    angle = torch.rad2deg(torch.atan2(drawn[:, 1, 0], drawn[:, 0, 0]))
    for values, low, high in (
        (zoom, 0.8, 1.2),
        (angle, -20, 20),
        (drawn[:, 0, 2], -0.2, 0.2),
        (drawn[:, 1, 2], -0.2, 0.2),
    ):
        assert low - 1e-3 <= values.min() < low + (high - low) * 0.02
        assert high + 1e-3 >= values.max() > high - (high - low) * 0.02
    assert (torch.linalg.det(drawn[:, :, :2]) > 0).all(), "a mirrored view"


def test_jitter_keeps_padding_and_places():
    images = torch.rand(4, 1, 16, 16) + 0.01
    images[..., :4] = 0
    ranges = IntensityRanges(noise=0.0)
    changed = jitter(images, ranges, generator=generator())
    assert not changed[..., :4].any()
    inside, before = changed[..., 4:].flatten(1), images[..., 4:].flatten(1)
    assert not torch.equal(inside, before)
    # without noise the order of the intensities stays, in every image
    assert torch.equal(inside.argsort(1), before.argsort(1))
    assert torch.equal(jitter(images, ranges, generator=generator()), changed)


def test_jitter_equals_its_formula():
    """Pixel by pixel in double precision, with the same draws."""
    ranges = IntensityRanges(brightness=0.2, contrast=0.4, gamma=0.5, noise=0.1)
    images = torch.rand(3, 2, 9, 7) - 0.1
    images[:, :, 2:4] = 0
    random = generator(5)
    draws = torch.rand(4, 3, generator=random).double()
    noise = torch.randn(images.shape, generator=random).double()
    got = jitter(images, ranges, generator=generator(5))
    for n in range(3):
        gamma, contrast, brightness = (float(2 * draws[i, n] - 1) for i in range(3))
        pixels = images[n].double()
        curved = torch.where(pixels > 0, pixels.clamp(min=0) ** math.exp(gamma * 0.5), pixels)
        wanted = (curved - curved.mean()) * (1 + contrast * 0.4) + curved.mean() + brightness * 0.2
        wanted += noise[n] * draws[3, n] * 0.1
        wanted[pixels == 0] = 0
        torch.testing.assert_close(got[n], wanted.float(), atol=1e-5, rtol=0)


def test_views_leave_their_images_as_they_were():
    images = torch.rand(2, 1, 8, 8)
    before = images.clone()
    jitter(images, IntensityRanges(), generator=generator())
    warp(images, matrix(0.3).repeat(2, 1, 1))
    assert torch.equal(images, before)


def test_shrink_takes_means():
    image = torch.arange(16.0).view(1, 1, 4, 4)
    assert shrink(image, 2)[0, 0].tolist() == [[2.5, 4.5], [10.5, 12.5]]
    assert shrink(image, 1) is image


def test_elastic_shifts_are_smooth_bounded_and_their_own_for_each_image():
    shifts = random_elastic(3, (40, 60), 0.05, generator=torch.Generator().manual_seed(0))
    assert shifts.shape == (3, 40, 60, 2)
    assert shifts.abs().max() < 1.2 * 2 * 0.05  # cubic curves overshoot their points a little
    assert shifts.abs().max() > 0.05
    assert shifts.diff(dim=1).abs().max() < 0.03
    assert not torch.allclose(shifts[0], shifts[1])


def test_shifts_move_pixels_by_hand():
    images = torch.zeros(1, 1, 8, 8)
    images[0, 0, 4, 4] = 1
    still = torch.tensor([[[1.0, 0, 0], [0, 1, 0]]])
    shifts = torch.zeros(1, 8, 8, 2)
    shifts[..., 0] = 2 * 3 / 8  # each place is read three pixels to its right
    moved = warp(images, still, shifts=shifts)
    assert moved[0, 0, 4, 1] == pytest.approx(1, abs=1e-5)
    assert moved.sum() == pytest.approx(1, abs=1e-4)


def test_a_view_is_deformed_only_when_asked():
    images = torch.rand(2, 1, 32, 32)
    plain, again, deformed = (
        random_view(images, AffineRanges(), generator=torch.Generator().manual_seed(1), elastic=elastic)
        for elastic in (0.0, 0.0, 0.1)
    )
    assert torch.equal(plain, again)
    assert not torch.allclose(plain, deformed)
