"""Wrong outlines: against a loop over all pixels, and against what discs have to become."""

import dataclasses
import math

import numpy as np
import pytest
import torch

from jcl.augment.label_noise import KINDS, corrupt_labels
from jcl.config import FinetuneConfig
from jcl.data.batches import SliceBatch


def batch_of(labels: torch.Tensor, volumes: list[int] | None = None, depth: int = 40) -> SliceBatch:
    count = len(labels)
    return SliceBatch(
        images=torch.zeros(count, 1, *labels.shape[1:]),
        positions=torch.tensor([(k + 1) / depth for k in range(count)]),
        volumes=torch.tensor(volumes or [0] * count),
        labels=labels,
    )


def disc(side: int, radius: float, centre: tuple[float, float] | None = None) -> torch.Tensor:
    y, x = centre or (side / 2, side / 2)
    rows, columns = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    return ((rows - y) ** 2 + (columns - x) ** 2 <= radius**2).long()


def blobs(count: int, side: int, classes: int, seed: int) -> torch.Tensor:
    random = torch.Generator().manual_seed(seed)
    labels = torch.zeros(count, side, side, dtype=torch.long)
    for image in labels:
        for value in range(1, classes + 1):
            y, x, r = torch.rand(3, generator=random).tolist()
            image[disc(side, 1 + 6 * r, (y * side, x * side)) > 0] = value
    return labels


def slow(labels: np.ndarray, share: float, seed: int, volume: int, position: np.float32) -> np.ndarray:
    """The same, pixel by pixel, with the distance to every pixel of the structure or to all that are none."""
    random = np.random.default_rng((seed, volume, int(position.view(np.uint32))))
    result = labels.copy()
    for value in sorted(set(labels.flatten().tolist()) - {0}):
        wrong, grows, change = random.random() < share, random.random() < 0.5, random.uniform(0.1, 0.3)
        inside, outside = np.argwhere(labels == value), np.argwhere(labels != value)
        pixels = max(1.0, change * math.sqrt(len(inside) / math.pi))
        if not wrong:
            continue
        for y, x in outside if grows else inside:
            others = inside if grows else outside
            if min(math.hypot(y - v, x - u) for v, u in others) <= pixels:
                if grows:
                    result[y, x] = value
                elif result[y, x] == value:
                    result[y, x] = 0
    return result


def test_equals_a_loop_over_pixels():
    labels = blobs(6, 20, 3, seed=1)
    batch = batch_of(labels, volumes=[3, 3, 4, 4, 5, 5])
    found = corrupt_labels(batch, 0.7, seed=8).labels
    assert found is not None
    positions = batch.positions.numpy()
    for row, volume in enumerate(batch.volumes.tolist()):
        expected = slow(labels[row].numpy(), 0.7, 8, volume, positions[row])
        np.testing.assert_array_equal(found[row].numpy(), expected)
    assert not torch.equal(found, labels)


def test_a_disc_becomes_10_to_30_percent_larger_or_smaller():
    """Radius 40 becomes 44 to 52 or 28 to 36; a pixel's raggedness moves it by one at most."""
    found = corrupt_labels(batch_of(disc(128, 40).repeat(60, 1, 1)), 1.0, seed=0).labels
    assert found is not None
    radii = (found.sum((1, 2)) / math.pi).sqrt()
    grown, shrunk = radii[radii > 40], radii[radii < 40]
    assert len(grown) + len(shrunk) == 60
    assert 15 < len(grown) < 45  # 60 throws of a fair coin: outside of this once in 30,000 seeds
    assert 43 <= grown.min() <= grown.max() <= 53
    assert 27 <= shrunk.min() <= shrunk.max() <= 37
    assert grown.max() - grown.min() > 3
    assert shrunk.max() - shrunk.min() > 3


@pytest.mark.parametrize("share", [0.2, 0.5])
def test_the_share_is_that_of_the_structures(share):
    """400 structures: four deviations of the binomial are 0.08 and 0.1."""
    left, right = disc(48, 5, (24, 12)), 2 * disc(48, 5, (24, 36))
    labels = (left + right).repeat(200, 1, 1)
    found = corrupt_labels(batch_of(labels, depth=200), share, seed=3).labels
    assert found is not None
    halves = [(found[:, :, part] != labels[:, :, part]).flatten(1).any(1) for part in (slice(24), slice(24, None))]
    wrong = torch.stack(halves).float().mean()
    assert wrong == pytest.approx(share, abs=0.1)
    assert (halves[0] & ~halves[1]).any()  # each by itself
    assert (halves[1] & ~halves[0]).any()


def test_the_command_offers_these_kinds():
    (setting,) = [each for each in dataclasses.fields(FinetuneConfig) if each.name == "label_noise_kind"]
    assert setting.metadata["choices"] == KINDS


def test_none_is_the_batch_itself():
    batch = batch_of(blobs(2, 16, 2, seed=0))
    assert corrupt_labels(batch, 0.0, seed=1) is batch


def test_a_slice_is_the_same_in_any_batch_and_its_labels_are_not_written_to():
    labels = blobs(4, 24, 3, seed=2)
    before = labels.clone()
    together = corrupt_labels(batch_of(labels), 0.8, seed=1).labels
    batch = batch_of(labels)
    alone = SliceBatch(batch.images[2:3], batch.positions[2:3], batch.volumes[2:3], labels[2:3])
    assert together is not None
    assert torch.equal(corrupt_labels(alone, 0.8, seed=1).labels, together[2:3])
    assert torch.equal(labels, before)


def test_seed_case_and_position_change_it():
    labels = disc(48, 12).repeat(12, 1, 1)
    drawn = [
        corrupt_labels(batch_of(labels, volumes=[volume] * 12), 1.0, seed=seed).labels.sum((1, 2))
        for seed, volume in ((0, 0), (1, 0), (0, 1))
    ]
    assert all(len(set(sums.tolist())) > 3 for sums in drawn)
    assert not torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


def test_what_is_wrong_at_a_small_share_is_wrong_likewise_at_a_larger_one():
    labels = disc(32, 8).repeat(60, 1, 1)
    few, many = (corrupt_labels(batch_of(labels, depth=60), share, seed=0).labels for share in (0.3, 0.6))
    wrong = [(found != labels).flatten(1).any(1) for found in (few, many)]
    assert not (wrong[0] & ~wrong[1]).any()
    assert wrong[1].sum() > wrong[0].sum() > 0
    assert torch.equal(few[wrong[0]], many[wrong[0]])


def test_one_pixel_and_a_full_slice():
    """One pixel vanishes or becomes a cross of five; a structure without an outline stays."""
    point = torch.zeros(40, 9, 9, dtype=torch.long)
    point[:, 4, 4] = 1
    sums = set(corrupt_labels(batch_of(point), 1.0, seed=0).labels.sum((1, 2)).tolist())
    assert sums == {0, 5}
    full = torch.ones(3, 8, 8, dtype=torch.long)
    assert torch.equal(corrupt_labels(batch_of(full), 1.0, seed=0).labels, full)


def test_flipped_structures_are_whole_and_have_each_other_label_as_often():
    labels = blobs(400, 20, 3, seed=5)
    found = corrupt_labels(batch_of(labels, depth=400), 0.5, seed=2, kind="flip", classes=4).labels
    assert found is not None
    assert torch.equal(found == 0, labels == 0)
    became: dict[int, list[int]] = {1: [], 2: [], 3: []}
    for old, new in zip(labels, found, strict=True):
        for structure in became:
            values = new[old == structure].unique().tolist()
            assert len(values) <= 1
            became[structure] += values
    for structure, values in became.items():
        wrong = [value for value in values if value != structure]
        assert len(wrong) / len(values) == pytest.approx(0.5, abs=0.1)  # four deviations of the binomial
        assert set(wrong) == {1, 2, 3, 4} - {structure}
        assert all(wrong.count(value) / len(wrong) == pytest.approx(1 / 3, abs=0.14) for value in set(wrong))


def test_the_only_structure_is_flipped_to_the_background():
    labels = disc(16, 4).repeat(20, 1, 1)
    found = corrupt_labels(batch_of(labels), 1.0, seed=2, kind="flip", classes=1).labels
    assert found is not None
    assert not found.any()


def test_missing_structures_are_background_and_the_others_as_they_were():
    labels = blobs(200, 20, 3, seed=6)
    found = corrupt_labels(batch_of(labels, depth=200), 0.3, seed=4, kind="missing").labels
    assert found is not None
    assert set(found[found != labels].tolist()) == {0}
    kept = [(new[old == value] != 0).float().mean() for old, new in zip(labels, found, strict=True) for value in (1, 2)
            if (old == value).any()]  # fmt: skip
    assert {float(share) for share in kept} == {0.0, 1.0}
    assert 1 - sum(kept) / len(kept) == pytest.approx(0.3, abs=0.1)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_leaves_ignored_pixels_and_is_nested_and_repeats(kind: str):
    labels = blobs(60, 20, 2, seed=7)
    labels[:, :6] = 255
    few, many, again = (
        corrupt_labels(batch_of(labels, depth=60), share, seed=0, kind=kind, classes=2, ignore=255).labels
        for share in (0.3, 0.6, 0.6)
    )
    assert torch.equal(many, again)
    for found in (few, many):
        assert torch.equal(found == 255, labels == 255)
    wrong = [{(row, value) for row in range(60) for value in (1, 2) if not torch.equal(
        found[row] == value, labels[row] == value) and kind == "missing"} for found in (few, many)]  # fmt: skip
    assert wrong[0] <= wrong[1]
    assert (many != labels).sum() > (few != labels).sum() > 0
