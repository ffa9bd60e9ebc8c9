"""Networks on kernels compute what they did, under the same names; each backbone, and what a layer cannot do."""

import copy
import pickle

import pytest
import torch
from torch import nn

from jcl import backbones
from jcl.inference.predictor import fold_batch_norms
from jcl.kernels import direct
from jcl.kernels import layers as kernel_layers
from jcl.kernels.exchange import use_kernels
from support.onkernels import is_chain, lanes, runs_on_kernels

LANES = lanes()


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


TILES = 3e-5
"""What tiles may round at most, of the largest value of a result (see test_convolution)."""


def disturbed(exact: nn.Module) -> nn.Module:
    """A copy with noise as large as the tiles' rounding behind each 3 x 3 convolution, forward and back."""
    generator = torch.Generator().manual_seed(1)

    def noisy(values: torch.Tensor) -> torch.Tensor:
        noise = torch.randn(values.shape, generator=generator, dtype=values.dtype)
        return values + TILES * values.detach().abs().max() * noise

    def hook(layer: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> torch.Tensor:
        output.register_hook(noisy)
        return noisy(output)

    network = copy.deepcopy(exact)
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d) and layer.kernel_size == (3, 3):
            layer.register_forward_hook(hook)
    return network


@pytest.mark.parametrize("name", backbones.available(2))
def test_every_backbone_computes_the_same_on_kernels(name):
    """Outputs, gradients and running statistics: no further from float64 than noise of the tiles' rounding leads.

    How much a network makes of the last bits, by the pixel that pooling takes for one, is thus found in float64, the
    same on every processor. BCDU-Net, UCTransNet and Rolling U-Net, which normalise a handful of values, are far from
    float64 in plain float32 too: they may be ten times as far as that, and are held more closely in evaluation, below.
    """
    plain, fast = pair(name, soft=True)
    exact = copy.deepcopy(plain).double()
    noisy = disturbed(exact)
    assert list(plain.state_dict()) == list(fast.state_dict())
    assert sum(isinstance(layer, nn.Conv2d) and runs_on_kernels(layer) for layer in fast.modules()) >= 4
    x, gradient = torch.rand(2, 1, 64, 64), torch.randn(2, 3, 64, 64)
    networks = (exact, noisy, plain, fast)
    results = [net(x.to(next(net.parameters()).dtype)) for net in networks]
    for y in results:
        y.backward(gradient.to(y.dtype))
    assert_as_near(*results)
    for parameters in zip(*(net.parameters() for net in networks), strict=True):
        gradients = [parameter.grad for parameter in parameters]
        assert len({gradient is None for gradient in gradients}) == 1
        if gradients[0] is not None:
            assert_as_near(*gradients)
    for buffers in zip(*(net.buffers() for net in networks), strict=True):
        assert_as_near(*buffers)


def assert_as_near(exact: torch.Tensor, *others: torch.Tensor) -> None:
    """The distance to the exact values: three times that of the noisy ones, ten times of the plain ones, or 1e-4."""
    exact = exact.detach().double()
    noisy, plain, fast = (float((other.detach() - exact).norm()) for other in others)
    assert fast <= max(3 * noisy, 10 * plain, 1e-4 * float(exact.norm()) + 1e-6)


@pytest.mark.parametrize("name", backbones.available(2))
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
    kinds = (nn.Conv2d, nn.BatchNorm2d, nn.MaxPool2d)
    left = [name for name, layer in fast.named_modules() if isinstance(layer, kinds) and not runs_on_kernels(layer)]
    assert left == ["encoder.blocks.0.0", "head"]
    units = [layer for layer in fast.modules() if isinstance(layer, nn.Sequential)]
    assert len(units) == 9
    assert all(map(is_chain, units))


def test_activations_are_computed_with_the_layer_before_them_in_a_sequence_alone():
    sequence = nn.Sequential(
        nn.Conv2d(LANES, LANES, 3, padding=1), nn.Identity(), nn.ReLU(), nn.BatchNorm2d(LANES), nn.LeakyReLU(0.2),
        nn.ReLU(),
    )  # fmt: skip
    use_kernels(sequence)
    (links,) = vars(sequence)["forward"].args
    assert [link.layer for link in links] == [sequence[0], sequence[3], sequence[5]]
    assert [link.slope for link in links] == [0, 0.2, 1]

    class Own(nn.Sequential):
        def forward(self, x):
            return self[1](self[0](x) + 1)

    own = Own(nn.BatchNorm2d(LANES), nn.ReLU())
    use_kernels(own)
    assert not runs_on_kernels(own)
    assert runs_on_kernels(own[0])


def test_hooks_see_what_each_layer_gives():
    plain = layers()
    fast = copy.deepcopy(plain)
    use_kernels(fast)
    seen: list[list[torch.Tensor]] = [[], []]
    for net, outputs in zip((plain, fast), seen, strict=True):
        for layer in net:
            layer.register_forward_hook(lambda module, inputs, output, kept=outputs: kept.append(output.clone()))
        net(x := torch.rand(2, LANES, 24, 24, generator=torch.Generator().manual_seed(1)))
    assert len(seen[0]) == len(seen[1]) == 4
    assert all(torch.allclose(one, two, atol=2e-5) for one, two in zip(*seen, strict=True)), x


def test_it_is_undone_by_deleting_the_forward():
    network = layers()
    before = [type(layer) for layer in network.modules()]
    use_kernels(network)
    use_kernels(network)  # a second time changes nothing
    assert [type(layer) for layer in network.modules()] == before
    wanted = copy.deepcopy(network)
    for layer in network.modules():
        if runs_on_kernels(layer):
            del layer.forward
    assert not any("forward" in vars(layer) for layer in network.modules())
    x = torch.rand(2, LANES, 24, 24)
    assert torch.allclose(network(x), wanted(x), atol=2e-5)


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
    assert not runs_on_kernels(layer)
    assert not runs_on_kernels(network)


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


def in_bfloat16(network: nn.Module, x: torch.Tensor) -> torch.Tensor:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        return network(x)


def test_under_autocast_it_is_bfloat16():
    plain = layers()
    fast, exact = copy.deepcopy(plain), copy.deepcopy(plain).double()
    use_kernels(fast)
    x = torch.rand(2, LANES, 30, 30)
    assert in_bfloat16(fast, x).dtype == torch.bfloat16
    assert_no_further(exact(x.double()), in_bfloat16(plain, x), in_bfloat16(fast, x))


def test_under_autocast_convolutions_and_chains_go_through_the_kernels(monkeypatch):
    seen: list[tuple[str, torch.dtype]] = []
    for name in ("convolve", "convolve_with_moments", "convolve_normalised"):
        usual = getattr(kernel_layers, name)

        def note(x: torch.Tensor, *more, name: str = name, usual=usual, **options):
            seen.append((name, x.dtype))
            return usual(x, *more, **options)

        monkeypatch.setattr(kernel_layers, name, note)
    channels = direct.CHANNELS
    unit = [nn.Conv2d(channels, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels), nn.ReLU()]
    chain = nn.Sequential(*copy.deepcopy(unit), *copy.deepcopy(unit))
    alone = nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1), nn.ReLU())
    for network in (chain, alone):
        use_kernels(network)
        in_bfloat16(network, torch.rand(2, channels, 30, 30))
    assert seen == [(name, torch.bfloat16) for name in ("convolve_with_moments", "convolve_normalised", "convolve")]


def test_channels_that_bfloat16_does_not_take_and_few_pixels_go_another_way():
    for channels, side in ((8, 30), (16, 2)):
        plain = nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1), nn.LeakyReLU(0.1))
        fast = copy.deepcopy(plain)
        use_kernels(fast)
        x = torch.rand(2, channels, side, side)
        assert torch.equal(in_bfloat16(fast, x), in_bfloat16(plain, x))


def test_where_the_tiles_may_not_be_used_it_is_as_without(monkeypatch):
    monkeypatch.setattr(kernel_layers, "multiplies_bfloat16", lambda: False)
    plain = nn.Sequential(nn.Conv2d(LANES, 2 * LANES, 3, padding=1), nn.LeakyReLU(0.1))
    fast = copy.deepcopy(plain)
    use_kernels(fast)
    x = torch.rand(2, LANES, 30, 30)
    assert torch.equal(in_bfloat16(fast, x), in_bfloat16(plain, x))


@pytest.mark.parametrize("name", backbones.available(2))
def test_every_backbone_in_bfloat16_is_as_near_to_the_exact_as_without_kernels(name):
    """In evaluation, where no network makes more of the last bits than it gets; the U-Nets in training, too."""
    plain, fast = pair(name)
    exact = copy.deepcopy(plain).double()
    x = torch.rand(2, 1, 64, 64)
    for training in (False, *([True] if name in ("unet", "attention_unet") else [])):
        for net in (exact, plain, fast):
            net.train(training)
        results = [exact(x.double()), in_bfloat16(plain, x), in_bfloat16(fast, x)]
        assert_no_further(*results)
        if training:
            for y in results:
                y.square().mean().backward()
            assert_no_further(
                *(torch.cat([p.grad.flatten() for p in net.parameters()]) for net in (exact, plain, fast))
            )
            for buffers in zip(*(net.buffers() for net in (exact, plain, fast)), strict=True):
                assert_no_further(*buffers)


def assert_no_further(exact: torch.Tensor, *others: torch.Tensor) -> None:
    """From the exact values: one and a half times as far as PyTorch's bfloat16."""
    exact = exact.detach().double()
    plain, fast = (float((other.detach().double() - exact).norm()) for other in others)
    assert fast <= 1.5 * plain + 1e-4 * float(exact.norm())


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda network: pickle.loads(pickle.dumps(network))])
@pytest.mark.parametrize("chained", [False, True])
def test_a_copy_has_weights_of_its_own(copied, chained):
    fast = layers()[:: 2 if chained else 1]
    use_kernels(fast)
    assert is_chain(fast) == chained
    other = copied(fast)
    x = torch.rand(1, LANES, 24, 24)
    wanted = fast(x).detach()
    with torch.no_grad():
        other[0].weight.zero_()
    assert torch.equal(fast(x), wanted)
    assert not torch.equal(other(x), wanted)


def test_pooling_is_on_kernels_where_it_halves_and_takes_every_input():
    kept = [nn.MaxPool2d(3, 2), nn.MaxPool2d(2, padding=1), nn.MaxPool2d(2, 1), nn.MaxPool2d(2, ceil_mode=True)]
    network = nn.Sequential(nn.MaxPool2d(2), nn.MaxPool2d((2, 2), (2, 2)), *kept)
    use_kernels(network)
    assert [runs_on_kernels(layer) for layer in network] == [True, True, False, False, False, False]
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


@pytest.mark.parametrize("bias", [False, True])
def test_an_image_of_one_pixel_meets_the_middle_of_the_weights_alone(bias):
    torch.manual_seed(0)
    plain = nn.Conv2d(LANES, 2 * LANES, 3, padding=1, bias=bias)
    fast = copy.deepcopy(plain)
    use_kernels(fast)
    x, gradient = torch.randn(5, LANES, 1, 1), torch.randn(5, 2 * LANES, 1, 1)
    found, wanted = (
        [y := layer(x_ := x.clone().requires_grad_()), *torch.autograd.grad(y, (x_, *layer.parameters()), gradient)]
        for layer in (fast, plain)
    )
    for one, other in zip(found, wanted, strict=True):
        assert one.shape == other.shape
        assert torch.allclose(one, other, atol=1e-5)
