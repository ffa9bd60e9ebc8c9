"""JCL on blocks: every loss against a slow loop over rows and voxels, and what its views and gradients are."""

import itertools
import math
from dataclasses import replace

import pytest
import torch
from torch import Generator, Tensor

from jcl import methods
from jcl.backbones.unet3d import UNet3D
from jcl.data.blocks import BlockBatch
from jcl.training.optim import set_learning_rate, sgd

STRIDES = {"isotropic": ((2, 2, 2), (2, 2, 2)), "thick": ((1, 2, 2), (2, 2, 2)), "flat": ((1, 2, 2), (1, 2, 2))}
THRESHOLD = 0.15


def blocks(n: int = 4, *, seed: int = 0, block=(8, 16, 16)) -> BlockBatch:
    """Blocks of noise; the first and the second lie near each other, in volumes of 20 and 30 slices."""
    depths = torch.tensor([20, 30, 20, 30])[:n] * 2
    return BlockBatch(
        images=torch.rand(n, 1, *block, generator=Generator().manual_seed(seed)),
        positions=torch.tensor([9, 15, 29, 55])[:n] / depths,
        volumes=torch.tensor([0, 1, 0, 1])[:n],
        depths=depths,
        aspects=torch.tensor([1.0, 2.0, 1.0, 5.0])[:n],
    )


def make(kind: str = "thick", **settings) -> torch.nn.Module:
    torch.manual_seed(0)
    backbone = UNet3D(width=2, strides=STRIDES[kind])
    return methods.build("jcl", backbone, {"projection": 4, "threshold": THRESHOLD, "blocks": 1, **settings})


def contrast_by_hand(rows: Tensor, near: list[list[bool]]) -> Tensor:
    """Equation 10 for rows (m, d) in float64, anchor by anchor; anchors without positives do not count."""
    m, losses = len(rows), []
    cosine = lambda i, j: torch.dot(rows[i], rows[j]) / (rows[i].norm() * rows[j].norm()) / 0.1  # noqa: E731
    for i in range(m):
        positives = [j for j in range(m) if j != i and near[i][j]]
        if not positives:
            continue
        below = torch.stack([cosine(i, k) for k in range(m) if k != i]).exp().sum().log()
        losses.append(-torch.stack([cosine(i, j) - below for j in positives]).mean())
    return torch.stack(losses).mean()


def near_by_hand(batch: BlockBatch, times: int) -> list[list[bool]]:
    positions = batch.positions.tolist() * times
    return [[abs(a - b) < THRESHOLD for b in positions] for a in positions]


@pytest.mark.parametrize("kind", STRIDES)
def test_the_losses_are_those_of_slow_loops(kind):
    method, batch = make(kind).eval(), blocks()
    for norm in method.modules():
        if isinstance(norm, torch.nn.BatchNorm3d):
            norm.running_var.fill_(0.5)
    views = method.views(batch, Generator().manual_seed(3))
    losses = method(views, batch)
    auxiliary, dominant = views
    n, near = len(batch.images), near_by_hand(batch, 2)
    with torch.no_grad():
        deep, features = method.backbone.encode(auxiliary)[-1], method.backbone.encode(dominant)
        decoded = method.backbone.decode(features, blocks=1)
        assert decoded.shape[2:] == deep.shape[2:]
        still, moved = slice(0, n), slice(n, None)
        images = torch.cat([method.auxiliary_instance(deep[moved]), method.dominant_instance(decoded[moved])])
        assert losses["global"].item() == pytest.approx(contrast_by_hand(images.double(), near).item(), rel=1e-4)
        voxels = torch.cat([method.auxiliary_pixel(deep[still]), method.dominant_pixel(decoded[still])]).double()
        places = list(itertools.product(*map(range, voxels.shape[2:])))
        dense = torch.stack([contrast_by_hand(voxels[(..., *place)], near) for place in places]).mean()
        assert losses["dense"].item() == pytest.approx(dense.item(), rel=1e-4)
        assert losses["equivariance"].item() == pytest.approx(equivariance_by_hand(features[-1][still], deep[still]))
    total = losses["global"] + 0.5 * losses["dense"] + losses["equivariance"]
    assert losses["loss"].item() == pytest.approx(total.item())


def equivariance_by_hand(small: Tensor, large: Tensor) -> float:
    """Half of a side: the mean of the two voxels in its place; an equal side: the voxel itself."""
    total = 0.0
    factors = [big // little for big, little in zip(large.shape[2:], small.shape[2:], strict=True)]
    assert max(factors) == 2
    for place in itertools.product(*map(range, small.shape[2:])):
        corner = [slice(p * f, (p + 1) * f) for p, f in zip(place, factors, strict=True)]
        total += (small[(..., *place)] - large[(..., *corner)].mean((2, 3, 4))).abs().sum().item()
    return total / small.numel()


def test_the_dominant_branch_sees_means_over_what_the_first_decoder_blocks_enlarge():
    for kind, factors in {"isotropic": (2, 2, 2), "thick": (2, 2, 2), "flat": (1, 2, 2)}.items():
        method, batch = make(kind), blocks()
        auxiliary, dominant = method.views(batch, Generator().manual_seed(0))
        assert torch.equal(auxiliary[:4], batch.images)
        sides = [range(side // by) for side, by in zip(batch.images.shape[2:], factors, strict=True)]
        assert tuple(dominant.shape[2:]) == tuple(map(len, sides))
        for place in itertools.islice(itertools.product(*sides), 0, None, 17):
            part = [slice(p * by, (p + 1) * by) for p, by in zip(place, factors, strict=True)]
            mean = batch.images[(..., *part)].mean((2, 3, 4))
            assert torch.allclose(dominant[(slice(0, 4), slice(None), *place)], mean, atol=1e-6)


def test_blocks_that_do_not_fit_are_padded():
    method, batch = make("thick"), blocks(block=(3, 9, 17))
    auxiliary, dominant = method.views(batch, Generator().manual_seed(0))
    assert tuple(auxiliary.shape[2:]) == (4, 12, 20)
    assert tuple(dominant.shape[2:]) == (2, 8, 12)
    assert math.isfinite(method((auxiliary, dominant), batch)["loss"].item())


def test_gradients_are_on_what_is_pre_trained_and_a_step_lowers_the_loss():
    method, batch = make(), blocks()
    optimizer = sgd(method.parameters(), weight_decay=0.0)
    set_learning_rate(optimizer, 0.02)
    losses = []
    for _ in range(8):
        optimizer.zero_grad()
        loss = method(method.views(batch, Generator().manual_seed(1)), batch)["loss"]
        loss.backward()
        losses.append(loss.item())
        optimizer.step()
    trained = {name for name, p in method.backbone.named_parameters() if p.grad is not None and p.grad.any()}
    parts = tuple(f"{part}." for part in method.pretrained_modules)
    assert trained == {name for name, _ in method.backbone.named_parameters() if name.startswith(parts)}
    assert losses[-1] < losses[0]


@pytest.mark.parametrize(
    "settings",
    [
        {"views": "paper", "pairing": "cross"},
        {"invariant": "intensity", "batch_statistics": "view"},
        {"dense_form": "byol", "global_source": "encoder", "hidden_units": "decoder"},
        {"dense_form": "mse", "dominant_pixel_projector": False, "resample": "align_corners"},
        {"connection": "ema"},
        {"stages": "two-full-size"},
        {"blocks": 0, "dense_weight": 0.0},
        {"blocks": 2},
    ],
)
def test_every_reading_of_the_paper_is_finite(settings):
    method, batch = make(**settings), blocks()
    views = method.views(batch, Generator().manual_seed(0))
    losses = method(views, batch)
    losses["loss"].backward()
    assert all(torch.isfinite(value) for value in losses.values())
    assert torch.equal(losses["loss"], method(views, batch)["loss"]) or settings.get("connection") == "ema"


@pytest.mark.parametrize("settings", [{}, {"invariant": "intensity"}, {"views": "paper", "pairing": "cross"}])
def test_views_have_in_their_corners_what_lies_around_the_blocks(settings):
    """Of ones: no zero comes in, and what keeps its place is the block."""
    wide = torch.ones(4, 1, 16, 32, 32)
    batch = replace(blocks(), images=wide[:, :, 4:12, 8:24, 8:24], surroundings=wide)
    method = make("isotropic", rotation=40.0, translation=0.05, **settings)
    for view in method.views(batch, Generator().manual_seed(1)):
        assert view.shape[2:] in {(8, 16, 16), (4, 8, 8)}
        if settings.get("invariant") != "intensity":
            assert (view > 0.999).all()
    bare = method.views(replace(batch, surroundings=None), Generator().manual_seed(1))
    assert any((view == 0).any() for view in bare)


def test_thick_blocks_are_not_tilted_in_views():
    """A block that is the same in each slice stays so under a turn about the body axis alone."""
    batch = blocks()
    flat = batch.images[:, :, :1].expand(-1, -1, 8, -1, -1).contiguous()
    method = make(blocks=0, rotation=30.0, scale=0.0, translation=0.0)
    same = BlockBatch(flat, batch.positions, batch.volumes, depths=batch.depths, aspects=torch.full((4,), 6.0))
    turned = method.views(same, Generator().manual_seed(0))[0][4:]
    assert torch.allclose(turned[:, :, 1], turned[:, :, 6], atol=1e-5)
    assert not torch.allclose(turned, flat, atol=1e-2)
