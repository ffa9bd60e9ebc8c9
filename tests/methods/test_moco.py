"""MoCo against lightly; what its queue holds, and what its batch normalisation sees."""

from collections import deque

import pytest
import torch
from torch import nn

from jcl.backbones.unet import UNet
from jcl.data.batches import SliceBatch
from jcl.errors import UsageError
from jcl.methods.moco import MoCo, encode_dealt_out, encode_in_runs
from jcl.training.optim import set_learning_rate, sgd
from oracles.answers import PRECISIONS, Features, as_images, check, check_finite, given, hard_features, linear, slices


def on_features(*, teacher: nn.Module | None = None, queue: int = 10, **settings) -> MoCo:
    torch.manual_seed(0)
    method = MoCo(Features(), projection=8, queue=queue, **settings)
    method.projector, method.teacher_projector = nn.Flatten(), teacher or nn.Flatten()
    return method


def make(**settings) -> MoCo:
    torch.manual_seed(0)
    return MoCo(UNet(width=4), projection=16, queue=8, **settings)


def loss_of(method, first, second, batch=None):
    return method((as_images(first), as_images(second)), batch or slices(len(first)))["loss"]


@pytest.mark.parametrize(("dtype", "tolerance"), PRECISIONS)
def test_loss_and_gradients_are_lightlys(dtype, tolerance):
    t = given(dtype)
    method = on_features(teacher=linear(t["teacher"])).to(dtype)
    method.queue["keys"].copy_(t["queue_first"])
    check("moco", loss_of(method, t["first"], t["second"]), {k: t[k] for k in ("first", "second")}, tolerance)


def test_a_slices_own_keys_are_never_its_negatives():
    """Eight slices of two volumes come again and again; the queue is longer than an epoch."""
    method, noise = on_features(queue=13, temperature=0.2), [None] * 13
    log = deque(noise, maxlen=13)
    keys = deque(method.queue["keys"].clone(), maxlen=13)
    identities = [(volume, position) for volume in (0, 1) for position in (0.25, 0.5, 0.75, 1.0)]
    left_out = 0
    for step in range(12):
        order = torch.randperm(8)[:3].tolist()
        batch = SliceBatch(
            images=torch.zeros(3, 1, 1, 1),
            positions=torch.tensor([identities[i][1] for i in order]),
            volumes=torch.tensor([identities[i][0] for i in order]),
        )
        q, k = torch.randn(2, 3, 8)
        terms = []
        for i, name in enumerate(order):
            others = [u for u, owner in zip(keys, log, strict=True) if owner != name]
            left_out += len(keys) - len(others)
            q64 = q[i].double() / q[i].double().norm()
            positive = (q64 @ k[i].double() / k[i].double().norm() / 0.2).exp()
            terms.append(-(positive / (positive + sum((q64 @ u.double() / 0.2).exp() for u in others))).log())
        assert loss_of(method, q, k, batch).item() == pytest.approx(sum(terms).item() / 3, rel=1e-5)
        assert method.queue["written"] == 3 * step, "the keys of the step itself are not there yet"
        method.after_step(0.5)
        log.extend(order)
        keys.extend(nn.functional.normalize(k, dim=1))
    assert left_out > 12, "the test has to meet what it is about"


def test_the_queue_starts_with_unit_vectors_of_no_slice():
    method = make()
    assert method.queue["keys"].norm(dim=1).tolist() == pytest.approx([1.0] * 8)
    assert (method.queue["volumes"] < 0).all()
    losses = method(tuple(torch.rand(2, 4, 1, 32, 32)), slices(4))
    assert losses["loss"] > 0, "there are negatives from the first step on"


@pytest.mark.parametrize("temperature", [0.01, 0.2, 100.0])
@pytest.mark.parametrize(("first", "second"), hard_features())
def test_finite(first, second, temperature):
    method = on_features(temperature=temperature)
    check_finite(lambda a, b: loss_of(method, a, b), first, second)


def apart(method: MoCo) -> None:
    """Make the teacher another network than the student."""
    with torch.no_grad():
        for name, parameter in method.named_parameters():
            if name.startswith("teacher_"):
                parameter.add_(0.1 * torch.randn_like(parameter))


def test_keys_come_from_the_teacher_that_follows_the_student():
    method = make(momentum=0.9)
    apart(method)
    queries, keys = torch.rand(2, 4, 1, 32, 32)
    optimizer = sgd(method.parameters(), weight_decay=0.1)
    set_learning_rate(optimizer, 0.1)
    before = {k: v.clone() for k, v in method.named_parameters() if k.startswith("teacher_")}
    method((queries, keys), slices(4))["loss"].backward()
    optimizer.step()
    for name, old in before.items():
        assert method.get_parameter(name).grad is None
        assert torch.equal(method.get_parameter(name), old), "the optimiser leaves the teacher alone"
    with torch.no_grad():
        features = encode_dealt_out(method.teacher_backbone, keys, 2)
        wanted = nn.functional.normalize(method.teacher_projector(features), dim=1)
    method.after_step(0.1)
    torch.testing.assert_close(method.queue["keys"][:4], wanted)
    assert method.queue["positions"][:4].tolist() == slices(4).positions.tolist()
    moved = 0
    for name, old in before.items():
        student = method.get_parameter(name.removeprefix("teacher_"))
        torch.testing.assert_close(method.get_parameter(name), 0.9 * old + 0.1 * student, rtol=1e-5, atol=1e-7)
        moved += not torch.equal(method.get_parameter(name), old)
    assert moved > 10


class LessGroupMean(Features):
    """As a batch normalisation would, it tells of the other rows of the group."""

    def encode(self, x):
        return [x - x.mean(0)]


def test_queries_and_keys_are_normalised_in_different_groups():
    x = torch.tensor([1.0, 2, 4, 8, 16]).view(5, 1, 1, 1)
    in_runs = [1 - 7 / 3, 2 - 7 / 3, 4 - 7 / 3, 8 - 12, 16 - 12]
    dealt_out = [1 - 7, 2 - 5, 4 - 7, 8 - 5, 16 - 7]
    assert encode_in_runs(LessGroupMean(), x, 2).flatten().tolist() == pytest.approx(in_runs)
    assert encode_dealt_out(LessGroupMean(), x, 2).flatten().tolist() == pytest.approx(dealt_out)
    for encode in (encode_in_runs, encode_dealt_out):
        torch.testing.assert_close(encode(LessGroupMean(), x, 1), x - x.mean())
        assert not encode(LessGroupMean(), x, 9).any(), "as many groups as rows"


@pytest.mark.parametrize("setting", ["queue", "groups"])
def test_settings_that_are_too_small_are_named(setting):
    with pytest.raises(UsageError, match=setting):
        MoCo(UNet(width=4), **{setting: 0})
