"""MAE: its loss and its mask against loops, and what of a slice the network and its decoder see."""

import math
from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from jcl import backbones
from jcl.backbones.unet import UNet
from jcl.data.batches import SliceBatch
from jcl.errors import UsageError
from jcl.methods import build
from jcl.methods.mae import MAE, fitting_patch, masked_error, normalised, over_pixels, visible
from support.awake import awake
from support.training import assert_finite, assert_resumes_bit_for_bit, awkward, losses_of, slices


def make(**settings) -> MAE:
    torch.manual_seed(0)
    return MAE(UNet(width=4), **settings)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def slow_loss(restored, images, seen, patch: int, *, normalise: bool) -> float:
    """The equation, pixel by pixel in Python's numbers."""
    count, channels, height, width = images.shape
    of_slices = []
    for n in range(count):
        errors = []
        for c in range(channels):
            for y in range(height):
                for x in range(width):
                    if seen[n, 0, y, x] == 1:
                        continue
                    top, left = y // patch * patch, x // patch * patch
                    whole = images[n, c, top : top + patch, left : left + patch].flatten().tolist()
                    mean = math.fsum(whole) / len(whole)
                    variance = math.fsum((v - mean) ** 2 for v in whole) / len(whole)
                    target = images[n, c, y, x].item()
                    if normalise:
                        target = (target - mean) / math.sqrt(variance + 1e-6)
                    errors.append((restored[n, c, y, x].item() - target) ** 2)
        of_slices.append(math.fsum(errors) / len(errors))
    return math.fsum(of_slices) / count


@pytest.mark.parametrize("normalise", [True, False])
@pytest.mark.parametrize(("height", "width", "patch"), [(12, 12, 4), (10, 7, 3), (5, 9, 4)])
def test_the_loss_is_that_of_the_loop(height, width, patch, normalise):
    """Also where the last patches are smaller than the others, and with an even patch."""
    restored, images = (torch.rand(3, 2, height, width, generator=generator(seed)) for seed in (1, 2))
    images[0, 0, :patch, :patch] = 0.3
    seen = visible(images, (patch, patch), 0.5, generator=generator())
    target = normalised(images, (patch, patch)) if normalise else images
    got = masked_error(restored, target, seen).mean().item()
    assert got == pytest.approx(slow_loss(restored, images, seen, patch, normalise=normalise), rel=1e-4)


@pytest.mark.parametrize("settings", [{}, {"normalise": False, "patch": 5}, {"sparse": True}])
def test_the_methods_loss_is_of_what_its_network_makes_of_what_is_seen(settings):
    method, b = make(**settings).eval(), slices(3, size=24)
    for vector in method.empty:
        torch.nn.init.constant_(vector, 3.0)  # unlike any feature, so that one place more or less shows
    images, seen = method.views(b, generator())
    features = method.backbone.encode(images * seen)
    if settings.get("sparse"):
        features = by_hand(features, seen, list(method.empty))
    restored = method.restorer(method.backbone.decode(features))[..., :24, :24]
    patch = settings.get("patch", 4)
    wanted = slow_loss(restored, images, seen, patch, normalise=settings.get("normalise", True))
    assert method((images, seen), b)["loss"].item() == pytest.approx(wanted, rel=1e-4)


def by_hand(features, seen, vectors):
    """Level by level and place by place: the vector where no pixel below a place is seen; beyond the slice all is."""
    filled = []
    for level, vector in zip(features, vectors, strict=True):
        level = level.clone()
        side = 32 // level.shape[-1]  # of a slice of 24 x 24, padded
        for n in range(len(level)):
            for y in range(level.shape[-2]):
                for x in range(level.shape[-1]):
                    rows = range(y * side, (y + 1) * side)
                    columns = range(x * side, (x + 1) * side)
                    pixels = [seen[n, 0, r, c].item() if r < 24 and c < 24 else 1.0 for r in rows for c in columns]
                    if not any(pixels):
                        level[n, :, y, x] = vector.flatten()
        filled.append(level)
    return filled


@given(
    st.integers(1, 5), st.integers(2, 40), st.integers(2, 40), st.integers(1, 20), st.floats(0.01, 0.99), st.integers()
)
def test_the_mask_is_that_of_the_loop(count, height, width, patch, ratio, seed):
    """Whole patches, as many as the ratio says in each slice, one at least masked and one seen."""
    images = torch.zeros(count, 3, height, width)
    rows, columns = math.ceil(height / patch), math.ceil(width / patch)
    if rows * columns == 1:
        with pytest.raises(UsageError, match="patch"):
            visible(images, (patch, patch), ratio, generator=generator())
        return
    seen = visible(images, (patch, patch), ratio, generator=generator(seed % 2**32))
    assert seen.shape == (count, 1, height, width)
    expected = min(max(1, round(ratio * rows * columns)), rows * columns - 1)
    for of_slice in seen[:, 0]:
        values = {}
        for y in range(height):
            for x in range(width):
                values.setdefault((y // patch, x // patch), set()).add(of_slice[y, x].item())
        assert len(values) == rows * columns
        assert all(found in ({0.0}, {1.0}) for found in values.values())
        assert sum(found == {0.0} for found in values.values()) == expected


def test_every_patch_is_masked_as_often_and_slices_differ():
    seen = visible(torch.zeros(4000, 1, 4, 4), (2, 2), 0.5, generator=generator())
    shares = 1 - seen[:, 0, ::2, ::2].mean(0)
    assert torch.allclose(shares, torch.full((2, 2), 0.5), atol=0.04)
    sets = Counter(tuple(each.flatten().tolist()) for each in seen[:, 0, ::2, ::2])
    assert len(sets) == 6  # all ways to choose two of four


def test_a_patch_fits_the_slice():
    assert [fitting_patch((side, 999)) for side in (1, 7, 8, 23, 25, 64, 96, 192, 256, 320, 352, 512)] == [
        1, 1, 1, 2, 4, 8, 16, 32, 32, 32, 32, 64,
    ]  # fmt: skip


def test_values_of_patches_are_those_of_their_pixels():
    grid = torch.arange(6.0).view(1, 1, 2, 3)
    assert over_pixels(grid, (2, 2), (3, 5))[0, 0].tolist() == [[0, 0, 1, 1, 2], [0, 0, 1, 1, 2], [3, 3, 4, 4, 5]]


def test_what_is_masked_is_not_seen():
    """Of the input nothing under the mask reaches the output, though it is what has to be restored."""
    method, b = make().eval(), slices(3)
    images, seen = method.views(b, generator())
    shown = []
    method.backbone.encoder.register_forward_pre_hook(lambda _, given: shown.append(given[0]))
    method((images, seen), b)
    other = torch.where(seen == 1, images, torch.rand(images.shape, generator=generator(5)))
    method((other, seen), b)
    assert torch.equal(shown[0], shown[1])
    assert torch.equal(shown[0], images * seen)


def test_with_sparse_the_decoder_is_given_nothing_where_nothing_is_seen():
    method, b = make(sparse=True, mask_ratio=0.75, patch=16).eval(), slices(2)
    images, seen = method.views(b, generator())
    given = []
    method.backbone.decoder[-1].register_forward_pre_hook(lambda _, arguments: given.append(arguments[1]))
    method((images, seen), b)
    (skip,) = given
    hidden = (seen == 0).expand_as(skip)
    assert torch.equal(skip[hidden], method.empty[0].expand_as(skip)[hidden])
    assert not torch.equal(skip[~hidden], method.empty[0].expand_as(skip)[~hidden])


@pytest.mark.parametrize("name", backbones.available(2))
@pytest.mark.parametrize("sparse", [False, True])
def test_every_network_restores_in_encoder_and_whole_decoder(name, sparse):
    """Sides that no network divides, two channels; with large patches every level has places to fill."""
    torch.manual_seed(0)
    network = awake(backbones.load(name)(in_channels=2, classes=3, width=4))
    method = MAE(network, sparse=sparse, patch=34)
    b = SliceBatch(torch.rand(4, 2, 100, 70, generator=generator()), torch.linspace(0.1, 1, 4), torch.arange(4))
    losses_of(method, b)["loss"].backward()
    parts = tuple(f"{part}." for part in method.pretrained_modules)
    with_gradient = {n for n, p in network.named_parameters() if p.grad is not None and p.grad.any()}
    assert with_gradient == {n for n, _ in network.named_parameters() if n.startswith(parts)}
    assert network.submodule_names(network.blocks) == method.pretrained_modules
    assert len(method.empty) == (len(network.feature_channels) if sparse else 0)
    assert all(vector.grad.any() for vector in method.empty)


@pytest.mark.parametrize("name", awkward())
def test_awkward_batches(name):
    assert_finite(make(sparse=True), awkward()[name])


def test_resumes_bit_for_bit():
    assert_resumes_bit_for_bit(lambda: make(sparse=True))


def test_settings_that_cannot_be_meant():
    for settings in ({"mask_ratio": 0.0}, {"mask_ratio": 1.0}, {"patch": -1}):
        with pytest.raises(UsageError, match=next(iter(settings))):
            build("mae", UNet(width=4), settings)
    method = make(patch=64)
    with pytest.raises(UsageError, match=r"--method\.patch"):
        method.views(slices(2), generator())
