"""SimTriplet: its neighbours, its loss and gradient against loops, and its stop-gradient."""

import math

import pytest
import torch

from jcl.augment.spatial import random_view
from jcl.backbones.unet import UNet
from jcl.data.batches import SliceBatch
from jcl.data.sampler import BatchSampler
from jcl.errors import UsageError
from jcl.methods.simtriplet import SimTriplet, neighbours
from support.training import assert_finite, assert_resumes_bit_for_bit, awkward, losses_of, slices


def make(**settings) -> SimTriplet:
    torch.manual_seed(0)
    return SimTriplet(UNet(width=4), **{"projection": 16, "bottleneck": 8, **settings})


def batch() -> SliceBatch:
    """Six slices of two volumes: 0 and 2 are neighbours, 2 and 4 are nearer; 1 and 3 are far apart; 5 is alone."""
    b = slices()
    return SliceBatch(b.images, torch.tensor([0.50, 0.20, 0.58, 0.60, 0.62, 0.55]), torch.tensor([1, 2, 1, 2, 1, 3]))


def test_neighbours_by_hand():
    b = batch()
    rows, found = neighbours(b.positions, b.volumes, 0.1)
    assert found.tolist() == [True, False, True, False, True, False]
    assert [rows[i].item() for i in (0, 2, 4)] == [2, 4, 2]
    rows, found = neighbours(b.positions, b.volumes, 0.4)
    assert found.tolist() == [True, True, True, True, True, False]
    assert [rows[i].item() for i in (1, 3)] == [3, 1]
    assert not neighbours(b.positions, b.volumes, 0.0)[1].any()


def test_neighbours_never_cross_volumes():
    generator = torch.Generator().manual_seed(0)
    for _ in range(50):
        volumes = torch.randint(5, (16,), generator=generator)
        positions = torch.randint(1, 21, (16,), generator=generator) / 20
        rows, found = neighbours(positions, volumes, 0.1)
        for i in range(16):
            others = [
                abs(positions[i] - positions[j]).item()
                for j in range(16)
                if volumes[j] == volumes[i] and positions[j] != positions[i]
            ]
            assert found[i].item() == (bool(others) and min(others) < 0.1001)
            if found[i]:
                assert volumes[rows[i]] == volumes[i]
                assert abs(positions[i] - positions[rows[i]]).item() == min(others)


def test_an_eighth_of_the_slices_find_a_neighbour():
    """What the docstring says: 20 volumes of 20 slices, 16 a batch."""
    positions, volumes = torch.arange(1, 21).repeat(20) / 20, torch.arange(20).repeat_interleave(20)
    order = BatchSampler([0] * 400, 16, seed=0)
    shares = [neighbours(positions[b], volumes[b], 0.1)[1].float().mean() for e in range(20) for b in order.epoch(e)]
    assert torch.stack(shares).mean().item() == pytest.approx(1 / 8, abs=0.01)


def slow_loss(method: SimTriplet, b: SliceBatch, *, stop: bool = True) -> torch.Tensor:
    """The triplets of the paper one by one, with the neighbours of `batch`."""
    (views,) = method.views(b, torch.Generator().manual_seed(0))
    z = method.projector(method.backbone.encode(views)[-1])
    p = method.predictor(z)
    targets = z.detach() if stop else z

    def attract(i: int, j: int) -> torch.Tensor:
        return -(p[i] @ targets[j]) / (p[i].norm() * targets[j].norm())

    total = torch.zeros((), dtype=torch.float64)
    for i in range(6):
        total = total + attract(i, i + 6) / 2 + attract(i + 6, i) / 2
    for i, j in ((0, 2), (2, 4), (4, 2)):
        total = total + attract(i, j + 6) / 2 + attract(j + 6, i) / 2
    return total / 6


def gradient(method: SimTriplet, loss: torch.Tensor) -> torch.Tensor:
    method.zero_grad()
    loss.backward()
    return torch.cat([p.grad.flatten() for p in method.parameters() if p.grad is not None])


def test_loss_and_gradient_are_those_of_the_paper():
    method, b = make().double(), batch()
    b = SliceBatch(b.images.double(), b.positions, b.volumes)
    losses = losses_of(method, b)
    wanted = slow_loss(method, b)
    assert losses["loss"].item() == pytest.approx(wanted.item(), rel=1e-10)
    assert losses["paired"].item() == 0.5
    assert losses["loss"].item() == pytest.approx(losses["intra"].item() + losses["inter"].item())
    got = gradient(method, losses["loss"])
    torch.testing.assert_close(got, gradient(method, wanted), rtol=1e-6, atol=1e-9)
    assert not torch.allclose(got, gradient(method, slow_loss(method, b, stop=False)), rtol=1e-2)


@pytest.mark.parametrize("statistics", ["joint", "view"])
def test_a_neighbour_of_every_slice_from_the_store(statistics):
    """The program's triplets one by one, (D(p1, z2) + D(p2, z1) + D(p1, z3) + D(p3, z1)) / 2."""
    method = make(neighbours="store", batch_statistics=statistics).double()
    b = slices()
    b = SliceBatch(b.images.double(), b.positions, b.volumes, neighbours=b.neighbours.double())
    (views,) = method.views(b, torch.Generator().manual_seed(0))
    generator = torch.Generator().manual_seed(0)
    for rows, images in zip(views.chunk(3), (b.images, b.images, b.neighbours), strict=True):
        assert torch.equal(rows, random_view(images, method.affine, generator=generator))
    parts = views.chunk(3) if statistics == "view" else (views,)
    z = [method.projector(method.backbone.encode(part)[-1]) for part in parts]
    p = torch.cat([method.predictor(part) for part in z])
    z = torch.cat(z).detach()
    total = torch.zeros((), dtype=torch.float64)
    for i in range(6):
        for j, k in ((i, i + 6), (i + 6, i), (i, i + 12), (i + 12, i)):
            total = total - (p[j] @ z[k]) / (p[j].norm() * z[k].norm()) / 2
    got = method((views,), b)
    assert got["loss"].item() == pytest.approx(total.item() / 6, rel=1e-10)
    assert got["paired"] == 1
    torch.testing.assert_close(gradient(method, got["loss"]), gradient(method, total / 6), rtol=1e-6, atol=1e-9)


def test_batch_statistics_of_each_view():
    """With the neighbours of the batch too: each of the two views is normalised by itself."""
    found = {}
    for statistics in ("view", "joint"):
        method, rows = make(batch_statistics=statistics), set()
        for layer in method.modules():
            if isinstance(layer, torch.nn.modules.batchnorm._BatchNorm):
                layer.register_forward_pre_hook(lambda _, inputs, rows=rows: rows.add(len(inputs[0])))
        losses_of(method, batch())
        found[statistics] = rows
    assert found == {"view": {6}, "joint": {12}}


def test_the_heads_are_those_of_the_program():
    """Three layers of 2,048 and a predictor of 512; its biases before batch normalisations are taken out by these."""
    method = SimTriplet(UNet(width=4))
    assert [(m.in_features, m.out_features) for m in method.projector if isinstance(m, torch.nn.Linear)] == [
        (64, 2048),
        (2048, 2048),
        (2048, 2048),
    ]
    assert [(m.in_features, m.out_features) for m in method.predictor if isinstance(m, torch.nn.Linear)] == [
        (2048, 512),
        (512, 2048),
    ]
    assert method.projector[-1].affine
    assert method.neighbourhood is None
    assert make(neighbours="store", neighbourhood=0.2).neighbourhood == 0.2


@pytest.mark.parametrize("settings", [{"neighbours": "volume"}, {"batch_statistics": "each"}])
def test_unknown_values_are_named(settings):
    with pytest.raises(UsageError, match=f"{next(iter(settings))} is .*; it can be"):
        make(**settings)


def test_without_neighbours_it_is_simsiam():
    method, b = make(), awkward()["one slice of each volume"]
    losses = losses_of(method, b)
    assert losses["paired"] == 0
    assert losses["inter"] == 0
    assert losses["loss"] == losses["intra"]
    assert -1 <= losses["loss"].item() <= 1


def test_a_perfect_predictor_gives_minus_two():
    """All slices the same and all paired: both terms at their least."""
    b = SliceBatch(
        torch.rand(1, 1, 64, 64).repeat(4, 1, 1, 1), torch.tensor([0.1, 0.15, 0.2, 0.25]), torch.zeros(4).long()
    )
    method = make(rotation=0.0, scale=0.0, translation=0.0).eval()
    method.predictor = torch.nn.Identity()
    assert losses_of(method, b)["loss"].item() == pytest.approx(-2, abs=1e-5)
    assert math.isclose(losses_of(method, b)["feature_std"].item(), 0, abs_tol=1e-3)


@pytest.mark.parametrize("name", awkward())
def test_finite_for_awkward_batches(name):
    losses = assert_finite(make(neighbourhood=1.0), awkward()[name])
    assert losses["paired"] == (name not in ("one slice of each volume", "all at one position"))


def test_resumes_bit_for_bit():
    assert_resumes_bit_for_bit(make)
    assert_resumes_bit_for_bit(lambda: make(neighbours="store", batch_statistics="view"))
