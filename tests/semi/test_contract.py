"""What every semi-supervised technique has to do, for each that is there; with blocks as well if it takes them."""

import copy
import math
from dataclasses import replace

import pytest
import torch
from torch import Generator, nn

from jcl import semi
from jcl.augment import labelled as augmentation
from jcl.augment.labelled import LabelledRanges
from jcl.augment.spatial import AffineRanges
from jcl.data.manifest import IGNORE
from jcl.distributed.device import channels_last
from jcl.errors import UsageError
from jcl.kernels.exchange import use_kernels
from jcl.limits import SEMI
from jcl.semi._base import logits_of
from jcl.training.optim import adam, set_learning_rate
from methods.test_no_float64 import Float64Refused
from methods.test_no_sync import Waits
from support.onkernels import lanes
from support.techniques import BEGINNING, END, KINDS, Kind, losses_of, make, network


@pytest.fixture(params=KINDS, ids=lambda kind: f"{kind.name}-{kind.dimensions}d")
def kind(request) -> Kind:
    return request.param


@pytest.fixture(params=semi.available())
def name(request) -> str:
    return request.param


@pytest.fixture
def technique(kind) -> semi.Technique:
    return kind.make()


def train(
    technique: semi.Technique, optimizer: torch.optim.Optimizer, steps: range, kind: Kind, total: int = 6
) -> None:
    for step in steps:
        loss = losses_of(technique, semi.Progress(step, total), seed=step, given=kind.batches(seed=step))["loss"]
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
def test_losses_are_finite_scalars(kind, technique, progress, counts):
    for key, value in losses_of(technique, progress, given=kind.batches(*counts)).items():
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


def test_in_the_warm_up_unlabelled_images_leave_no_trace(kind, technique):
    labelled, unlabelled = kind.batches()
    others = (unlabelled, replace(unlabelled, images=1 - unlabelled.images))
    found = [losses_of(technique, BEGINNING, given=(labelled, each))["loss"] for each in others]
    assert found[0] == found[1]
    later = [losses_of(technique, END, given=(labelled, each))["loss"] for each in others]
    assert later[0] != later[1]


@pytest.mark.slow
def test_steps_lower_the_loss_of_the_labels(kind):
    settings = {"threshold": 0.95} if kind.name == "unimatch" else {}
    if kind.dimensions == 3:  # a block of a few slices that is turned within itself is mostly zeros
        settings["ranges"] = LabelledRanges(affine=AffineRanges(rotation=0.0, scale=0.0, translation=0.0))
    technique = kind.make(**settings)
    optimizer, given = optimizer_of(technique, 5e-3), kind.batches()
    found = []
    for step in range(25):
        losses = losses_of(technique, semi.Progress(step, 25), given=given)
        optimizer.zero_grad()
        losses["loss"].backward()
        optimizer.step()
        technique.after_step(semi.Progress(step + 1, 25))
        with torch.no_grad():
            found.append(technique.loss_of(technique.backbone(given[0].images), given[0].labels).item())
    assert found[-1] < 0.8 * found[0]


def test_state_round_trip(kind, technique):
    train(technique, optimizer_of(technique), range(3), kind)
    fresh = copy.deepcopy(technique)
    for parameter in fresh.parameters():
        nn.init.zeros_(parameter)
    fresh.load_state_dict(copy.deepcopy(technique.state_dict()))
    assert losses_of(fresh)["loss"] == losses_of(technique)["loss"]


def test_resumes_bit_for_bit(kind, technique):
    other = copy.deepcopy(technique)
    with torch.no_grad():
        for value in other.state_dict().values():
            value.fill_(1)
    optimizer = optimizer_of(technique)
    train(technique, optimizer, range(3), kind)
    other.load_state_dict(copy.deepcopy(technique.state_dict()))
    resumed = optimizer_of(other)
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    train(technique, optimizer, range(3, 6), kind)
    train(other, resumed, range(3, 6), kind)
    for key, value in technique.state_dict().items():
        assert torch.equal(other.state_dict()[key], value), key


@pytest.mark.parametrize("sides", [(8, 6), (4, 8, 6)])
def test_networks_get_images_in_the_layout_that_convolutions_are_fastest_in(sides):
    layout = channels_last(len(sides))
    found = logits_of(nn.Identity(), torch.rand(2, 3, *sides))
    assert found.is_contiguous(memory_format=layout)


def test_finite_in_bfloat16_and_near_float32(kind):
    wanted = losses_of(kind.make())["loss"]
    technique = kind.make()
    views = technique.views(*kind.batches(), Generator().manual_seed(0))
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


def test_what_is_ignored_teaches_nothing(kind):
    labelled, unlabelled = kind.batches()
    ignored = replace(labelled, labels=torch.full_like(labelled.labels, IGNORE))
    still = LabelledRanges(affine=AffineRanges(rotation=0.0, scale=0.0, translation=0.0))  # what lies outside counts
    technique = kind.make(loss="cross_entropy", ranges=still)
    losses_of(technique, BEGINNING, given=(ignored, unlabelled))["loss"].backward()
    assert not any(p.grad.any() for p in technique.parameters() if p.grad is not None)
    assert losses_of(technique, END, given=(ignored, unlabelled))["supervised"] == 0


def test_what_is_ignored_changes_nothing_for_the_rest(kind):
    """The images there may be anything only as far as the network looks, so that their classes are changed."""
    labelled, unlabelled = kind.batches()
    still = LabelledRanges(affine=AffineRanges(rotation=0.0, scale=0.0, translation=0.0))
    first, second = labelled.labels.clone(), (labelled.labels + 1) % 3
    first[..., :6], second[..., :6] = IGNORE, IGNORE
    second[..., 6:] = first[..., 6:]
    found = [
        losses_of(kind.make(ranges=still), END, given=(replace(labelled, labels=each), unlabelled))["loss"]
        for each in (first, second)
    ]
    assert found[0] == found[1]


def test_only_classes_and_ignored_pixels_reach_the_loss(kind):
    labelled, unlabelled = kind.batches()
    labelled.labels[..., : labelled.labels.shape[-2] // 2, :] = IGNORE
    technique = kind.make()
    seen: set[int] = set()
    usual = technique.loss_of

    def note(logits, targets):
        seen.update(targets.unique().tolist())
        return usual(logits, targets)

    technique.loss_of = note
    for progress in (BEGINNING, END):
        losses_of(technique, progress, given=(labelled, unlabelled))
    assert seen == {0, 1, 2, IGNORE}


def test_a_step_waits_for_nothing_and_computes_nothing_in_float64(kind, monkeypatch):
    monkeypatch.setattr(augmentation, "coarsen", lambda images, *_, **__: images)  # which chooses on the host
    technique = kind.make()
    optimizer = optimizer_of(technique)
    with Waits() as waits, Float64Refused():
        train(technique, optimizer, range(6), kind)
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


def test_labels_of_images_without_are_never_looked_at(kind):
    labelled, unlabelled = kind.batches()
    classes = torch.zeros_like(unlabelled.images[:, 0], dtype=torch.int64)
    given = [(labelled, unlabelled), (labelled, replace(unlabelled, labels=classes))]
    found = [losses_of(kind.make(), END, given=each)["loss"] for each in given]
    assert found[0] == found[1]


def test_all_are_written_for_slices_and_blocks_and_one_that_is_not_would_say_which_are(monkeypatch):
    assert all(semi.load(name).dimensions == (2, 3) for name in semi.available())
    monkeypatch.setattr(semi.load("bcp"), "dimensions", (2,))
    said = "bcp is not written for 3 dimensions; there are: cps, mean_teacher, self_training, unimatch$"
    with pytest.raises(UsageError, match=said):
        make("bcp", dimensions=3)
    with pytest.raises(UsageError, match=said):
        semi.check("bcp", {}, 3)


def test_the_network_that_is_kept_is_the_one_that_was_given(kind):
    torch.manual_seed(0)
    first = network(dimensions=kind.dimensions)
    technique = kind.make()
    assert technique.backbone.state_dict().keys() == first.state_dict().keys()
    assert all(torch.equal(v, technique.backbone.state_dict()[k]) for k, v in first.state_dict().items())
