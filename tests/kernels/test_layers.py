"""Networks on kernels compute what they did, under the same names; each backbone, and what a layer cannot do."""

import copy

import pytest
import torch
from torch import nn

from jcl import backbones
from jcl.kernels.exchange import use_kernels
from jcl.kernels.layers import Convolution, Normalisation, Pooling
from jcl.kernels.library import load_library
from jcl.segment import fold_batch_norms

LANES = load_library().jcl_lanes()


def pair(name: str, *, soft: bool = False) -> tuple[nn.Module, nn.Module]:
    """A backbone as it is, and a copy of it on kernels.

    With `soft` activations: at a ReLU's kink the last bit of one value of 100,000 decides over a gradient, with kernels
    or without.
    """
    torch.manual_seed(0)
    plain = backbones.load(name)(in_channels=1, classes=3, width=LANES)
    for part in list(plain.modules()) if soft else []:
        for key, child in list(part.named_children()):
            if isinstance(child, (nn.ReLU, nn.LeakyReLU)):
                setattr(part, key, nn.LeakyReLU(0.9))
    for parameter in plain.parameters():
        if parameter.ndim == 1:
            nn.init.normal_(parameter, mean=0.5, std=0.5)  # factors and shifts of normalisations
    fast = copy.deepcopy(plain)
    use_kernels(fast)
    return plain, fast


@pytest.mark.parametrize("name", backbones.available())
def test_every_backbone_computes_the_same_on_kernels(name):
    """Outputs, gradients and running statistics: no further from float64 than ten times what plain float32 is.

    Some of the networks have layers that normalise a handful of values, and are far from it either way: what they do
    is held to more closely in evaluation, below.
    """
    plain, fast = pair(name, soft=True)
    exact = copy.deepcopy(plain).double()
    assert list(plain.state_dict()) == list(fast.state_dict())
    assert sum(isinstance(layer, Convolution) for layer in fast.modules()) >= 4
    x, gradient = torch.rand(2, 1, 64, 64), torch.randn(2, 3, 64, 64)
    results = [net(x.to(next(net.parameters()).dtype)) for net in (exact, plain, fast)]
    for y in results:
        y.backward(gradient.to(y.dtype))
    assert_as_near(*results)
    for (key, one), two, three in zip(exact.named_parameters(), plain.parameters(), fast.parameters(), strict=True):
        assert (one.grad is None) == (two.grad is None) == (three.grad is None), key
        if one.grad is not None and two.grad is not None and three.grad is not None:
            assert_as_near(one.grad, two.grad, three.grad)
    for one, two, three in zip(exact.buffers(), plain.buffers(), fast.buffers(), strict=True):
        assert_as_near(one, two, three)


def assert_as_near(exact: torch.Tensor, plain: torch.Tensor, fast: torch.Tensor) -> None:
    """The distance to the exact values, as a whole, is at most ten times that of the plain ones, or 1e-4 of them."""
    exact, plain, fast = (t.detach().double() for t in (exact, plain, fast))
    assert float((fast - exact).norm()) <= max(10 * float((plain - exact).norm()), 1e-4 * float(exact.norm()) + 1e-6)


@pytest.mark.parametrize("name", backbones.available())
def test_every_backbone_evaluates_the_same_on_kernels(name):
    plain, _ = pair(name)
    plain.eval()
    fast = copy.deepcopy(plain)
    use_kernels(fold_batch_norms(fast))
    x = torch.rand(2, 1, 64, 48)
    with torch.inference_mode():
        wanted = copy.deepcopy(plain).double()(x.double())
        assert float((fast(x) - wanted).abs().max()) < 1e-3 * float(wanted.abs().max())


def test_the_unet_is_all_on_kernels_but_for_the_first_layer_and_the_steps_up():
    _, fast = pair("unet")
    left = [name for name, layer in fast.named_modules() if type(layer) in (nn.Conv2d, nn.BatchNorm2d, nn.LeakyReLU)]
    assert left == ["encoder.blocks.0.0", "head"]


def test_activations_join_the_layer_before_them_in_a_sequence_alone():
    sequence = nn.Sequential(
        nn.Conv2d(LANES, LANES, 3, padding=1), nn.ReLU(), nn.BatchNorm2d(LANES), nn.LeakyReLU(0.2), nn.ReLU()
    )
    use_kernels(sequence)
    assert [type(layer) for layer in sequence] == [Convolution, nn.Identity, Normalisation, nn.Identity, nn.ReLU]
    assert sequence[0].slope == 0
    assert sequence[2].slope == 0.2

    class Own(nn.Sequential):
        def forward(self, x):
            return self[1](self[0](x) + 1)

    own = Own(nn.BatchNorm2d(LANES), nn.ReLU())
    use_kernels(own)
    assert own[0].slope == 1
    assert type(own[1]) is nn.ReLU


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(LANES, LANES, 3),
        nn.Conv2d(LANES, LANES, 3, padding=1, stride=2),
        nn.Conv2d(LANES, LANES, 3, padding=2, dilation=2),
        nn.Conv2d(LANES, LANES, 3, padding=1, groups=2),
        nn.Conv2d(LANES, LANES, 3, padding=1, padding_mode="reflect"),
        nn.Conv2d(LANES, LANES, 1),
        nn.Conv2d(LANES, LANES, 5, padding=1),
        nn.Conv2d(3, LANES, 3, padding=1),
        nn.Conv2d(LANES, 3, 3, padding=1),
        nn.BatchNorm2d(3),
        nn.BatchNorm2d(LANES, affine=False),
        nn.BatchNorm1d(LANES),
    ],
)
def test_layers_of_other_kinds_stay(layer):
    network = nn.Sequential(layer)
    use_kernels(network)
    assert network[0] is layer
    assert type(layer) in (nn.Conv2d, nn.BatchNorm2d, nn.BatchNorm1d)


def layers() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(LANES, LANES, 3, padding="same"), nn.LeakyReLU(0.3), nn.BatchNorm2d(LANES), nn.LeakyReLU(0.3)
    )


@pytest.mark.parametrize(
    "x",
    [
        torch.rand(2, LANES, 1, 70, generator=torch.Generator().manual_seed(1)),  # tiles would be mostly waste
        torch.rand(2, LANES, 5, 5, generator=torch.Generator().manual_seed(1)),  # few pixels
        torch.rand(2, LANES, 30, 30, generator=torch.Generator().manual_seed(1)),
        torch.rand(2, LANES, 30, 30, generator=torch.Generator().manual_seed(1)).double(),
    ],
)
@pytest.mark.parametrize("training", [True, False])
def test_every_input_gets_its_result(x, training):
    plain = layers().to(x.dtype).train(training)
    fast = copy.deepcopy(plain)
    use_kernels(fast)
    assert torch.allclose(fast(x), plain(x), atol=2e-5)


def test_large_weights_with_few_pixels_go_another_way():
    plain = nn.Sequential(nn.Conv2d(256, 512, 3, padding=1), nn.ReLU())
    fast = copy.deepcopy(plain)
    use_kernels(fast)
    x = torch.randn(2, 256, 2, 2)
    assert torch.allclose(fast(x), plain(x), atol=1e-4)
    plain(x).sum().backward()
    fast(x).sum().backward()
    assert torch.allclose(fast[0].weight.grad, plain[0].weight.grad, atol=1e-4)
    assert torch.allclose(fast[0].bias.grad, plain[0].bias.grad, atol=1e-4)


def test_under_autocast_it_is_bfloat16_as_before():
    plain = layers()
    fast = copy.deepcopy(plain)
    use_kernels(fast)
    x = torch.rand(2, LANES, 30, 30)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(fast(x), plain(x))


def test_a_copy_has_weights_of_its_own():
    fast = layers()
    use_kernels(fast)
    other = copy.deepcopy(fast)
    x = torch.rand(1, LANES, 24, 24)
    wanted = fast(x).detach()
    with torch.no_grad():
        other[0].weight.zero_()
    assert torch.equal(fast(x), wanted)
    assert not torch.equal(other(x), wanted)


def test_pooling_is_exchanged_where_it_halves_and_takes_every_input():
    kept = [nn.MaxPool2d(3, 2), nn.MaxPool2d(2, padding=1), nn.MaxPool2d(2, 1), nn.MaxPool2d(2, ceil_mode=True)]
    network = nn.Sequential(nn.MaxPool2d(2), nn.MaxPool2d((2, 2), (2, 2)), *kept)
    use_kernels(network)
    assert [isinstance(layer, Pooling) for layer in network] == [True, True, False, False, False, False]
    for x in (
        torch.rand(2, LANES, 9, 8),
        torch.rand(2, 3, 8, 8),
        torch.rand(LANES, 8, 8),
        torch.rand(1, LANES, 4, 4).double(),
    ):
        assert torch.equal(network[0](x), nn.MaxPool2d(2)(x))


def test_one_value_a_channel_has_no_variance_and_is_refused_as_ever():
    norm = nn.Sequential(nn.BatchNorm2d(LANES))
    use_kernels(norm)
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        norm(torch.ones(1, LANES, 1, 1))
