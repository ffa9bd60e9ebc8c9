"""Self-training against loops, and when its teacher follows."""

import copy

import pytest
import torch
from torch import Generator

from jcl import semi
from jcl.augment.labelled import LabelledRanges
from jcl.data.manifest import IGNORE
from support.techniques import END, losses_of, make, probabilities, slices, slow_loss, without_batch_statistics


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


def test_the_teacher_sees_the_slice_that_the_student_sees_changed():
    views = make("self_training").views(*slices(), Generator().manual_seed(0))
    assert not torch.equal(views["placed"], views["changed"])
    plain = make("self_training", ranges=LabelledRanges(intensity=0.0))
    views = plain.views(*slices(), Generator().manual_seed(0))
    assert torch.equal(views["placed"], views["changed"])


def test_the_teacher_is_frozen_after_the_warm_up():
    technique = make("self_training", momentum=0.7, warmup=0.3)
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
