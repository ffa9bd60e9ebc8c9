"""What every semi-supervised technique has to do, for each that is there."""

import copy
import math

import pytest
import torch
from torch import Generator, nn

from jcl import semi
from jcl.augment import labelled as augmentation
from jcl.augment.labelled import LabelledRanges
from jcl.augment.spatial import AffineRanges
from jcl.data.manifest import IGNORE
from jcl.errors import UsageError
from jcl.kernels.exchange import use_kernels
from jcl.limits import SEMI
from jcl.training.optim import adam, set_learning_rate
from methods.test_no_float64 import Float64Refused
from methods.test_no_sync import Waits
from support.onkernels import lanes
from support.techniques import BEGINNING, END, losses_of, make, network, slices


@pytest.fixture(params=semi.available())
def name(request) -> str:
    return request.param


@pytest.fixture
def technique(name) -> semi.Technique:
    return make(name)


def train(technique: semi.Technique, optimizer: torch.optim.Optimizer, steps: range, total: int = 6) -> None:
    for step in steps:
        loss = losses_of(technique, semi.Progress(step, total), seed=step, given=slices(seed=step))["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        technique.after_step(semi.Progress(step + 1, total))


def optimizer_of(technique: nn.Module, rate: float = 1e-3) -> torch.optim.Optimizer:
    optimizer = adam(p for p in technique.parameters() if p.requires_grad)
    set_learning_rate(optimizer, rate)
    return optimizer


@pytest.mark.parametrize("progress", [BEGINNING, END], ids=["beginning", "end"])
@pytest.mark.parametrize("counts", [(4, 3), (2, 5), (1, 1), (3, 3)], ids=str)
def test_losses_are_finite_scalars(technique, progress, counts):
    for key, value in losses_of(technique, progress, given=slices(*counts)).items():
        assert value.shape == (), key
        assert torch.isfinite(value), key


def test_same_generator_same_loss_other_generator_another(technique):
    state = copy.deepcopy(technique.state_dict())
    first = losses_of(technique)["loss"]
    technique.load_state_dict(state)
    torch.manual_seed(99)
    assert losses_of(technique)["loss"] == first
    technique.load_state_dict(state)
    assert losses_of(technique, seed=1)["loss"] != first


def test_the_student_gets_gradients_and_no_teacher_does(technique):
    losses_of(technique)["loss"].backward()
    for key, parameter in technique.named_parameters():
        assert (parameter.grad is not None and bool(parameter.grad.any())) == parameter.requires_grad, key
    assert all(parameter.requires_grad for parameter in technique.backbone.parameters())


def test_in_the_warm_up_unlabelled_slices_leave_no_trace(technique):
    images, labels, unlabelled = slices()
    found = [losses_of(technique, BEGINNING, given=(images, labels, u))["loss"] for u in (unlabelled, 1 - unlabelled)]
    assert found[0] == found[1]
    later = [losses_of(technique, END, given=(images, labels, u))["loss"] for u in (unlabelled, 1 - unlabelled)]
    assert later[0] != later[1]


@pytest.mark.slow
def test_steps_lower_the_loss_of_the_labels(name):
    technique = make(name, **({"threshold": 0.95} if name == "unimatch" else {}))
    optimizer, given = optimizer_of(technique, 5e-3), slices()
    found = []
    for step in range(25):
        losses = losses_of(technique, semi.Progress(step, 25), given=given)
        optimizer.zero_grad()
        losses["loss"].backward()
        optimizer.step()
        technique.after_step(semi.Progress(step + 1, 25))
        images, labels, _ = given
        with torch.no_grad():
            found.append(technique.loss_of(technique.backbone(images), labels).item())
    assert found[-1] < 0.8 * found[0]


def test_state_round_trip(technique):
    train(technique, optimizer_of(technique), range(3))
    fresh = copy.deepcopy(technique)
    for parameter in fresh.parameters():
        nn.init.zeros_(parameter)
    fresh.load_state_dict(copy.deepcopy(technique.state_dict()))
    assert losses_of(fresh)["loss"] == losses_of(technique)["loss"]


def test_resumes_bit_for_bit(technique):
    other = copy.deepcopy(technique)
    with torch.no_grad():
        for value in other.state_dict().values():
            value.fill_(1)
    optimizer = optimizer_of(technique)
    train(technique, optimizer, range(3))
    other.load_state_dict(copy.deepcopy(technique.state_dict()))
    resumed = optimizer_of(other)
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    train(technique, optimizer, range(3, 6))
    train(other, resumed, range(3, 6))
    for key, value in technique.state_dict().items():
        assert torch.equal(other.state_dict()[key], value), key


def test_finite_in_bfloat16_and_near_float32(name):
    wanted = losses_of(make(name))["loss"]
    technique = make(name)
    images, labels, unlabelled = slices()
    views = technique.views(images, labels, unlabelled, Generator().manual_seed(0))
    with torch.autocast("cpu", torch.bfloat16):
        loss = technique(views, END)["loss"]
    loss.backward()
    assert loss.item() == pytest.approx(wanted.item(), rel=0.2)
    for key, parameter in technique.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None, key  # what autocast keeps of a pass without gradients has none
            assert torch.isfinite(parameter.grad).all(), key


def test_on_kernels_the_loss_is_the_same(name):
    width = lanes()
    plain, fast = make(name, width=width), make(name, width=width)
    use_kernels(fast)
    losses = [losses_of(technique)["loss"] for technique in (plain, fast)]
    assert losses[1].item() == pytest.approx(losses[0].item(), rel=1e-3)
    for loss in losses:
        loss.backward()
    norms = [
        torch.stack([p.grad.norm() for p in technique.backbone.parameters()]).norm().item()
        for technique in (plain, fast)
    ]
    assert norms[1] == pytest.approx(norms[0], rel=5e-2)


def test_what_is_ignored_teaches_nothing(name):
    images, labels, unlabelled = slices()
    ignored = torch.full_like(labels, IGNORE)
    still = LabelledRanges(affine=AffineRanges(rotation=0.0, scale=0.0, translation=0.0))  # what lies outside counts
    technique = make(name, loss="cross_entropy", ranges=still)
    losses_of(technique, BEGINNING, given=(images, ignored, unlabelled))["loss"].backward()
    assert not any(p.grad.any() for p in technique.parameters() if p.grad is not None)
    assert losses_of(technique, END, given=(images, ignored, unlabelled))["supervised"] == 0


def test_only_classes_and_ignored_pixels_reach_the_loss(name):
    images, labels, unlabelled = slices()
    labels[:, :16] = IGNORE
    technique = make(name)
    seen: set[int] = set()
    usual = technique.loss_of

    def note(logits, targets):
        seen.update(targets.unique().tolist())
        return usual(logits, targets)

    technique.loss_of = note
    for progress in (BEGINNING, END):
        losses_of(technique, progress, given=(images, labels, unlabelled))
    assert seen == {0, 1, 2, IGNORE}


def test_a_step_waits_for_nothing_and_computes_nothing_in_float64(name, monkeypatch):
    monkeypatch.setattr(augmentation, "coarsen", lambda images, *_, **__: images)  # which chooses on the host
    technique, optimizer = make(name), None
    optimizer = optimizer_of(technique)
    with Waits() as waits, Float64Refused():
        train(technique, optimizer, range(6))
    assert waits.found == []


def test_every_setting_is_explained_and_every_number_has_limits(name):
    for setting, default, text in semi.settings(semi.load(name)):
        assert text, setting
        assert isinstance(default, float), setting
        for value in (SEMI[setting].least - 1, math.nan, math.inf):
            with pytest.raises(UsageError, match=f"{setting} is "):
                make(name, **{setting: value})


def test_what_is_not_there_is_said():
    with pytest.raises(
        UsageError, match=r"no semi-supervised technique 'unimach'; there are: .*did you mean unimatch\?"
    ):
        semi.load("unimach")
    with pytest.raises(UsageError, match=r"technique bcp has no setting 'wieght'; it has: .*did you mean weight\?"):
        make("bcp", wieght=1.0)
    with pytest.raises(UsageError, match="technique bcp: weight is 'much', which is not of type float"):
        make("bcp", weight="much")


def test_the_network_that_is_kept_is_the_one_that_was_given(name):
    torch.manual_seed(0)
    first = network()
    technique = make(name)
    assert technique.backbone.state_dict().keys() == first.state_dict().keys()
    assert all(torch.equal(v, technique.backbone.state_dict()[k]) for k, v in first.state_dict().items())
