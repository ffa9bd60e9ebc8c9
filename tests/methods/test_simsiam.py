"""SimSiam against lightly and a loop; where its gradient stops."""

import pytest
import torch
from torch import nn

from jcl.backbones.unet import UNet
from jcl.methods.simsiam import SimSiam
from oracles.answers import PRECISIONS, Features, as_images, check, check_finite, given, hard_features, linear, slices


def on_features(predictor: nn.Module) -> SimSiam:
    method = SimSiam(Features())
    method.projector, method.predictor = nn.Flatten(), predictor
    return method


def loss_of(method, first, second):
    return method((as_images(first), as_images(second)), slices(len(first)))["loss"]


@pytest.mark.parametrize(("dtype", "tolerance"), PRECISIONS)
def test_loss_and_gradients_are_lightlys(dtype, tolerance):
    t = given(dtype)
    loss = loss_of(on_features(linear(t["predictor"])), t["first"], t["second"])
    check("simsiam", loss, {k: t[k] for k in ("first", "second")}, tolerance)


def test_loss_is_equation_4():
    t = given(torch.float64)
    total = 0.0
    for z, other in ((t["first"], t["second"]), (t["second"], t["first"])):
        for row, target in zip(z, other, strict=True):
            p = row @ t["predictor"]
            total -= (p @ target / (p.norm() * target.norm())).item() / 2 / len(z)
    got = loss_of(on_features(linear(t["predictor"])), t["first"], t["second"])
    assert got.item() == pytest.approx(total, abs=1e-12)


def test_the_gradient_stops_at_the_targets():
    """With a predictor that lets none through there is none at all."""
    t = given(torch.float64)
    constant = nn.Sequential(nn.Flatten(), nn.Linear(8, 8, dtype=torch.float64))
    nn.init.zeros_(constant[1].weight)
    loss = loss_of(on_features(constant), t["first"], t["second"])
    for gradient in torch.autograd.grad(loss, [t["first"], t["second"]]):
        assert not gradient.any()


@pytest.mark.parametrize(("first", "second"), hard_features())
def test_finite(first, second):
    method = on_features(nn.Identity())
    check_finite(lambda a, b: loss_of(method, a, b), first, second)


def test_each_view_is_normalised_by_itself():
    """A view's projections do not depend on what the other view is."""
    torch.manual_seed(0)
    method = SimSiam(UNet(width=4), projection=16, bottleneck=8)
    seen = []
    method.projector.register_forward_hook(lambda module, inputs, output: seen.append(output.detach()))
    first, *others = torch.rand(3, 4, 1, 32, 32)
    for other in others:
        method((first, other), slices(4))
    assert torch.equal(seen[0], seen[2])
    assert not torch.equal(seen[1], seen[3])
    torch.testing.assert_close(seen[0].mean(0), torch.zeros(16), rtol=0, atol=1e-5)
    assert seen[0].std(0, correction=0).tolist() == pytest.approx([1.0] * 16, abs=0.02), "output is normalised too"
