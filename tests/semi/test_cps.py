"""Cross pseudo supervision against loops, and its second network."""

import pytest
import torch
from torch import Generator

from support.techniques import BEGINNING, make, slices, slow_loss, without_batch_statistics


def test_the_loss_is_that_of_loops():
    technique = without_batch_statistics(make("cps", width=2, weight=0.7, warmup=0.0, rampup=0.0))
    views = technique.views(*slices(2, 2, size=16), Generator().manual_seed(0))
    loss = technique(views, BEGINNING)["loss"]
    with torch.no_grad():
        outputs = [
            [network(image[None])[0] for image in (*views["images"], *views["unlabelled"])]
            for network in (technique.backbone, technique.second)
        ]
    wanted = 0.0
    for own, other in (outputs, outputs[::-1]):
        wanted += slow_loss(zip(own[:2], views["labels"], strict=True))
        wanted += 0.7 * slow_loss(zip(own, [each.argmax(0) for each in other], strict=True))
    assert loss.item() == pytest.approx(wanted, rel=1e-4)


def test_the_second_network_begins_elsewhere_and_learns():
    technique = make("cps")
    pairs = zip(technique.backbone.parameters(), technique.second.parameters(), strict=True)
    assert not all(torch.equal(first, second) for first, second in pairs)
    assert all(parameter.requires_grad for parameter in technique.second.parameters())
