"""The authors' network against what their programs give from the same weights (see oracles/authors.py)."""

import math

import pytest
import torch
from torch import nn

from jcl.backbones.macl_unet import MACLUNet
from oracles.authors import as_ours, below, tensors

NEAR = {"rtol": 1e-5, "atol": 5e-6}


def loaded(theirs: dict[str, torch.Tensor], program: str, classes: int = 4) -> MACLUNet:
    """The network with their weights; what theirs lacks stays as it was drawn."""
    net = MACLUNet(classes=classes, width=4)
    found = as_ours(theirs, net.state_dict(), program)
    if "decoder.head.0.weight" in theirs:
        found["head.weight"] = theirs["decoder.head.0.weight"]
    lacking, surplus = net.load_state_dict(found, strict=False)
    assert not surplus
    assert {name.split(".")[0] for name in lacking} <= {"decoder", "head"}
    return net


@pytest.mark.parametrize(("state", "outputs"), [("state.", "eval."), ("prebn.", "prebn_eval.")])
def test_bottlenecks_and_second_decoder_block_of_macl(state, outputs):
    given = tensors("authors_macl_unet")
    net = loaded({**below("state.", "authors_macl_unet"), **below(state, "authors_macl_unet")}, "macl").eval()
    with torch.no_grad():
        small = net.encode(given["in.x2"])
        torch.testing.assert_close(net.encode(given["in.x1"])[-1], given[f"{outputs}x_1"], **NEAR)
        torch.testing.assert_close(small[-1], given[f"{outputs}x_2"], **NEAR)
        torch.testing.assert_close(net.decode(small, blocks=2), given[f"{outputs}up_concat_2_expand"], **NEAR)


def test_every_level_of_pcl():
    given = tensors("authors_pcl_unet")
    features = loaded(below("state.", "authors_pcl_unet"), "pcl").eval().encode(given["in.x1"])
    for level in range(3):
        torch.testing.assert_close(features[-1 - level], given[f"eval.encoder_x1.{level}"], **NEAR)


@pytest.mark.parametrize("mode", ["eval", "train"])
def test_logits_of_pcls_segmentation_network(mode):
    given = tensors("authors_pcl_seg")
    net = loaded(below("state.", "authors_pcl_seg"), "pcl").train(mode == "train")
    torch.testing.assert_close(net(given["in.x"]), given[f"{mode}.logits"], rtol=1e-5, atol=2e-5)


def test_parameters_are_theirs_without_the_biases_that_a_normalisation_takes_out():
    net = MACLUNet(width=32, classes=4)
    count = {part: sum(p.numel() for p in net.get_submodule(part).parameters()) for part in ("encoder", "decoder", "")}
    left_out = 2 * (32 + 64 + 128 + 256)
    assert count["encoder"] == 4_713_568 - left_out
    assert count["decoder"] == 3_049_760 - left_out
    assert count[""] == 7_763_456 - 2 * left_out


def test_first_weights_are_drawn_as_theirs():
    """Their spread, and that of the program's own first weights, is sqrt(2 / (1 + 0.01^2) / inputs); biases are 0."""
    torch.manual_seed(0)
    net = MACLUNet(width=16)
    theirs = below("state.", "authors_macl_unet")
    for ours, name in {
        "encoder.blocks.4.2": "share_encoder.center.2",
        "decoder.0.up": "online_decoder.upscale5",
    }.items():
        layer = net.get_submodule(ours)
        assert isinstance(layer, nn.Conv2d | nn.ConvTranspose2d)
        for weight in (layer.weight, theirs[f"{name}.weight"]):
            assert weight.std().item() == pytest.approx(math.sqrt(2 / 1.0001 / weight[0].numel()), rel=0.03)
        assert not layer.bias.any()
