"""Blocks changed in space: against turns by hand, against the plane, and in millimetres where slices are thick."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import Generator

from jcl.augment.batches import augment_batch, place_batch
from jcl.augment.labelled import LabelledRanges
from jcl.augment.spatial import AffineRanges, random_affine, warp
from jcl.augment.volumetric import (
    TILT,
    augment_blocks,
    random_affine_3d,
    random_block_view,
    random_elastic_3d,
    warp_blocks,
)
from jcl.data.blocks import BlockBatch

NONE = AffineRanges(rotation=0.0, scale=0.0, translation=0.0)
CUBES = torch.ones(2)


def generator(seed: int = 0) -> Generator:
    return Generator().manual_seed(seed)


def smooth(*shape: int) -> torch.Tensor:
    noise = np.random.default_rng(0).random(shape)
    return torch.from_numpy(ndimage.gaussian_filter(noise, (0, 0, 1.5, 1.5, 1.5))).float()


def matrix(linear: np.ndarray, shift: tuple[float, float, float] = (0, 0, 0)) -> torch.Tensor:
    return torch.cat([torch.tensor(linear).float(), torch.tensor(shift).float()[:, None]], dim=1)[None]


def test_no_change_is_no_change():
    images, labels = smooth(2, 1, 5, 8, 6), torch.randint(0, 3, (2, 5, 8, 6))
    matrices = random_affine_3d(CUBES, NONE, generator=generator())
    warped, kept = warp_blocks(images, matrices, CUBES, labels=labels)
    assert torch.allclose(warped, images, atol=1e-5)
    assert torch.equal(kept, labels)


@pytest.mark.parametrize("aspect", [1.0, 2.5])
@pytest.mark.parametrize("plane", [(0, 1), (1, 2), (0, 2)])
def test_a_turn_is_one_of_the_body(plane, aspect):
    """scipy resamples in voxels, so that its matrix is that of millimetres between two changes of units."""
    angle = math.radians(15)
    turn = np.eye(3)
    first, second = plane
    turn[first, first] = turn[second, second] = math.cos(angle)
    turn[second, first], turn[first, second] = math.sin(angle), -math.sin(angle)
    image = smooth(1, 1, 9, 14, 11)
    ours = warp_blocks(image, matrix(turn), torch.tensor([aspect]))[0][0, 0].numpy()
    unit = np.diag([aspect, 1, 1])  # z, y, x
    in_voxels = np.linalg.inv(unit) @ turn[::-1, ::-1] @ unit
    centre = (np.array(image.shape[2:]) - 1) / 2
    theirs = ndimage.affine_transform(image[0, 0].numpy(), in_voxels, centre - in_voxels @ centre, order=1)
    inside = (slice(2, -2),) * 3
    assert np.abs(ours[inside] - theirs[inside])[theirs[inside] > 0].max() < 1e-4


def test_a_shift_is_a_share_of_each_side():
    image = torch.rand(1, 1, 8, 10, 12)
    moved = warp_blocks(image, matrix(np.eye(3), (2 * 3 / 12, 2 * 1 / 10, 2 * 2 / 8)), torch.tensor([4.0]))[0]
    assert torch.allclose(moved[..., :-2, :-1, :-3], image[..., 2:, 1:, 3:], atol=1e-5)
    assert not moved[..., -2:, :, :].any()


def test_a_turn_about_the_body_axis_is_that_of_each_slice():
    ranges = AffineRanges(rotation=40.0, scale=0.2, translation=0.1)
    image = smooth(1, 2, 4, 12, 16)
    flat = random_affine(1, ranges, generator=generator(3))
    linear = np.eye(3)
    linear[:2, :2] = flat[0, :, :2]
    ours = warp_blocks(image, matrix(linear, (*flat[0, :, 2].tolist(), 0.0)), torch.tensor([7.0]))[0]
    for number in range(4):
        assert torch.allclose(ours[:, :, number], warp(image[:, :, number], flat), atol=1e-5)


def test_what_is_drawn_lies_within_its_ranges():
    """The angle of a tilt is that between the body axis and where it goes."""
    ranges = AffineRanges(rotation=30.0, scale=0.0, translation=0.1)
    matrices = random_affine_3d(torch.ones(2000), ranges, generator=generator())
    rotations = matrices[:, :, :3]
    assert torch.allclose(rotations @ rotations.mT, torch.eye(3).expand(2000, 3, 3), atol=1e-5)
    assert torch.allclose(torch.linalg.det(rotations), torch.ones(2000), atol=1e-5)
    tilts = rotations[:, 2, 2].clamp(max=1).acos().rad2deg()
    assert 10 < tilts.max() < 30 * TILT * math.sqrt(2) + 0.1
    turns = torch.atan2(rotations[:, 1, 0], rotations[:, 0, 0]).rad2deg()
    assert 28 < turns.abs().max() < 33
    assert 0.19 < matrices[:, :, 3].abs().max() <= 0.2


def test_what_lies_around_a_block_comes_into_its_corners():
    """The middle of the whole, turned, is what the block turned with its surroundings is, by the same matrix."""
    whole, labels = smooth(1, 1, 16, 24, 20), torch.randint(0, 3, (1, 16, 24, 20))
    block, angle = (8, 10, 8), math.radians(30)
    turn = np.array([[math.cos(angle), -math.sin(angle), 0], [math.sin(angle), math.cos(angle), 0], [0, 0, 1]]) / 0.8
    shift = (0.25, -0.1, 0.125)  # in halves of the block's sides
    ours, turned = warp_blocks(whole, matrix(turn, shift), torch.tensor([2.0]), labels=labels, shape=block)
    halves = [s * b / w for s, b, w in zip(shift, reversed(block), reversed(whole.shape[2:]), strict=True)]
    theirs, expected = warp_blocks(whole, matrix(turn, tuple(halves)), torch.tensor([2.0]), labels=labels)
    middle = (slice(4, 12), slice(7, 17), slice(6, 14))
    assert ours.shape[2:] == block
    assert torch.allclose(ours, theirs[..., *middle], atol=1e-5)
    assert (turned == expected[..., *middle]).float().mean() > 0.99  # nearest: halves may be rounded otherwise
    alone = warp_blocks(whole[..., *middle], matrix(turn, shift), torch.tensor([2.0]))[0]
    assert (ours != 0).all()
    assert (alone == 0).float().mean() > 0.1


def test_a_batch_with_surroundings_is_cut_to_its_blocks():
    labels = torch.ones(2, 8, 12, 12, dtype=torch.int64)
    wide = BlockBatch(
        torch.ones(2, 1, 4, 6, 6), torch.rand(2), torch.arange(2), labels[:, :4, :6, :6], aspects=CUBES,
        surroundings=torch.ones(2, 1, 8, 12, 12), label_surroundings=labels,
    )  # fmt: skip
    ranges = LabelledRanges(affine=AffineRanges(rotation=45.0, scale=0.1), elastic=0.05)
    images, turned = augment_batch(wide, ranges, generator=generator(2))
    assert images.shape == (2, 1, 4, 6, 6)
    assert (images > 0.999).all()
    assert (turned == 1).all()
    placed = place_batch(wide, ranges, generator=generator(2))
    assert torch.equal(placed, images)
    bare = replace(wide, surroundings=None, label_surroundings=None)
    assert not augment_batch(bare, ranges, generator=generator(2))[0].all()


def test_thick_slices_are_not_tilted():
    ranges = AffineRanges(rotation=30.0, scale=0.1, translation=0.0)
    matrices = random_affine_3d(torch.tensor([3.0, 3.1]), ranges, generator=generator())
    assert matrices[0, 2, :2].abs().min() > 0
    assert not matrices[1, 2, :2].any()
    assert not matrices[1, :2, 2].any()
    assert matrices[1, 0, 1] != 0


def test_labels_go_with_the_image_and_none_is_made_up():
    labels = torch.zeros(2, 6, 16, 16, dtype=torch.int64)
    labels[:, 2:5, 4:12, 5:11] = 3
    ranges = LabelledRanges(affine=AffineRanges(), intensity=0.0)
    images, warped = augment_blocks(labels[:, None].float(), labels, CUBES, ranges, generator=generator(1))
    assert set(warped.unique().tolist()) == {0, 3}
    assert not torch.equal(warped, labels)
    agree = (images[:, 0].round() == warped) | (images[:, 0] % 3 != 0)  # trilinear only at borders
    assert agree.all()


def test_intensity_changes_a_block_alike_in_all_its_slices():
    image = torch.full((1, 1, 4, 8, 8), 0.5)
    ranges = LabelledRanges(affine=NONE, intensity=1.0)
    changed, _ = augment_blocks(
        image, torch.zeros(1, 4, 8, 8, dtype=torch.int64), CUBES[:1], ranges, generator=generator()
    )
    means = changed.mean((0, 1, 3, 4))
    assert (means - 0.5).abs().min() > 0.01
    assert means.std() < 0.02


def test_the_same_generator_gives_the_same_view():
    image = smooth(2, 1, 4, 8, 8)
    first, second = (random_block_view(image, CUBES, AffineRanges(), generator=generator(5)) for _ in range(2))
    assert torch.equal(first, second)
    assert not torch.equal(first[0], first[1])
    other = random_block_view(image, CUBES, AffineRanges(), generator=generator(6))
    assert not torch.equal(first, other)


def test_elastic_shifts_go_smoothly_through_what_was_drawn():
    """At the five points a side the shift is the drawn one, between them it has no kink; thick slices stay in plane."""
    aspects = torch.tensor([1.0, 5.0])
    shifts = random_elastic_3d(aspects, (9, 17, 13), 0.1, generator=Generator().manual_seed(3))
    drawn = (torch.rand(2, 3, 5, 5, 5, generator=Generator().manual_seed(3)) * 2 - 1) * 0.2
    drawn[1, 2] = 0
    assert shifts.shape == (2, 9, 17, 13, 3)
    assert torch.allclose(shifts[:, ::2, ::4, ::3].movedim(-1, 1), drawn, atol=1e-5)
    for axis in (1, 2, 3):
        steps = shifts.diff(dim=axis)
        assert steps.diff(dim=axis).abs().max() < steps.abs().max() * 1.5
    assert not shifts[1, ..., 2].any()
    assert shifts[0, ..., 2].any()


def test_elastic_shifts_move_image_and_labels_alike():
    images = torch.zeros(2, 1, 12, 16, 16)
    images[:, :, 4:8, 5:11, 5:11] = 1
    labels = (images[:, 0] > 0).long()
    still = AffineRanges(rotation=0.0, scale=0.0, translation=0.0)
    ranges = LabelledRanges(affine=still, elastic=0.15)
    aspects = torch.ones(2)
    moved, changed = augment_blocks(images, labels, aspects, ranges, generator=Generator().manual_seed(0))
    assert (changed != labels).any()
    assert ((moved[:, 0] > 0.5) != (changed > 0)).float().mean() < 0.02
    view = random_block_view(images, aspects, still, generator=Generator().manual_seed(0), elastic=0.15)
    assert torch.allclose(view, moved)
    without = random_block_view(images, aspects, still, generator=Generator().manual_seed(0))
    assert torch.allclose(without, images, atol=1e-5)
