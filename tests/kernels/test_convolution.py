"""Convolutions on tiles are the direct ones, but for rounding."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from jcl.kernels.convolution import convolve
from support.onkernels import lanes

LANES = lanes()

NEAR = 3e-5
"""Of the largest value. Tiles round some ten times more coarsely than float32's 6e-8 a product; a coefficient of the
transforms that is wrong by a hundredth is seen at 1e-3."""


def example(b: int, i: int, o: int, h: int, w: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(b, i, h, w, generator=generator)
    return x, torch.randn(o, i, 3, 3, generator=generator), torch.randn(b, o, h, w, generator=generator)


def distance(found: torch.Tensor, wanted: torch.Tensor) -> float:
    return float(((found.double() - wanted).abs().max() / wanted.abs().max()).detach())


@settings(deadline=None, max_examples=40)
@given(
    b=st.integers(1, 3), i=st.integers(1, 5), o=st.integers(1, 5), h=st.integers(1, 21), w=st.integers(1, 21),
    last=st.booleans(), seed=st.integers(0, 99),
)  # fmt: skip
def test_values_and_gradients_are_those_of_the_direct_sum(b, i, o, h, w, last, seed):
    x, weight, gradient = example(b, i * LANES, o * LANES, h, w, seed)
    layout = torch.channels_last if last else torch.contiguous_format
    own = [t.to(memory_format=layout).requires_grad_() for t in (x, weight)]
    exact = [t.double().requires_grad_() for t in (x, weight)]
    y, wanted = convolve(*own), F.conv2d(*exact, padding=1)
    assert y.is_contiguous(memory_format=torch.channels_last)
    assert distance(y, wanted) < NEAR
    found = torch.autograd.grad(y, own, gradient)
    for one, other in zip(found, torch.autograd.grad(wanted, exact, gradient.double()), strict=True):
        assert distance(one, other) < NEAR


def test_many_tiles_go_through_all_ways_to_the_gradient():
    """Channels on both sides of the limit, and tiles for several blocks and parts."""
    for channels in (2 * LANES, 128):
        x, weight, gradient = example(2, channels, channels, 66, 70)
        own, exact = weight.clone().requires_grad_(), weight.double().requires_grad_()
        (found,) = torch.autograd.grad(convolve(x, own), own, gradient)
        (wanted,) = torch.autograd.grad(F.conv2d(x.double(), exact, padding=1), exact, gradient.double())
        assert distance(found, wanted) < NEAR


@pytest.mark.parametrize("slope", [1.0, 0.0, 0.01])
@pytest.mark.parametrize("biased", [False, True])
def test_bias_and_activation_are_part_of_it_with_and_without_a_gradient(slope, biased):
    x, weight, gradient = example(2, LANES, 3 * LANES, 9, 13)
    bias = torch.linspace(-9, 9, 3 * LANES).requires_grad_() if biased else None
    wanted = F.leaky_relu(F.conv2d(x, weight, bias, padding=1), slope).double()
    with torch.no_grad():
        assert distance(convolve(x, weight, bias, slope), wanted) < NEAR
    y = convolve(x.requires_grad_(), weight, bias, slope)
    assert distance(y, wanted) < NEAR
    y.backward(gradient)
    if bias is not None:
        assert distance(bias.grad, (gradient * torch.where(y > 0, 1.0, slope)).sum((0, 2, 3)).double()) < NEAR


def test_a_bias_with_gaps_in_memory():
    x, weight, _ = example(1, LANES, LANES, 6, 7)
    bias = torch.linspace(-9, 9, 2 * LANES)[::2]
    with torch.no_grad():
        assert distance(convolve(x, weight, bias), F.conv2d(x, weight, bias, padding=1).double()) < NEAR


def test_the_bits_are_the_same_for_any_number_of_threads():
    found = []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        try:
            runs = []
            for channels in (2 * LANES, 128):
                x, weight, gradient = example(2, channels, channels, 40, 37)
                own = [x.requires_grad_(), weight.requires_grad_()]
                y = convolve(*own)
                runs += [y.detach(), *torch.autograd.grad(y, own, gradient)]
            found.append(runs)
        finally:
            torch.set_num_threads(1)
    for others in found[1:]:
        assert all(map(torch.equal, others, found[0]))


def test_what_is_no_number_stays_where_it_was():
    """A pixel that is no number reaches the tiles that see it, and no other slice."""
    x, weight, _ = example(2, LANES, LANES, 16, 16)
    x[1, 0, 3, 3] = float("nan")
    y = convolve(x, weight)
    assert y[0].isfinite().all()
    assert y[1, :, 2:5, 2:5].isnan().all()
    assert y[1, :, 8:].isfinite().all()


def test_what_they_cannot_do_they_refuse():
    x, weight, _ = example(1, LANES, LANES, 5, 5)
    for wrong in (
        (x.double(), weight.double()),
        (x, weight[:, :3]),
        (x[:, :3], weight[:, :3]),
        (x, weight[..., :1]),
        (x, weight[:3]),
    ):
        with pytest.raises((ValueError, TypeError)):
            convolve(*wrong)
