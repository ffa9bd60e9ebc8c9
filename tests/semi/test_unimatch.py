"""UniMatch against loops over slices or blocks and pixels, and the streams that it draws."""

import itertools
from collections.abc import Sequence
from functools import partial

import pytest
import torch
from torch import Generator, nn

from jcl.augment.labelled import LabelledRanges
from jcl.backbones import Backbone
from jcl.backbones.unet import UNet
from jcl.data.manifest import IGNORE
from jcl.errors import UsageError
from jcl.semi import Supervision
from jcl.semi.unimatch import UniMatch
from support.techniques import (
    BEGINNING,
    END,
    blocks,
    chances_at,
    make,
    places,
    slices,
    slow_loss,
    without_batch_statistics,
)


@pytest.mark.parametrize("given", [partial(slices, size=16), blocks], ids=["slices", "blocks"])
def test_the_loss_is_that_of_loops(given):
    batches = given(2, 3)
    dimensions = batches[0].images.ndim - 2
    technique = without_batch_statistics(make("unimatch", width=2, warmup=0.0, dimensions=dimensions))
    with torch.no_grad():
        technique.backbone.head.weight.mul_(4.0)
    views = technique.views(*batches, Generator().manual_seed(3))
    network = technique.backbone
    with torch.no_grad():
        known = [network(image[None])[0] for image in views["images"]]
        plain = [network(image[None])[0] for image in views["weak"]]
        disturbed = [of_disturbed(network, views, number) for number in range(3)]
        strong = {n: [network(image[None])[0] for image in views[f"strong{n}"]] for n in (1, 2)}
    chances = [{place: chances_at(each, place) for place in places(each.shape[1:])} for each in plain]
    ordered = sorted(max(pixel) for each in chances for pixel in each.values())
    gaps = [(after - before, before) for before, after in itertools.pairwise(ordered[100:600])]
    technique.threshold = max(gaps)[1] + max(gaps)[0] / 2  # no probability is so near that rounding decides
    share = sum(value >= technique.threshold for value in ordered) / len(ordered)
    assert 0 < share < 1
    losses = technique(views, END)
    counted = [target(each, batches[0].images.shape[2:], technique.threshold) for each in chances]
    wanted = slow_loss(zip(disturbed, counted, strict=True)) / 2
    for n in (1, 2):
        targets = []
        for number, box in enumerate(views[f"boxes{n}"]):
            targets.append(torch.where(box, counted[(number - 1) % 3], counted[number]))
        wanted += slow_loss(zip(strong[n], targets, strict=True)) / 4
    wanted = (slow_loss(zip(known, views["labels"], strict=True)) + wanted) / 2
    assert losses["loss"].item() == pytest.approx(wanted, rel=1e-4)
    assert losses["sure"].item() == pytest.approx(share, abs=1e-5)


def target(chances: dict[tuple[int, ...], list[float]], shape: Sequence[int], threshold: float) -> torch.Tensor:
    found = torch.full(tuple(shape), IGNORE)
    for place, pixel in chances.items():
        if max(pixel) >= threshold:
            found[place] = pixel.index(max(pixel))
    return found


def of_disturbed(network: UNet, views: dict[str, torch.Tensor], number: int) -> torch.Tensor:
    features = network.encode(views["weak"][number][None])
    for level, feature in enumerate(features):
        for channel, factor in enumerate(views[f"factors{level}"][number].tolist()):
            assert factor in (0.0, 2.0)
            feature[0, channel] *= factor
    return network.head(network.decode(features))[0]


def test_in_the_warm_up_it_is_half_the_loss_of_the_labels():
    technique = without_batch_statistics(make("unimatch", width=2))
    views = technique.views(*slices(2, 2, size=16), Generator().manual_seed(0))
    losses = technique(views, BEGINNING)
    with torch.no_grad():
        known = [technique.backbone(image[None])[0] for image in views["images"]]
    assert losses["loss"].item() == pytest.approx(slow_loss(zip(known, views["labels"], strict=True)) / 2, rel=1e-4)


@pytest.mark.parametrize("given", [slices, blocks])
def test_strong_views_are_the_weak_one_with_boxes_of_the_image_before(given):
    technique = make("unimatch", strength=0.0, dimensions=2 if given is slices else 3)
    views = technique.views(*given(1, 6), Generator().manual_seed(0))
    for n in (1, 2):
        for number, box in enumerate(views[f"boxes{n}"]):
            wanted = torch.where(box, views["weak"][number - 1], views["weak"][number])
            assert torch.equal(views[f"strong{n}"][number], wanted)
    assert not torch.equal(views["boxes1"], views["boxes2"])


def test_half_of_the_channels_are_left_out():
    views = make("unimatch", width=16).views(*slices(1, 8), Generator().manual_seed(0))
    factors = torch.cat([views[f"factors{level}"].flatten() for level in range(5)])
    assert set(factors.tolist()) == {0.0, 2.0}
    assert float(factors.mean()) == pytest.approx(1.0, abs=0.1)


class Own(nn.Identity):
    """A network of one's own that is a backbone by its members."""


def test_a_network_without_logits_of_features_is_refused():
    Backbone.register(Own)
    supervision = Supervision(loss=lambda logits, labels: logits.mean(), ranges=LabelledRanges(), another=UNet)
    with pytest.raises(UsageError, match="unimatch disturbs features, and Own has no `logits`"):
        UniMatch(Own(), supervision)
