"""Bidirectional copy-paste against loops over pixels and voxels."""

from functools import partial

import pytest
import torch
from torch import Generator

from jcl.data.manifest import IGNORE
from support.techniques import BEGINNING, END, blocks, make, places, slices, slow_loss, without_batch_statistics


def mixed(inner, outer, box):
    """Pixel by pixel; of images (c, ...) or labels."""
    result = outer.clone()
    for place in places(box.shape):
        if box[place]:
            result[(..., *place)] = inner[(..., *place)]
    return result


@pytest.mark.parametrize("counts", [(2, 2), (1, 2), (2, 1)], ids=str)
@pytest.mark.parametrize("given", [partial(slices, size=16), blocks], ids=["slices", "blocks"])
def test_the_loss_is_that_of_loops(counts, given):
    batches = given(*counts)
    dimensions = batches[0].images.ndim - 2
    technique = without_batch_statistics(make("bcp", width=2, weight=0.3, dimensions=dimensions))
    with torch.no_grad():
        technique.teacher.head.weight.mul_(-1.5)
    views = technique.views(*batches, Generator().manual_seed(0))
    views["labels"][0, ..., :5] = IGNORE
    loss = technique(views, END)["loss"]
    nothing = torch.full(batches[0].images.shape[2:], IGNORE)
    parts = {"in known": [], "in guessed": [], "out known": [], "out guessed": []}
    with torch.no_grad():
        for number, box in enumerate(views["boxes"]):
            image, truth = views["images"][number % counts[0]], views["labels"][number % counts[0]]
            other = views["unlabelled"][number % counts[1]]
            guess = technique.teacher(other[None])[0].argmax(0)
            inward = technique.backbone(mixed(image, other, box)[None])[0]
            outward = technique.backbone(mixed(other, image, box)[None])[0]
            parts["in known"].append((inward, mixed(truth, nothing, box)))
            parts["in guessed"].append((inward, mixed(nothing, guess, box)))
            parts["out known"].append((outward, mixed(nothing, truth, box)))
            parts["out guessed"].append((outward, mixed(guess, nothing, box)))
    of = {name: slow_loss(found) for name, found in parts.items()}
    wanted = (of["in known"] + of["out known"] + 0.3 * (of["in guessed"] + of["out guessed"])) / 2
    assert loss.item() == pytest.approx(wanted, rel=1e-4)


def test_in_the_warm_up_labelled_slices_are_pasted_into_each_other():
    technique = without_batch_statistics(make("bcp", width=2))
    views = technique.views(*slices(2, 2, size=16), Generator().manual_seed(0))
    loss = technique(views, BEGINNING)["loss"]
    found = []
    with torch.no_grad():
        for own, other in ((0, 1), (1, 0)):
            box = views["boxes"][own]
            image = mixed(views["images"][other], views["images"][own], box)
            labels = mixed(views["labels"][other], views["labels"][own], box)
            found.append((technique.backbone(image[None])[0], labels))
    assert loss.item() == pytest.approx(slow_loss(found), rel=1e-4)
