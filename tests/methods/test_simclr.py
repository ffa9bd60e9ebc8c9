"""SimCLR against lightly and a loop."""

import pytest
import torch
from torch import nn

from jcl.backbones.unet import UNet
from jcl.losses.contrastive import info_nce, position_mask
from jcl.methods.simclr import SimCLR
from oracles.answers import PRECISIONS, Features, as_images, check, check_finite, given, hard_features, slices


def on_features(**settings) -> SimCLR:
    method = SimCLR(Features(), **settings)
    method.projector = nn.Flatten()
    return method


def loss_of(method, first, second):
    return method((as_images(torch.cat([first, second])),), slices(len(first)))["loss"]


@pytest.mark.parametrize(("dtype", "tolerance"), PRECISIONS)
def test_loss_and_gradients_are_lightlys(dtype, tolerance):
    t = given(dtype)
    loss = loss_of(on_features(), t["first"], t["second"])
    check("simclr", loss, {k: t[k] for k in ("first", "second")}, tolerance)


@pytest.mark.parametrize("temperature", [0.1, 0.5])
def test_loss_is_equation_1(temperature):
    t = given(torch.float64)
    views = [t["first"], t["second"]]
    n, terms = len(t["first"]), []
    for view in range(2):
        for i in range(n):
            z = views[view][i]

            def similarity(other, z=z):
                return torch.dot(z, other) / (z.norm() * other.norm()) / temperature

            rest = [views[v][k] for v in range(2) for k in range(n) if (v, k) != (view, i)]
            denominator = sum(similarity(other).exp() for other in rest)
            terms.append(-(similarity(views[1 - view][i]).exp() / denominator).log())
    wanted = sum(terms) / len(terms)
    got = loss_of(on_features(temperature=temperature), t["first"], t["second"])
    torch.testing.assert_close(got, wanted, rtol=0, atol=1e-12)


def test_is_positional_contrast_where_no_other_slice_is_near():
    """PCL (arXiv:2106.09157) with a threshold below the distance of any two slices."""
    t, b = given(torch.float64), slices()
    rows = torch.cat([t["first"], t["second"]])
    wanted = info_nce(rows, rows, position_mask(b.positions.repeat(2), 1e-6), temperature=0.1)
    torch.testing.assert_close(loss_of(on_features(), t["first"], t["second"]), wanted, rtol=0, atol=1e-12)


@pytest.mark.parametrize("temperature", [0.01, 0.1, 100.0])
@pytest.mark.parametrize(("first", "second"), hard_features())
def test_finite(first, second, temperature):
    method = on_features(temperature=temperature)
    check_finite(lambda a, b: loss_of(method, a, b), first, second)


def test_views_are_two_draws_of_each_slice_in_turn():
    method = SimCLR(UNet(width=4), rotation=0.0, scale=0.0, translation=0.1)
    b = slices(3)
    b.images.data = torch.arange(3.0)[:, None, None, None].expand(3, 1, 32, 32) + 1
    (view,) = method.views(b, torch.Generator().manual_seed(0))
    assert view.shape == (6, 1, 32, 32)
    assert view.amax(dim=(1, 2, 3)).tolist() == pytest.approx([1, 2, 3, 1, 2, 3])
    assert not torch.equal(view[:3], view[3:])
