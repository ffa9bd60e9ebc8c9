"""Self-training against loops, and when its teacher follows."""

import copy

import pytest
import torch
from torch import Generator

from jcl import semi
from jcl.augment.labelled import LabelledRanges
from jcl.data.manifest import IGNORE
from support.techniques import (
    END,
    blocks,
    chances_at,
    losses_of,
    make,
    places,
    probabilities,
    slices,
    slow_loss,
    without_batch_statistics,
)


def test_the_loss_is_that_of_loops():
    technique = without_batch_statistics(make("self_training", width=2, weight=0.3, threshold=0.5))
    with torch.no_grad():
        technique.teacher.head.weight.mul_(-1.5)
    views = technique.views(*slices(2, 3, size=16), Generator().manual_seed(0))
    found = technique(views, END)
    known, unknown, sure = [], [], 0
    with torch.no_grad():
        for image, truth in zip(views["images"], views["labels"], strict=True):
            known.append((technique.backbone(image[None])[0], truth))
        for placed, changed in zip(views["placed"], views["changed"], strict=True):
            guess = torch.full((16, 16), IGNORE)
            for row, chances in enumerate(probabilities(technique.teacher(placed[None])[0])):
                for column, of in enumerate(chances):
                    if max(of) >= 0.5:
                        guess[row, column] = of.index(max(of))
                        sure += 1
            unknown.append((technique.backbone(changed[None])[0], guess))
    assert 0 < sure < 3 * 16 * 16  # else the threshold is not tested
    assert found["sure"].item() == pytest.approx(sure / (3 * 16 * 16))
    assert found["loss"].item() == pytest.approx(slow_loss(known) + 0.3 * slow_loss(unknown), rel=1e-4)


@pytest.mark.slow
def test_the_loss_of_blocks_is_that_of_loops_over_voxels():
    settings = {"width": 2, "weight": 0.3, "threshold": 0.5}
    technique = without_batch_statistics(make("self_training", dimensions=3, **settings))
    with torch.no_grad():
        technique.teacher.head.weight.mul_(-1.5)
    labelled, unlabelled = blocks(2, 3)
    labelled.labels[0, :2] = IGNORE
    views = technique.views(labelled, unlabelled, Generator().manual_seed(0))
    found = technique(views, END)
    known, unknown, sure = [], [], 0
    with torch.no_grad():
        for block, truth in zip(views["images"], views["labels"], strict=True):
            known.append((technique.backbone(block[None])[0], truth))
        for placed, changed in zip(views["placed"], views["changed"], strict=True):
            guess = torch.full(placed.shape[1:], IGNORE)
            logits = technique.teacher(placed[None])[0]
            for place in places(guess.shape):
                chances = chances_at(logits, place)
                if max(chances) >= 0.5:
                    guess[place] = chances.index(max(chances))
                    sure += 1
            unknown.append((technique.backbone(changed[None])[0], guess))
    assert 0 < sure < unlabelled.images.numel()
    assert found["sure"].item() == pytest.approx(sure / unlabelled.images.numel())
    assert found["loss"].item() == pytest.approx(slow_loss(known) + 0.3 * slow_loss(unknown), rel=1e-4)


@pytest.mark.parametrize("given", [slices, blocks])
def test_the_teacher_sees_in_its_place_what_the_student_sees_changed(given):
    dimensions = 2 if given is slices else 3
    views = make("self_training", dimensions=dimensions).views(*given(), Generator().manual_seed(0))
    assert not torch.equal(views["placed"], views["changed"])
    plain = make("self_training", ranges=LabelledRanges(intensity=0.0), dimensions=dimensions)
    views = plain.views(*given(), Generator().manual_seed(0))
    assert torch.equal(views["placed"], views["changed"])


@pytest.mark.parametrize("dimensions", [2, 3])
def test_the_teacher_is_frozen_after_the_warm_up(dimensions):
    technique = make("self_training", momentum=0.7, warmup=0.3, dimensions=dimensions)
    wanted = copy.deepcopy(technique.backbone.head.weight.detach())
    for done, momentum in ((1, 1 / 2), (2, 2 / 3), (3, 0.7), (4, 1.0), (10, 1.0)):
        with torch.no_grad():
            technique.backbone.head.weight.add_(1.0)
        technique.after_step(semi.Progress(done, 10))
        wanted = momentum * wanted + (1 - momentum) * technique.backbone.head.weight.detach()
        torch.testing.assert_close(technique.teacher.head.weight, wanted)


def test_where_the_teacher_is_not_sure_nothing_is_learned():
    technique = make("self_training", threshold=1.0)
    found = losses_of(technique, END)
    assert found["sure"] == 0
    assert torch.isfinite(found["loss"])
