"""Transfer: what is loaded, what is refused, and what is said."""

import pytest
import torch

from jcl.backbones.unet import UNet
from jcl.errors import DataError
from jcl.transfer import transfer

PARTS = ("encoder", "decoder.0", "decoder.1")


def trained(**settings) -> dict[str, torch.Tensor]:
    torch.manual_seed(1)
    return UNet(**{"width": 4, **settings}).state_dict()


def test_parts_are_loaded_and_nothing_else():
    network, weights = UNet(width=4, classes=5), trained(classes=2)
    before = {name: t.clone() for name, t in network.state_dict().items()}
    report = transfer(network, weights, PARTS)
    for name, tensor in network.state_dict().items():
        chosen = name.startswith(tuple(f"{part}." for part in PARTS))
        assert torch.equal(tensor, weights[name] if chosen else before[name]), name
        assert (name in report.loaded) == chosen
        assert (name in report.fresh) != chosen


def test_report_counts_by_hand():
    network = UNet(width=4, classes=5)
    report = transfer(network, trained(), PARTS)
    parts = tuple(f"{part}." for part in PARTS)
    sizes = {name: p.numel() for name, p in network.named_parameters()}
    share = sum(size for name, size in sizes.items() if name.startswith(parts)) / sum(sizes.values())
    assert report.share == pytest.approx(share)
    assert f"{share:.1%}" in str(report)
    assert "fresh: decoder.2, decoder.3, head" in str(report)


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod."])
def test_wrappers_prefixes_are_taken_off(prefix):
    weights = {prefix + name: tensor for name, tensor in trained().items()}
    assert transfer(UNet(width=4), weights, PARTS).share > 0.9


def test_other_number_of_channels_keeps_the_first_layers_output():
    """A scan repeated over three channels gives what the one channel gave."""
    network, weights = UNet(width=4, in_channels=3), trained()
    report = transfer(network, weights, PARTS)
    assert report.adapted == ("encoder.blocks.0.0.weight",)
    assert "1 adapted" in str(report)
    one = UNet(width=4)
    one.load_state_dict(weights)
    x = torch.rand(1, 1, 16, 16)
    torch.testing.assert_close(
        network.encoder.blocks[0][0](x.repeat(1, 3, 1, 1)), one.encoder.blocks[0][0](x), atol=1e-5, rtol=1e-5
    )


def test_other_width_is_refused():
    with pytest.raises(DataError, match="same backbone, width and depth"):
        transfer(UNet(width=8), trained(), PARTS)


def test_missing_tensor_is_refused():
    weights = trained()
    del weights["decoder.1.up.weight"]
    with pytest.raises(DataError, match=r"lack decoder\.1\.up\.weight"):
        transfer(UNet(width=4), weights, PARTS)


def test_nothing_that_fits_is_refused():
    with pytest.raises(DataError, match="none of the pre-trained weights"):
        transfer(UNet(width=4), {"other": torch.zeros(1)}, PARTS)
