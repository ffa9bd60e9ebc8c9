"""What every method has to do, for each that is there."""

import copy

import pytest
import torch

from jcl import backbones, methods
from jcl.data.batches import SliceBatch
from jcl.optim import set_learning_rate, sgd
from jcl.transfer import transfer

SETTINGS = {"jcl": {"projection": 16}}
"""Small projections, so that the tests are quick; everything else is as it comes."""


def batch(seed: int = 0) -> SliceBatch:
    generator = torch.Generator().manual_seed(seed)
    return SliceBatch(
        images=torch.rand(6, 1, 64, 64, generator=generator),
        positions=torch.linspace(0.1, 1, 6),
        volumes=torch.tensor([0, 0, 1, 1, 2, 2]),
    )


def make(name: str, backbone: str = "unet") -> torch.nn.Module:
    torch.manual_seed(0)
    network = backbones.load(backbone)(in_channels=1, classes=3, width=4)
    return methods.load(name)(network, **SETTINGS.get(name, {}))


def losses_of(method, b: SliceBatch, seed: int = 0) -> dict[str, torch.Tensor]:
    return method(method.views(b, torch.Generator().manual_seed(seed)), b)


@pytest.fixture(params=[(m, b) for m in methods.available() for b in backbones.available()], ids="-".join)
def method(request):
    return make(*request.param)


def test_the_loss_is_a_finite_scalar(method):
    for name, value in losses_of(method, batch()).items():
        assert value.shape == (), name
        assert torch.isfinite(value), name


def test_same_generator_same_loss_other_generator_another(method):
    state = copy.deepcopy(method.state_dict())
    first = losses_of(method, batch())["loss"]
    method.load_state_dict(state)
    torch.manual_seed(99)
    assert losses_of(method, batch())["loss"] == first
    method.load_state_dict(state)
    assert losses_of(method, batch(), seed=1)["loss"] != first


def test_gradients_on_exactly_the_parts_that_are_trained(method):
    losses_of(method, batch())["loss"].backward()
    with_gradient = {n for n, p in method.backbone.named_parameters() if p.grad is not None and p.grad.any()}
    parts = tuple(f"{part}." for part in method.transfers)
    assert with_gradient == {n for n, _ in method.backbone.named_parameters() if n.startswith(parts)}


def test_a_few_steps_lower_the_loss(method):
    optimizer = sgd(method.parameters(), weight_decay=0.0)
    set_learning_rate(optimizer, method.learning_rate)
    values = []
    for step in range(12):
        loss = losses_of(method, batch())["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        method.after_step((step + 1) / 12)
        values.append(loss.item())
    assert values[-1] < values[0]


def test_state_round_trip(method):
    losses_of(method, batch())
    state = copy.deepcopy(method.state_dict())
    wanted = losses_of(method, batch())["loss"]
    fresh = copy.deepcopy(method)
    for parameter in fresh.parameters():
        torch.nn.init.zeros_(parameter)
    fresh.load_state_dict(state)
    assert losses_of(fresh, batch())["loss"] == wanted


def test_transfer_fits_a_fresh_backbone(method):
    fresh = type(method.backbone)(in_channels=1, classes=7, width=4)
    report = transfer(fresh, method.backbone.state_dict(), method.transfers)
    assert report.loaded
    assert not report.adapted


def test_finite_in_bfloat16_and_near_float32(method):
    state = copy.deepcopy(method.state_dict())
    wanted = losses_of(method, batch())["loss"]
    method.load_state_dict(state)
    with torch.autocast("cpu", torch.bfloat16):
        loss = losses_of(method, batch())["loss"]
    loss.backward()
    assert loss.item() == pytest.approx(wanted.item(), rel=0.1)
    assert all(torch.isfinite(p.grad).all() for p in method.parameters() if p.grad is not None)


def test_unknown_names_list_what_there_is():
    with pytest.raises(methods.UsageError, match="jcl"):
        methods.load("simclr2")
    with pytest.raises(backbones.UsageError, match="unet"):
        backbones.load("vnet")
