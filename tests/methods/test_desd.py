"""DeSD: the distillation against loops, what moves and when, and stop-gradients."""

import copy
import math

import pytest
import torch

from jcl.backbones.unet import UNet
from jcl.errors import UsageError
from jcl.methods import desd
from jcl.methods.desd import DeSD
from support.training import assert_finite, assert_resumes_bit_for_bit, awkward, losses_of, slices


def make(**settings) -> DeSD:
    torch.manual_seed(0)
    return DeSD(UNet(width=4), **{"prototypes": 12, "hidden": 16, "bottleneck": 8, **settings})


def softmax(values: list[float]) -> list[float]:
    peak = max(values)
    exponentials = [math.exp(v - peak) for v in values]
    return [e / sum(exponentials) for e in exponentials]


def head_logits(head, features: torch.Tensor) -> list[list[float]]:
    """A head's output from its weights: rows and prototypes of length 1."""
    rows = head.layers(features).double()
    prototypes = head.prototypes.double()
    return [[(r @ p / r.norm() / p.norm()).item() for p in prototypes] for r in rows]


@pytest.mark.parametrize(("progress", "temperature"), [(0.0, 0.04), (0.0335, 0.055), (0.5, 0.07)])
def test_loss_is_that_of_the_paper(progress, temperature):
    method, b = make(), slices()  # in training mode: only so are untrained features of noise apart
    method.after_step(progress)
    with torch.no_grad():
        for parameter in method.teacher.parameters():
            parameter.mul_(1.1)  # another network than the student
        method.centre.copy_(torch.linspace(-0.1, 0.1, 12))
    (views,) = method.views(b, torch.Generator().manual_seed(0))
    taught = head_logits(method.teacher_head, method.teacher.encode(views)[-1])
    centre = method.centre.tolist()
    targets = [softmax([(g - c) / temperature for g, c in zip(row, centre, strict=True)]) for row in taught]
    levels = method.backbone.encode(views)[1:]
    assert len(levels) == len(method.heads) == 4
    stages = []
    for head, level in zip(method.heads, levels, strict=True):
        rows = [softmax([x / 0.1 for x in row]) for row in head_logits(head, level)]
        terms = []
        for i in range(6):
            for student, teacher in ((i, i + 6), (i + 6, i)):
                terms.append(-sum(t * math.log(s) for t, s in zip(targets[teacher], rows[student], strict=True)))
        stages.append(sum(terms) / 12)
    got = losses_of(method, b)
    assert got["loss"].item() == pytest.approx(sum(stages) / 4, rel=1e-5)
    for number, wanted in enumerate(stages, start=1):
        assert got[f"stage_{number}"].item() == pytest.approx(wanted, rel=1e-5)


def test_all_stages_learn_from_their_own_head():
    """The shallowest supervised stage gets a gradient of its own, the teacher none."""
    method = make(stages=3)
    losses = losses_of(method, slices())
    assert [name for name in losses if name.startswith("stage")] == ["stage_1", "stage_2", "stage_3"]
    shallow = torch.autograd.grad(
        losses["stage_1"], list(method.backbone.encoder.parameters()), allow_unused=True, retain_graph=True
    )
    reached = {
        n.split(".")[1]
        for (n, _), g in zip(method.backbone.encoder.named_parameters(), shallow, strict=True)
        if g is not None
    }
    assert reached == {"0", "1", "2"}
    losses["loss"].backward()
    for teacher in (method.teacher, method.teacher_head):
        assert all(p.grad is None and not p.requires_grad for p in teacher.parameters())


def test_the_teacher_follows_and_the_centre_too():
    method, b = make(), slices()
    with torch.no_grad():
        for parameter in method.backbone.parameters():
            parameter.add_(0.1)
    teacher, student = copy.deepcopy(method.teacher), method.backbone
    (views,) = method.views(b, torch.Generator().manual_seed(0))
    _, logits = copy.deepcopy(method.teacher_head)(copy.deepcopy(method.teacher).encode(views)[-1])
    method((views,), b)
    assert not method.centre.any(), "nothing moves before the step is done"
    method.after_step(0.5)
    momentum = 1 - (1 - 0.996) / 2
    for old, now, new in zip(teacher.parameters(), method.teacher.parameters(), student.parameters(), strict=True):
        torch.testing.assert_close(now, momentum * old + (1 - momentum) * new)
    torch.testing.assert_close(method.centre, 0.1 * logits.mean(0))
    centre = method.centre.clone()
    method.after_step(0.6)
    assert torch.equal(method.centre, centre), "a batch counts once"


def test_the_centre_is_that_of_all_processes(monkeypatch):
    method, b = make(), slices()
    monkeypatch.setattr(desd, "gather", lambda rows: torch.cat([rows, torch.ones_like(rows)]))
    losses_of(method, b)
    both = method._batch_centre
    monkeypatch.setattr(desd, "gather", lambda rows: rows)
    method = make()
    losses_of(method, b)
    torch.testing.assert_close(both, (method._batch_centre + 1) / 2)


def test_prototypes_are_fixed_at_first():
    method, b = make(), slices()
    losses_of(method, b)["loss"].backward()
    assert all(head.prototypes.grad is None for head in method.heads)
    method.after_step(0.01)
    losses_of(method, b)["loss"].backward()
    assert all(head.prototypes.grad.any() for head in method.heads)


def test_one_stage_is_dino():
    method = make(stages=1)
    losses = losses_of(method, slices())
    assert losses["loss"] == losses["stage_1"]
    assert method.heads[0].layers[2].in_features == 64


def test_all_the_same_is_seen():
    """Equal outputs for all slices: the loss is ln of the number of prototypes where the teacher is flat."""
    method = make(stages=1)
    torch.nn.init.zeros_(method.heads[0].layers[-1].weight)
    torch.nn.init.zeros_(method.heads[0].layers[-1].bias)
    torch.nn.init.zeros_(method.teacher_head.layers[-1].weight)
    torch.nn.init.zeros_(method.teacher_head.layers[-1].bias)
    losses = losses_of(method, slices())
    assert losses["loss"].item() == pytest.approx(math.log(12), rel=1e-5)
    assert losses["feature_std"] < 1e-3


def test_rate_decay_and_clipping_of_the_program():
    plain, program = make(), make(final_rate=0.2133, decay="weights", clip=3.0)
    assert (plain.final_rate, plain.decays_all, plain.clip) == (0, True, 0)
    assert (program.final_rate, program.decays_all, program.clip) == (0.2133, False, 3)
    with pytest.raises(UsageError, match="decay is 'none'; it can be all or weights"):
        make(decay="none")


@pytest.mark.parametrize("name", awkward())
def test_finite_for_awkward_batches(name):
    assert_finite(make(), awkward()[name])


@pytest.mark.parametrize("stages", [0, 6])
def test_stages_that_are_not_there(stages):
    with pytest.raises(UsageError, match="stages"):
        make(stages=stages)


def test_resumes_bit_for_bit():
    assert_resumes_bit_for_bit(make)
