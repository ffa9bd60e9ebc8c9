"""BYOL against lightly and a loop; its teacher."""

import copy

import pytest
import torch
from torch import nn

from jcl.backbones.unet import UNet
from jcl.methods.byol import BYOL
from jcl.training.optim import set_learning_rate, sgd
from oracles.answers import PRECISIONS, Features, as_images, check, check_finite, given, hard_features, linear, slices


def on_features(predictor: nn.Module, teacher: nn.Module) -> BYOL:
    method = BYOL(Features())
    method.projector, method.predictor, method.teacher_projector = nn.Flatten(), predictor, teacher
    return method


def make() -> BYOL:
    torch.manual_seed(0)
    return BYOL(UNet(width=4), projection=16, hidden=32)


def loss_of(method, first, second):
    return method((as_images(first), as_images(second)), slices(len(first)))["loss"]


@pytest.mark.parametrize(("dtype", "tolerance"), PRECISIONS)
def test_loss_and_gradients_are_lightlys(dtype, tolerance):
    t = given(dtype)
    loss = loss_of(on_features(linear(t["predictor"]), linear(t["teacher"])), t["first"], t["second"])
    check("byol", loss, {k: t[k] for k in ("first", "second")}, tolerance)


def test_loss_is_the_squared_distance_of_unit_vectors():
    """Equation 2 before it is written with a cosine."""
    t = given(torch.float64)
    total = 0.0
    for z, other in ((t["first"], t["second"]), (t["second"], t["first"])):
        for row, target_row in zip(z, other, strict=True):
            q, target = row @ t["predictor"], target_row @ t["teacher"]
            total += (q / q.norm() - target / target.norm()).square().sum().item() / len(z)
    got = loss_of(on_features(linear(t["predictor"]), linear(t["teacher"])), t["first"], t["second"])
    assert got.item() == pytest.approx(total, abs=1e-12)


@pytest.mark.parametrize(("first", "second"), hard_features())
def test_finite(first, second):
    method = on_features(nn.Identity(), nn.Flatten())
    check_finite(lambda a, b: loss_of(method, a, b), first, second)


def test_the_teacher_starts_as_the_student_and_is_moved_by_nothing_but_the_average():
    method = make()
    before = {k: v.clone() for k, v in method.named_parameters() if k.startswith("teacher_")}
    assert all(torch.equal(v, method.get_parameter(k.removeprefix("teacher_"))) for k, v in before.items())
    optimizer = sgd(method.parameters(), weight_decay=0.1)
    set_learning_rate(optimizer, 0.1)
    method(tuple(torch.rand(2, 4, 1, 32, 32)), slices(4))["loss"].backward()
    optimizer.step()
    for name, old in before.items():
        parameter = method.get_parameter(name)
        assert parameter.grad is None
        assert torch.equal(parameter, old), "weight decay has no hold on it"
    method.after_step(0.5)
    share = 1 - 0.998  # momentum half way from 0.996 to 1
    moved = 0
    for name, old in before.items():
        student = method.get_parameter(name.removeprefix("teacher_"))
        torch.testing.assert_close(method.get_parameter(name), old + share * (student - old), rtol=1e-5, atol=1e-7)
        moved += not torch.equal(method.get_parameter(name), old)
    assert moved > len([k for k in before if "encoder" in k])


def test_targets_come_from_the_teacher():
    """The whole forward pass again, with a teacher that is another network than the student."""
    method, views = make(), torch.rand(2, 4, 1, 32, 32)
    with torch.no_grad():
        for name, parameter in method.named_parameters():
            if name.startswith("teacher_"):
                parameter.add_(0.1 * torch.randn_like(parameter))
    total = 0.0
    for view, other in (views, views.flip(0)):
        q = method.predictor(method.projector(method.backbone.encode(view)[-1]))
        target = method.teacher_projector(method.teacher_backbone.encode(other)[-1])
        total += 2 - 2 * nn.functional.cosine_similarity(q, target).mean().item()
    assert method(tuple(views), slices(4))["loss"].item() == pytest.approx(total, rel=1e-5)


def test_at_the_end_of_the_run_the_teacher_stays():
    method = make()
    before = copy.deepcopy(method.teacher_projector.state_dict())
    nn.init.zeros_(method.projector[2][0].weight)
    method.after_step(1.0)
    assert all(torch.equal(v, before[k]) for k, v in method.teacher_projector.state_dict().items())
