"""Convolutions with their normalisations in one go are the layers one after the other, but for rounding."""

import copy
import itertools
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from jcl.kernels import layers
from jcl.kernels.convolution import convolve_normalised, convolve_with_moments
from jcl.kernels.exchange import use_kernels
from jcl.kernels.normalisation import moments_of, normalise
from support.groups import in_two_processes
from support.onkernels import is_chain, lanes

LANES = lanes()

NEAR = 1e-4
"""Of the largest value: two layers of the tiles' 3e-5, and what normalising makes of them."""


def units(*channels: int, slope: float = 0.01, seed: int = 0) -> nn.Sequential:
    """Convolution, normalisation and activation from each number of channels to the next."""
    torch.manual_seed(seed)
    parts: list[nn.Module] = []
    for before, after in itertools.pairwise(channels):
        norm = nn.BatchNorm2d(after)
        nn.init.normal_(norm.weight, mean=1, std=0.5)
        nn.init.normal_(norm.bias, mean=0.5, std=0.5)
        parts += [nn.Conv2d(before, after, 3, padding=1, bias=False), norm, nn.LeakyReLU(slope, inplace=True)]
    return nn.Sequential(*parts)


def chained(plain: nn.Sequential) -> nn.Sequential:
    fast = copy.deepcopy(plain).to(memory_format=torch.channels_last)
    use_kernels(fast)
    assert is_chain(fast)
    return fast


def assert_near(found: torch.Tensor | None, wanted: torch.Tensor | None) -> None:
    assert found is not None
    assert wanted is not None
    scale = max(float(wanted.detach().abs().max()), 1e-3)
    assert float((found.detach().double() - wanted.detach()).abs().max()) < NEAR * scale


def assert_same(fast: nn.Sequential, plain: nn.Sequential, x: torch.Tensor, gradient: torch.Tensor) -> None:
    """Values, all gradients and the running statistics, beside those in float64."""
    exact = copy.deepcopy(plain).double()
    inputs = [x.clone().requires_grad_(), x.double().requires_grad_()]
    results = [net(each) for net, each in zip((fast, exact), inputs, strict=True)]
    assert_near(*results)
    for y in results:
        y.backward(gradient.to(y.dtype))
    assert_near(inputs[0].grad, inputs[1].grad)
    for one, two in zip(fast.parameters(), exact.parameters(), strict=True):
        assert_near(one.grad, two.grad)
    for one, two in zip(fast.buffers(), exact.buffers(), strict=True):
        assert_near(one, two.double())


@settings(deadline=None, max_examples=25)
@given(
    b=st.integers(1, 3), first=st.sampled_from([1, 3, LANES, 3 * LANES]), last=st.integers(1, 4), h=st.integers(15, 37),
    w=st.integers(27, 41), seed=st.integers(0, 99),
)  # fmt: skip
def test_values_gradients_and_statistics_are_those_of_the_layers(b, first, last, h, w, seed):
    """With no activation: at the kink of a ReLU the last bit of a value decides over its gradient."""
    plain = units(first, 2 * LANES, last * LANES, LANES, slope=1.0, seed=seed)
    x, gradient = torch.randn(b, first, h, w) + 0.5, torch.randn(b, LANES, h, w)
    assert_same(chained(plain), plain, x, gradient)


@pytest.mark.parametrize("slope", [0.0, 0.01, 0.5])
def test_activations_are_taken_forward_and_back(slope):
    """Gradients as a whole, of which one value at the kink is no more than a hundredth."""
    plain = units(LANES, 2 * LANES, LANES, slope=slope)
    fast, exact = chained(plain), copy.deepcopy(plain).double()
    x, gradient = torch.randn(2, LANES, 24, 24), torch.randn(2, LANES, 24, 24)
    inputs = [x.clone().requires_grad_(), x.double().requires_grad_()]
    for net, each in zip((fast, exact), inputs, strict=True):
        net(each).backward(gradient.to(each.dtype))
    pairs = [(inputs[0].grad, inputs[1].grad)]
    pairs += [(one.grad, two.grad) for one, two in zip(fast.parameters(), exact.parameters(), strict=True)]
    for found, wanted in pairs:
        assert found is not None
        assert wanted is not None
        assert float((found.double() - wanted).norm()) < 0.02 * float(wanted.norm())


def test_nothing_between_two_convolutions_is_kept(monkeypatch):
    calls = []
    monkeypatch.setattr(layers, "convolve_normalised", lambda *a, **k: calls.append(1) or convolve_normalised(*a, **k))
    plain = units(LANES, LANES, LANES)
    kept: dict[str, set[int]] = {"plain": set(), "fast": set()}
    for name, net in (("plain", plain), ("fast", chained(plain))):
        x = torch.randn(2, LANES, 32, 32)

        def note(tensor: torch.Tensor, name: str = name) -> torch.Tensor:
            if tensor.numel() == 2 * LANES * 32 * 32:
                kept[name].add(tensor.data_ptr())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            net(x).sum().backward()
    assert calls == [1]
    assert len(kept["fast"]) == 3  # the input and what each convolution gives
    assert len(kept["plain"]) > 3


def test_moments_are_those_of_the_result_far_from_zero_too():
    """At a mean of 1e4 times the spread the mean square less the squared mean has no digit left in float32."""
    torch.manual_seed(0)
    x = torch.randn(2, LANES, 33, 41).contiguous(memory_format=torch.channels_last)
    x[:, 0] = 1e4
    weight = torch.zeros(LANES, LANES, 3, 3)
    weight[:, :, 1, 1] = torch.randn(LANES, LANES)
    y, moments = convolve_with_moments(x, weight)
    values = y.detach().double()
    assert torch.allclose(moments.mean, values.mean((0, 2, 3)), rtol=1e-6)
    assert torch.allclose(moments.variance, values.var((0, 2, 3), correction=0), rtol=1e-3)


def test_arrays_too_large_for_the_cache_are_the_same():
    """From 2^23 values on results are written past the cache."""
    torch.manual_seed(0)
    x = torch.randn(2, LANES, 725, 726 * 8 // LANES).to(memory_format=torch.channels_last).requires_grad_()
    weight, shift = torch.randn(LANES, LANES, 3, 3), torch.randn(LANES)
    assert x.numel() >= 2**23
    y, _ = convolve_with_moments(x, weight)
    wanted = F.conv2d(x, weight, padding=1)
    assert_near(y, wanted.double())
    gradient = torch.randn_like(y)
    for found, right in zip(torch.autograd.grad(y, x, gradient), torch.autograd.grad(wanted, x, gradient), strict=True):
        assert_near(found, right.double())
    moments = moments_of(y.detach())
    normal = normalise(y.detach(), moments, torch.ones(LANES), shift, epsilon=1e-5, slope=0.01)
    assert_near(
        normal, F.leaky_relu(F.batch_norm(y.detach().double(), None, None, None, shift.double(), training=True))
    )


def test_the_bits_are_the_same_for_any_number_of_threads():
    found = []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        try:
            net = chained(units(LANES, 2 * LANES, 128, LANES))
            torch.manual_seed(1)
            net(torch.randn(2, LANES, 40, 37)).backward(torch.randn(2, LANES, 40, 37))
            found.append([*(p.grad for p in net.parameters()), *net.buffers()])
        finally:
            torch.set_num_threads(1)
    for others in found[1:]:
        assert all(map(torch.equal, others, found[0]))


@pytest.mark.parametrize("frozen", ["0", "1", "3", "4"])
def test_frozen_layers_get_no_gradient_and_the_others_the_same(frozen):
    plain = units(LANES, LANES, LANES)
    fast = chained(plain)
    x, gradient = torch.randn(2, LANES, 24, 24), torch.randn(2, LANES, 24, 24)
    for net in (plain, fast):
        net.get_submodule(frozen).requires_grad_(False)
        net(x).backward(gradient)
    for one, two in zip(fast.parameters(), plain.parameters(), strict=True):
        assert (one.grad is None) == (two.grad is None)
        if two.grad is not None:
            assert_near(one.grad, two.grad.double())


def test_what_a_chain_cannot_do_the_layers_do():
    plain = units(LANES, LANES, LANES)
    fast = chained(plain)
    x = torch.randn(2, LANES, 24, 24)
    seen: list[tuple[int, ...]] = []
    handle = fast[3].register_forward_hook(lambda module, inputs, output: seen.append(tuple(output.shape)))
    assert_near(fast(x), plain(x).double())
    assert seen == [(2, LANES, 24, 24)]
    handle.remove()
    for net in (fast, plain):
        net[1].eval()  # one normalisation by running statistics
    assert_near(fast(x), plain(x).double())
    assert fast[1].num_batches_tracked == 1
    assert fast[4].num_batches_tracked == 2
    for net in (fast, plain):
        net.eval()
    assert_near(fast(x), plain(x).double())
    for small in (torch.randn(2, LANES, 3, 3), torch.randn(2, LANES, 1, 70)):
        assert_near(fast.train()(small), plain.train()(small).double())


def test_one_value_a_channel_is_refused_as_the_layers_do():
    fast = chained(units(LANES, LANES, LANES))
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        fast(torch.randn(1, LANES, 1, 1))


def test_only_convolutions_with_their_normalisations_are_chained():
    def conv() -> nn.Conv2d:
        return nn.Conv2d(LANES, LANES, 3, padding=1)

    class Own(nn.Sequential):
        def forward(self, x):
            return super().forward(x) + 1

    for other in (
        nn.Sequential(conv(), nn.ReLU(), nn.BatchNorm2d(LANES)),
        nn.Sequential(conv(), conv(), nn.BatchNorm2d(LANES)),
        nn.Sequential(conv(), nn.BatchNorm2d(LANES), nn.ReLU(), nn.Dropout()),
        nn.Sequential(conv(), nn.BatchNorm2d(LANES), conv()),
        nn.Sequential(conv(), nn.BatchNorm2d(LANES), nn.Sigmoid()),
        nn.Sequential(nn.Conv2d(LANES, LANES, 3, padding=1, stride=2), nn.BatchNorm2d(LANES)),
        nn.Sequential(nn.Conv2d(LANES, LANES, 1), nn.BatchNorm2d(LANES)),
        nn.Sequential(),
        Own(conv(), nn.BatchNorm2d(LANES)),
    ):
        use_kernels(other)
        assert not is_chain(other)


def test_a_bias_in_front_of_a_normalisation_stays():
    torch.manual_seed(0)
    plain = nn.Sequential(
        nn.Conv2d(LANES, LANES, 3, padding=1), nn.BatchNorm2d(LANES), nn.Conv2d(LANES, LANES, 3, padding=1),
        nn.BatchNorm2d(LANES),
    )  # fmt: skip
    fast = chained(plain)
    x = torch.randn(2, LANES, 24, 24)
    assert_near(fast(x), plain(x).double())
    assert_near(fast[1].running_mean, plain[1].running_mean.double())


def chain_half(number: int, folder: Path) -> None:
    net = chained(units(LANES, LANES, LANES))
    torch.manual_seed(1)
    x, gradient = torch.randn(2, 4, LANES, 21, 30).unbind(0)
    own = x[2 * number : 2 * number + 2].requires_grad_()
    y = net(own)
    y.backward(gradient[2 * number : 2 * number + 2])
    torch.save([y.detach(), own.grad, [p.grad for p in net.parameters()], list(net.buffers())], folder / f"{number}.pt")


def test_two_processes_chain_as_one(tmp_path):
    in_two_processes(chain_half, tmp_path)
    halves = [torch.load(tmp_path / f"{number}.pt") for number in range(2)]
    exact = units(LANES, LANES, LANES).double()
    torch.manual_seed(1)
    x, gradient = torch.randn(2, 4, LANES, 21, 30).unbind(0)
    x = x.double().requires_grad_()
    y = exact(x)
    y.backward(gradient.double())
    assert_near(torch.cat([half[0] for half in halves]), y)
    assert_near(torch.cat([half[1] for half in halves]), x.grad)
    for number, parameter in enumerate(exact.parameters()):
        assert_near(halves[0][2][number] + halves[1][2][number], parameter.grad)
    for half in halves:
        for one, two in zip(half[3], exact.buffers(), strict=True):
            assert_near(one, two.double())
