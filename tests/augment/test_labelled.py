"""The augmentation of fine-tuning: image and label stay in register, and what is set to 0 draws nothing."""

import torch

from jcl.augment.labelled import LabelledRanges, augment
from jcl.augment.spatial import AffineRanges, random_affine, warp_with_labels

RANGES = LabelledRanges(affine=AffineRanges(rotation=20, scale=0.2, translation=0.05), elastic=0.05)


def discs(count: int = 6) -> tuple[torch.Tensor, torch.Tensor]:
    """Images whose intensity is their label."""
    y, x = torch.meshgrid(torch.arange(48.0), torch.arange(40.0), indexing="ij")
    near = ((y - 22).square() + (x - 18).square()).sqrt()
    labels = ((near < 12).long() + (near < 6).long()).expand(count, -1, -1).contiguous()
    return labels[:, None].float(), labels


def test_elastic_image_and_label_stay_in_register() -> None:
    images, labels = discs()
    changed, moved = augment(images, labels, RANGES, generator=torch.Generator().manual_seed(0))
    assert (changed[:, 0] - moved).abs().mean() < 0.04  # the edges alone, where images are interpolated
    assert set(moved.unique().tolist()) == {0, 1, 2}
    assert moved.dtype == labels.dtype
    assert all((moved[a] != moved[b]).any() for a in range(6) for b in range(a))


def test_intensity_leaves_the_label_where_the_geometry_puts_it() -> None:
    images, labels = discs()
    strong = LabelledRanges(affine=RANGES.affine, elastic=RANGES.elastic, intensity=1.0)
    plain, wanted = augment(images, labels, RANGES, generator=torch.Generator().manual_seed(0))
    changed, moved = augment(images, labels, strong, generator=torch.Generator().manual_seed(0))
    assert torch.equal(moved, wanted)
    assert not torch.allclose(changed, plain, atol=0.05)


def test_without_elastic_and_intensity_it_is_the_papers() -> None:
    """The same draws as before there was anything else, so that runs of then go on with the same slices."""
    images, labels = discs()
    generator = torch.Generator().manual_seed(7)
    found = augment(images, labels, LabelledRanges(affine=RANGES.affine), generator=generator)
    other = torch.Generator().manual_seed(7)
    wanted = warp_with_labels(images, labels, random_affine(6, RANGES.affine, generator=other))
    assert all(torch.equal(a, b) for a, b in zip(found, wanted, strict=True))
    assert torch.equal(generator.get_state(), other.get_state())
