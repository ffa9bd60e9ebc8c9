"""Running a network over slices: batches, padding, and scores on another grid."""

import numpy as np
import pytest
import torch

from jcl import backbones
from jcl.inference import predictor as segment
from jcl.inference.predictor import (
    class_scores,
    fold_batch_norms,
    pad_centred,
    ready_to_segment,
    resize_scores,
    segment_parts,
)
from support.thresholds import threshold_network

CPU = torch.device("cpu")


def scores_of(network, images, batch_size=3, precision=torch.float32):
    return list(class_scores(network, images, batch_size=batch_size, device=CPU, precision=precision))


@pytest.mark.parametrize("shape", [(16, 16), (13, 21), (1, 1)])
def test_known_network_gives_known_classes(shape):
    images = np.random.default_rng(0).random((4, 1, *shape), np.float32)
    scores = torch.cat(scores_of(threshold_network(0.3, 0.7), images))
    assert scores.shape == (4, 3, *shape)
    assert torch.allclose(scores.sum(1), torch.ones(4, *shape))
    expected = (images[:, 0] > 0.3).astype(int) + (images[:, 0] > 0.7)
    clear = np.abs(images[:, 0, :, :, None] - [0.3, 0.7]).min(-1) > 1e-5
    assert np.array_equal(scores.argmax(1).numpy()[clear], expected[clear])


@pytest.mark.parametrize("batch_size", [1, 2, 5, 100])
def test_batches_come_in_order_and_change_nothing(batch_size):
    torch.manual_seed(0)
    network = threshold_network(0.5)
    for parameter in network.parameters():  # any network will do, as long as slices differ in their scores
        torch.nn.init.normal_(parameter, std=0.5)
    images = np.random.default_rng(1).random((5, 1, 16, 16), np.float32)
    parts = scores_of(network, images, batch_size)
    assert [len(part) for part in parts] == [min(batch_size, 5 - start) for start in range(0, 5, batch_size)]
    with torch.inference_mode():
        one_by_one = torch.cat([network(torch.from_numpy(image[None])).softmax(1) for image in images])
    assert torch.allclose(torch.cat(parts), one_by_one, atol=1e-5)


def test_bfloat16_is_near_and_the_scores_are_float32():
    images = np.random.default_rng(2).random((2, 1, 16, 16), np.float32)
    exact, low = (
        torch.cat(scores_of(threshold_network(0.5), images, precision=p)) for p in (torch.float32, torch.bfloat16)
    )
    assert low.dtype == torch.float32
    assert (exact.argmax(1) == low.argmax(1)).float().mean() > 0.98


def test_scores_need_no_gradient():
    (scores,) = scores_of(threshold_network(0.5), np.zeros((1, 1, 16, 16), np.float32))
    assert not scores.requires_grad


@pytest.mark.parametrize(
    ("shape", "size"), [((5, 8), (16, 16)), ((5, 7), (8, 8)), ((20, 5), (16, 16)), ((16, 16), (16, 16))]
)
def test_padding_is_centred_and_never_crops(shape, size):
    images = np.random.default_rng(3).random((2, 3, *shape), np.float32) + 1
    padded, content = pad_centred(images, size)
    assert padded.shape[2:] == tuple(max(pair) for pair in zip(shape, size, strict=True))
    assert np.array_equal(padded[:, :, *content], images)
    assert padded.sum() == pytest.approx(images.sum(), rel=1e-5)
    for region, length in zip(content, padded.shape[2:], strict=True):
        assert 0 <= (length - region.stop) - region.start <= 1


def test_scores_on_their_own_grid_are_left_alone():
    scores = torch.rand(2, 3, 9, 11)
    assert resize_scores(scores, (9, 11)) is scores


@pytest.mark.parametrize("shape", [(7, 8), (18, 24), (9, 24)])
def test_resized_scores_cover_the_same_area(shape):
    """A ramp stays the ramp at the new pixels' centres, but for the margin, which has no outer neighbour."""
    height, width = 9, 12
    ramp = ((torch.arange(width) + 0.5) / width).expand(1, 1, height, width)
    resized = resize_scores(torch.cat([ramp, 1 - ramp], 1), shape)
    assert resized.shape == (1, 2, *shape)
    assert torch.allclose(resized.sum(1), torch.ones(1, *shape), atol=1e-5)
    centres = (torch.arange(shape[1]) + 0.5) / shape[1]
    inner = (centres > 2.5 / width) & (centres < 1 - 2.5 / width)
    tolerance = 0.05 / width if shape[1] < width else 1e-5  # the weights of a shrinking filter are sampled coarsely
    assert torch.allclose(resized[0, 0, :, inner], centres[inner].expand(shape[0], -1), atol=tolerance)


def test_large_slices_are_taken_fewer_at_a_time(monkeypatch):
    monkeypatch.setattr(segment, "PIXELS", 3 * 16 * 16)
    images = np.random.default_rng(1).random((7, 1, 16, 16), np.float32)
    assert [len(part) for part in scores_of(threshold_network(0.5), images, 16)] == [3, 3, 1]
    assert [len(part) for part in scores_of(threshold_network(0.5), images, 2)] == [2, 2, 2, 1]
    monkeypatch.setattr(segment, "PIXELS", 1)
    assert [len(part) for part in scores_of(threshold_network(0.5), images, 16)] == [1] * 7


@pytest.mark.parametrize("name", backbones.available(2))
def test_folded_batch_norms_compute_the_same(name):
    torch.manual_seed(0)
    network = backbones.load(name)(in_channels=2, classes=3, width=4)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.normal_(module.running_mean, std=0.3)
            torch.nn.init.uniform_(module.running_var, 0.5, 2)
            torch.nn.init.normal_(module.weight, 1, 0.3)
            torch.nn.init.normal_(module.bias, std=0.3)
    network.eval()
    images = torch.rand(2, 2, 32, 48)
    with torch.inference_mode():
        expected = network(images)
    folded = fold_batch_norms(network)
    with torch.inference_mode():
        found = folded(images)
    # rounding of some tens of layers in float32, relative to the largest logit
    assert float((found - expected).abs().max() / expected.abs().max()) < 1e-4
    assert expected.std() > 1e-3
    if name == "unet":
        assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in folded.modules())


def test_only_what_runs_in_order_is_folded():
    class Doubled(torch.nn.Sequential):
        def forward(self, x):
            return super().forward(x) * 2

    apart = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 1), torch.nn.ReLU(), torch.nn.BatchNorm2d(2))
    own = Doubled(torch.nn.Conv2d(1, 2, 1), torch.nn.BatchNorm2d(2))
    for network in (apart, own):
        fold_batch_norms(network.eval())
        assert any(isinstance(module, torch.nn.BatchNorm2d) for module in network)


@pytest.mark.parametrize("shape", [(16, 16), (32, 32), (8, 8)])
@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("logits", "winner"), [((-200, 3, 3), 1), ((5, -200, 5), 0), ((0, 0, -200), 0)])
def test_a_tie_goes_to_the_lowest_class(shape, precision, logits, winner):
    """Folded and on kernels, on the network's grid and on others: scores of 0 and 1/2, whose sums are not rounded."""
    layers = torch.nn.Sequential(torch.nn.Conv2d(1, 3, 3, padding=1), torch.nn.BatchNorm2d(3))
    torch.nn.init.zeros_(layers[0].weight)
    torch.nn.init.zeros_(layers[0].bias)
    layers[1].bias.data.copy_(torch.tensor(logits))
    network = ready_to_segment(layers.eval(), CPU, precision)
    parts = [np.random.default_rng(0).random((1, 2, 16, 16), np.float32) for _ in range(2)]
    how = {"batch_size": 3, "device": CPU, "precision": precision}
    classes = segment_parts(network, parts, {"padded": [16, 16]}, (4, *shape), spacing=1.0, **how)
    assert (classes == winner).all()
