"""SwAV against lightly and loops; its prototypes, its queue and its small crops."""

import math

import pytest
import torch
from torch import nn

from jcl.augment.spatial import AffineRanges
from jcl.backbones.unet import UNet
from jcl.errors import UsageError
from jcl.methods.swav import SwAV, sinkhorn, small_crop, swapped_prediction
from jcl.ssl.host_buffer import set_host_scalar
from jcl.training.optim import set_learning_rate, sgd
from oracles.answers import CONTENT, PRECISIONS, Features, check, check_finite, given, hard_features, slices


def on_features(prototypes: torch.Tensor, *, queue: int = 0, **settings) -> SwAV:
    method = SwAV(Features(), projection=8, prototypes=len(prototypes), queue=queue, **{"temperature": 0.1, **settings})
    method.projector = nn.Identity()
    del method.prototypes
    method.prototypes = prototypes  # no parameter, but a leaf of the test's own
    set_host_scalar(method, "progress", 0.5)
    return method


def loss_of(method, *views):
    return method(tuple(view[:, :, None, None] for view in views), slices(len(views[0]) // 2))["loss"]


def make(**settings) -> SwAV:
    torch.manual_seed(0)
    return SwAV(UNet(width=4), **({"projection": 16, "hidden": 32, "prototypes": 24} | settings))


@pytest.mark.parametrize(("dtype", "tolerance"), PRECISIONS)
def test_loss_and_gradients_are_lightlys(dtype, tolerance):
    t = given(dtype)
    loss = loss_of(on_features(t["prototypes"]), torch.cat([t["first"], t["second"]]))
    check("swav", loss, {k: t[k] for k in ("first", "second", "prototypes")}, tolerance)


@pytest.mark.parametrize(("dtype", "tolerance"), PRECISIONS)
def test_with_a_small_crop(dtype, tolerance):
    t = given(dtype)
    method = on_features(t["prototypes"], small_crops=1)
    loss = loss_of(method, torch.cat([t["first"], t["second"]]), t["small"])
    check("swav_small", loss, {k: t[k] for k in ("first", "second", "small", "prototypes")}, tolerance)


@pytest.mark.parametrize(("dtype", "tolerance"), PRECISIONS)
def test_with_a_queue(dtype, tolerance):
    t = given(dtype)
    method = on_features(t["prototypes"], queue=10).to(dtype)
    method.queue.push(first=t["queue_first"], second=t["queue_second"])
    loss = loss_of(method, torch.cat([t["first"], t["second"]]))
    check("swav_queue", loss, {k: t[k] for k in ("first", "second", "prototypes")}, tolerance)


def loop_sinkhorn(scores: torch.Tensor, epsilon: float, iterations: int) -> list[list[float]]:
    """Algorithm 1 of the paper, one number after the other, in float64."""
    q = [[math.exp(score / epsilon) for score in row] for row in scores.tolist()]
    rows, columns = len(q), len(q[0])
    for _ in range(iterations):
        for k in range(columns):
            total = sum(q[i][k] for i in range(rows))
            for i in range(rows):
                q[i][k] /= total * columns
        for i in range(rows):
            total = sum(q[i])
            q[i] = [value / (total * rows) for value in q[i]]
    return [[value * rows for value in row] for row in q]


@pytest.mark.parametrize("iterations", [1, 3, 8])
@pytest.mark.parametrize(("rows", "columns"), [(6, 4), (4, 9), (1, 3), (5, 1)])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
def test_sinkhorn_equals_loop(iterations, rows, columns, dtype, tolerance):
    torch.manual_seed(0)
    scores = torch.rand(rows, columns, dtype=dtype) * 2 - 1
    wanted = torch.tensor(loop_sinkhorn(scores, 0.05, iterations), dtype=torch.float64)
    got = sinkhorn(scores, epsilon=0.05, iterations=iterations)
    torch.testing.assert_close(got.double(), wanted, rtol=0, atol=tolerance)


def test_sinkhorn_is_lightlys():
    t = given(torch.float64)
    wanted = torch.tensor(CONTENT["sinkhorn"], dtype=torch.float64)
    got = sinkhorn((t["first"] @ t["prototypes"].T).detach(), epsilon=0.5)
    torch.testing.assert_close(got, wanted, rtol=0, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("epsilon", [1e-3, 0.05, 100.0])
def test_codes_are_distributions_that_use_all_prototypes(dtype, epsilon):
    """Also where the plain form overflows (exp(1000)) and where there are more prototypes than rows."""
    torch.manual_seed(0)
    for rows, columns in ((4, 300), (64, 8), (2, 2)):
        scores = (torch.rand(rows, columns) * 2 - 1).to(dtype)
        codes = sinkhorn(scores, epsilon=epsilon)
        assert torch.isfinite(codes).all()
        torch.testing.assert_close(codes.sum(1), torch.ones(rows), rtol=0, atol=1e-4)
    balanced = sinkhorn(torch.rand(64, 8), epsilon=0.05, iterations=100)
    torch.testing.assert_close(balanced.sum(0), torch.full((8,), 8.0), rtol=0, atol=0.05)


def test_swapped_prediction_equals_loop():
    torch.manual_seed(0)
    scores = [torch.randn(5, 4, dtype=torch.float64) for _ in range(3)]
    codes = [torch.rand(5, 4, dtype=torch.float64) for _ in range(2)]
    terms = []
    for view in range(2):
        for other in (v for v in range(3) if v != view):
            for i in range(5):
                exponentials = [math.exp(scores[other][i, k].item() / 0.1) for k in range(4)]
                shares = [math.log(e / sum(exponentials)) for e in exponentials]
                terms.append(-sum(codes[view][i, k].item() * shares[k] for k in range(4)))
    assert swapped_prediction(scores, codes, 0.1).item() == pytest.approx(sum(terms) / len(terms), rel=1e-12)


@pytest.mark.parametrize("temperature", [0.001, 0.1, 100.0])
@pytest.mark.parametrize("epsilon", [0.001, 0.05])
@pytest.mark.parametrize(("first", "second"), hard_features())
def test_finite_with_more_prototypes_than_slices(first, second, temperature, epsilon):
    torch.manual_seed(0)
    prototypes = nn.functional.normalize(torch.randn(300, 8), dim=1)
    method = on_features(prototypes, temperature=temperature, epsilon=epsilon)
    check_finite(lambda a, b: loss_of(method, torch.cat([a, b])), first, second)


def test_trains_in_bfloat16_with_more_prototypes_than_slices():
    method, images = make(prototypes=300, queue=8, queue_from=0.2), torch.rand(8, 1, 32, 32)
    optimizer = sgd(method.parameters(), weight_decay=1e-5)
    set_learning_rate(optimizer, method.learning_rate)
    for step in range(10):
        with torch.autocast("cpu", torch.bfloat16):
            loss = method((images,), slices(4))["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        method.after_step(step / 10)
        assert torch.isfinite(loss)
        assert all(torch.isfinite(p).all() for p in method.parameters())
        assert method.prototypes.norm(dim=1).tolist() == pytest.approx([1.0] * 300, abs=1e-5)


def test_prototypes_are_frozen_at_first():
    method, images = make(frozen_until=0.3, queue=0), torch.rand(8, 1, 32, 32)
    optimizer = sgd(method.parameters(), weight_decay=0.0)
    set_learning_rate(optimizer, 0.1)
    start = method.prototypes.detach().clone()
    for progress, moves in ((0.2, False), (0.3, False), (0.4, True)):  # progress is that after the step
        optimizer.zero_grad()
        method((images,), slices(4))["loss"].backward()
        optimizer.step()
        method.after_step(progress)
        assert (not torch.allclose(method.prototypes, start, atol=1e-6)) == moves


def test_the_queue_takes_part_once_it_is_full_and_its_time_has_come():
    images = torch.rand(8, 1, 32, 32)
    seen = {}
    for queue_from in (0.0, 0.5):
        for progress in (0.1, 0.9):
            method, alone = (make(queue=size, queue_from=queue_from).eval() for size in (8, 0))
            differs = []
            for _ in range(3):
                wanted = alone((images,), slices(4))["loss"]
                differs.append(not torch.equal(method((images,), slices(4))["loss"], wanted))
                images = torch.rand(8, 1, 32, 32)
                method.after_step(progress)
                alone.after_step(progress)
            seen[queue_from, progress] = differs
    assert seen == {
        (0.0, 0.1): [False, False, True],
        (0.0, 0.9): [False, False, True],
        (0.5, 0.1): [False, False, False],
        (0.5, 0.9): [False, False, True],
    }


def test_views_and_small_crops_in_blocks():
    method, b = make(small_crops=3), slices(2)
    b.images.data = torch.tensor([1.0, 2.0])[:, None, None, None].expand(2, 1, 64, 48).contiguous()
    large, small = method.views(b, torch.Generator().manual_seed(0))
    assert large.shape == (4, 1, 64, 48)
    assert small.shape == (6, 1, 32, 24)
    assert large.amax(dim=(1, 2, 3)).tolist() == pytest.approx([1, 2] * 2)
    assert small.amax(dim=(1, 2, 3)).tolist() == pytest.approx([1, 2] * 3)
    losses = method((large, small), b)
    losses["loss"].backward()
    assert torch.isfinite(losses["loss"])


def test_small_crops_are_parts_of_the_image_at_its_own_resolution():
    still = AffineRanges(rotation=0.0, scale=0.0, translation=0.0)
    ramps = torch.stack(torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij"))[:, None]
    images = ramps.repeat(50, 1, 1, 1) + 1
    crops = small_crop(images, still, generator=torch.Generator().manual_seed(0))
    rows, columns = crops[::2, 0], crops[1::2, 0]
    torch.testing.assert_close(rows.diff(dim=1)[:, 1:-1, 1:-1], torch.ones(50, 29, 30), rtol=0, atol=1e-3)
    torch.testing.assert_close(columns.diff(dim=2)[:, 1:-1, 1:-1], torch.ones(50, 30, 29), rtol=0, atol=1e-3)
    starts = torch.cat([rows[:, 16, 0], columns[:, 0, 16]])
    assert starts.min() > 0.2, "nothing from beyond the image"
    assert (rows[:, 1, 0].min(), rows[:, 1, 0].max()) == (pytest.approx(2, abs=2), pytest.approx(34, abs=2))


@pytest.mark.parametrize(("setting", "value"), [("prototypes", 0), ("queue", -1), ("small_crops", -1)])
def test_settings_that_are_too_small_are_named(setting, value):
    with pytest.raises(UsageError, match=setting):
        make(**{setting: value})
