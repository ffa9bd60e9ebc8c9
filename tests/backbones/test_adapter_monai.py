"""MONAI's networks as backbones: they keep the contract, and compute what they computed before."""

import copy

import pytest
import torch
from tests.backbones.test_contract import *  # noqa: F403 - all of the contract, for the networks of `name` below
from torch import Generator

from jcl import backbones, methods
from jcl.backbones._adapter import unwrap
from jcl.backbones._transfer import transfer
from jcl.training.checkpoint import read_weights, write_weights
from jcl.training.optim import set_learning_rate, sgd
from support.training import losses_of, slices

pytestmark = pytest.mark.slow  # importing MONAI takes seconds


@pytest.fixture(params=["plain", "basic_unet", "attention_unet", "dyn_unet"])
def name(request) -> str:
    return f"support.foreignnets:{request.param}"


@pytest.fixture
def network(name):
    torch.manual_seed(0)
    return backbones.load(name)(in_channels=1, classes=3, width=4)


@pytest.mark.parametrize("size", [(64, 64), (32, 96)])
def test_it_computes_what_the_module_does(network, size):
    network.eval()
    x = torch.rand(2, 1, *size)
    torch.testing.assert_close(network(x), unwrap(network)(x), atol=1e-6, rtol=0)


def test_channels_by_hand(network):
    assert network.stride == 16
    assert network.feature_channels == (4, 8, 16, 32, 64)
    assert [network.decoder_channels(blocks) for blocks in range(5)] == [64, 32, 16, 8, 4]


def test_weights_go_back_to_a_module_of_their_own(network, name):
    """Without the prefix, they are what the module's own state dict asks for, its second names apart."""
    other = unwrap(backbones.load(name)(in_channels=1, classes=3, width=4)).eval()
    bare = {key.removeprefix("module."): tensor for key, tensor in network.state_dict().items()}
    missing, unexpected = other.load_state_dict(bare, strict=False)
    second = {key for key, _ in other.named_parameters(remove_duplicate=False)} - dict(other.named_parameters()).keys()
    assert set(missing) == second
    assert not unexpected
    x = torch.rand(1, 1, 32, 32)
    assert torch.equal(other(x), unwrap(network.eval())(x))


def test_weights_on_disk(network, tmp_path):
    write_weights(tmp_path / "w.safetensors", network.state_dict())
    other = copy.deepcopy(network)
    torch.nn.init.zeros_(next(other.parameters()))
    other.load_state_dict(read_weights(tmp_path / "w.safetensors"))
    assert all(map(torch.equal, other.state_dict().values(), network.state_dict().values()))


@pytest.mark.parametrize("settings", [("jcl", {}), ("jcl", {"connection": "ema"}), ("simclr", {})], ids=str)
def test_methods_train_it(network, settings):
    method = methods.load(settings[0])(network, projection=8, **settings[1])
    optimizer = sgd(method.parameters(), weight_decay=0.0)
    set_learning_rate(optimizer, method.learning_rate / 10)
    before, values = {key: p.detach().clone() for key, p in network.named_parameters()}, []
    for _ in range(6):
        loss = losses_of(method, slices())["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        method.after_step(0.0)
        values.append(loss.item())
    assert values[-1] < values[0]
    changed = {key for key, p in network.named_parameters() if not torch.equal(p, before[key])}
    assert {key.startswith(tuple(f"{part}." for part in method.pretrained_modules)) for key in changed} == {True}

    views = method.views(slices(), Generator().manual_seed(0))
    assert torch.isfinite(method(views, slices())["loss"])


def test_pretrained_parts_are_carried_over(network, name):
    torch.manual_seed(1)
    fine = backbones.load(name)(in_channels=1, classes=5, width=4)
    report = transfer(fine, network.state_dict(), network.submodule_names(2))
    sizes = {key: p.numel() for key, p in fine.named_parameters()}
    carried = sum(
        size for key, size in sizes.items() if key.startswith(tuple(f"{p}." for p in network.submodule_names(2)))
    )
    assert report.share == pytest.approx(carried / sum(sizes.values()))
    assert all(torch.equal(fine.state_dict()[key], network.state_dict()[key]) for key in report.loaded)
