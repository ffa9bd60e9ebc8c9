"""The mean teacher against loops, and how its teacher follows."""

import copy

import pytest
import torch
from torch import Generator

from jcl import semi
from support.techniques import (
    BEGINNING,
    blocks,
    chances_at,
    make,
    places,
    probabilities,
    slices,
    slow_loss,
    without_batch_statistics,
)


def test_the_loss_is_that_of_loops():
    technique = without_batch_statistics(make("mean_teacher", width=2, weight=3.0, warmup=0.0, rampup=0.0))
    with torch.no_grad():
        technique.teacher.head.weight.mul_(-1.5)
    views = technique.views(*slices(2, 2, size=16), Generator().manual_seed(0))
    loss = technique(views, BEGINNING)["loss"]
    squares: list[float] = []
    with torch.no_grad():
        known = [technique.backbone(image[None])[0] for image in views["images"]]
        for own, other in zip(views["own"], views["teachers"], strict=True):
            student, teacher = (
                probabilities(network(image[None])[0])
                for network, image in ((technique.backbone, own), (technique.teacher, other))
            )
            for row, others in zip(student, teacher, strict=True):
                for pixel, pixels in zip(row, others, strict=True):
                    squares += [(p - q) ** 2 for p, q in zip(pixel, pixels, strict=True)]
    wanted = slow_loss(zip(known, views["labels"], strict=True)) + 3 * sum(squares) / len(squares)
    assert loss.item() == pytest.approx(wanted, rel=1e-4)


@pytest.mark.slow
def test_the_loss_of_blocks_is_that_of_loops_over_voxels():
    settings = {"width": 2, "weight": 3.0, "warmup": 0.0, "rampup": 0.0}
    technique = without_batch_statistics(make("mean_teacher", dimensions=3, **settings))
    with torch.no_grad():
        technique.teacher.head.weight.mul_(-1.5)
    views = technique.views(*blocks(2, 2), Generator().manual_seed(0))
    loss = technique(views, BEGINNING)["loss"]
    squares: list[float] = []
    with torch.no_grad():
        known = [technique.backbone(block[None])[0] for block in views["images"]]
        for own, other in zip(views["own"], views["teachers"], strict=True):
            student, teacher = technique.backbone(own[None])[0], technique.teacher(other[None])[0]
            for place in places(student.shape[1:]):
                pairs = zip(chances_at(student, place), chances_at(teacher, place), strict=True)
                squares += [(p - q) ** 2 for p, q in pairs]
    wanted = slow_loss(zip(known, views["labels"], strict=True)) + 3 * sum(squares) / len(squares)
    assert loss.item() == pytest.approx(wanted, rel=1e-4)


@pytest.mark.parametrize("given", [slices, blocks])
def test_both_views_lie_in_the_same_place(given):
    dimensions = 2 if given is slices else 3
    technique = make("mean_teacher", strength=0.0, dimensions=dimensions)
    views = technique.views(*given(), Generator().manual_seed(0))
    assert torch.equal(views["own"], views["teachers"])
    views = make("mean_teacher", dimensions=dimensions).views(*given(), Generator().manual_seed(0))
    assert not torch.equal(views["own"], views["teachers"])


def test_the_teacher_is_the_average_of_the_student():
    technique = make("mean_teacher", momentum=0.7)
    wanted = copy.deepcopy(technique.backbone.head.weight.detach())
    for done, momentum in ((1, 1 / 2), (2, 2 / 3), (3, 0.7), (4, 0.7)):
        with torch.no_grad():
            technique.backbone.head.weight.add_(1.0)
        technique.after_step(semi.Progress(done, 10))
        wanted = momentum * wanted + (1 - momentum) * technique.backbone.head.weight.detach()
        torch.testing.assert_close(technique.teacher.head.weight, wanted)
