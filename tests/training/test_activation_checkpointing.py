"""Activations that are computed again: the same numbers for less memory."""

import copy

import pytest
import torch
from torch import nn

from jcl import backbones, methods
from jcl.training.activation_checkpointing import recompute_activations
from support.training import losses_of, slices


def trained(method: nn.Module) -> dict[str, torch.Tensor]:
    torch.manual_seed(1)  # of dropout
    loss = losses_of(method, slices())["loss"]
    loss.backward()
    gradients = {name: p.grad for name, p in method.named_parameters() if p.grad is not None}
    return {"loss": loss.detach(), **gradients, **{f"buffer {n}": b for n, b in method.named_buffers()}}


@pytest.mark.parametrize("backbone", backbones.available(2))
@pytest.mark.parametrize("name", ["jcl", "gcl"])
def test_loss_gradient_and_statistics_are_the_same(name, backbone):
    torch.manual_seed(0)
    settings = {"projection": 8, **({"region": 1} if name == "gcl" else {})}
    plain = methods.load(name)(backbones.load(backbone)(width=4), **settings).train()
    saving = copy.deepcopy(plain)
    recompute_activations(saving.backbone)
    wanted, got = trained(plain), trained(saving)
    assert got.keys() == wanted.keys()
    for key, value in wanted.items():
        assert torch.equal(got[key], value), key


def test_fewer_activations_are_kept():
    kept = {}
    for again in (False, True):
        net = backbones.load("unet")(width=4)
        if again:
            recompute_activations(net)
        sizes: list[int] = []

        def keep(tensor: torch.Tensor, sizes: list[int] = sizes) -> torch.Tensor:
            sizes.append(tensor.numel())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            net(torch.rand(2, 1, 64, 64))
        kept[again] = sum(sizes)
    assert kept[True] < 0.5 * kept[False]


def test_state_keeps_its_names():
    net = backbones.load("unet")(width=2)
    names = list(net.state_dict())
    recompute_activations(net)
    assert list(net.state_dict()) == names
