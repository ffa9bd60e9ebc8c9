import pytest
import torch

from jcl.backbones import available, load
from jcl.backbones._surgery import copy_submodules, frozen, reset_parameters
from jcl.backbones.unet import UNet


def test_a_copy_of_the_encoder_encodes_as_the_backbone_does():
    network = UNet(width=2)
    own = copy_submodules(network, network.submodule_names(0))
    image = torch.rand(1, 1, 32, 32)
    for got, wanted in zip(own.encode(image), network.encode(image), strict=True):
        assert torch.equal(got, wanted)
    assert {name.split(".")[0] for name, _ in own.named_parameters()} == {"encoder"}
    assert not {id(p) for p in own.parameters()} & {id(p) for p in network.parameters()}


def test_the_part_of_a_part_keeps_the_whole_of_it():
    network = UNet(width=2)
    assert {name for name, _ in copy_submodules(network, ["encoder", "decoder.1"]).named_children()} == {
        "encoder",
        "decoder",
    }


def test_weights_drawn_anew_are_others_of_the_same_spread():
    network = UNet(width=8)
    old = [p.detach().clone() for p in network.encoder.parameters() if p.ndim == 4]
    reset_parameters(network)
    new = [p.detach() for p in network.encoder.parameters() if p.ndim == 4]
    for before, after in zip(old, new, strict=True):
        assert not torch.allclose(before, after)
        assert 0.6 < (after.std() / before.std()).item() < 1.6


@pytest.mark.parametrize("name", available())
def test_weights_drawn_anew_are_spread_as_the_networks_own_first_ones(name):
    """Weight by weight, in the mean over draws; what is the same in every network, such as a bias of 0, is so again."""
    torch.manual_seed(0)
    first = [dict(load(name)(width=8).named_parameters()) for _ in range(3)]
    network = copy_submodules(load(name)(width=8), load(name)(width=8).submodule_names(0))
    again: list[dict[str, torch.Tensor]] = []
    for _ in range(3):
        reset_parameters(network)
        again.append({key: p.detach().clone() for key, p in network.named_parameters()})
    for key in again[0]:
        constant = all(torch.equal(found[key], first[0][key]) for found in first)
        if constant:
            assert all(torch.equal(found[key], first[0][key]) for found in again), key
        elif first[0][key].numel() >= 64 and key.split(".")[-1] != "position":
            own, drawn = (torch.stack([found[key].detach() for found in some]).std() for some in (first, again))
            assert 0.8 < (drawn / own).item() < 1.25, key


def test_frozen_parts_get_no_gradient_and_keep_their_statistics():
    network = UNet(width=2)
    network.decoder.eval()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    images = torch.rand(3, 1, 32, 32)
    with frozen(network, network.submodule_names(0)):
        features = network.encode(images)
    assert not any(level.requires_grad for level in features)
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    assert network.encoder.training
    assert network.encoder.blocks[0][1].training
    assert not network.decoder.training
    torch.testing.assert_close(features[-1], network.eval().encode(images)[-1])
