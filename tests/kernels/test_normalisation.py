"""Normalisation and activation in one are PyTorch's two, but for rounding; over two processes they are those of one."""

from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from jcl.kernels.normalisation import moments_of
from jcl.kernels.normalisation import normalise as normalise_by
from support.groups import in_two_processes
from support.onkernels import lanes

LANES = lanes()
NEAR = {"rtol": 1e-5, "atol": 1e-5}


def example(b: int, c: int, h: int, w: int, *, mean: float = 3.0) -> list[torch.Tensor]:
    """Input, weight, bias and a gradient."""
    torch.manual_seed(0)
    x = torch.randn(b, c, h, w) * torch.linspace(0.5, 4, c)[:, None, None] + mean
    return [x, torch.randn(c), torch.randn(c), torch.randn(b, c, h, w)]


def normalise(x, weight, bias, *, epsilon, slope):
    x = x.contiguous(memory_format=torch.channels_last)
    moments = moments_of(x)
    return normalise_by(x, moments, weight, bias, epsilon=epsilon, slope=slope), *moments


def exact(x, weight, bias, gradient, slope: float) -> tuple[torch.Tensor, tuple[torch.Tensor, ...]]:
    own = [t.double().requires_grad_() for t in (x, weight, bias)]
    y = F.leaky_relu(F.batch_norm(own[0], None, None, own[1], own[2], training=True, eps=1e-5), slope)
    return y, torch.autograd.grad(y, own, gradient.double())


@pytest.mark.parametrize("slope", [1.0, 0.0, 0.01])
@pytest.mark.parametrize("shape", [(2, LANES, 3, 5), (1, 3 * LANES, 3, 5), (3, 2 * LANES, 40, 19)])
@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
def test_values_gradients_and_statistics(slope, shape, layout):
    x, weight, bias, gradient = example(*shape)
    own = [x.to(memory_format=layout).requires_grad_(), weight.requires_grad_(), bias.requires_grad_()]
    y, mean, variance = normalise(*own, epsilon=1e-5, slope=slope)
    wanted, gradients = exact(x.detach(), weight.detach(), bias.detach(), gradient, slope)
    assert torch.allclose(y.double(), wanted, **NEAR)
    for found, right in zip(torch.autograd.grad(y, own, gradient), gradients, strict=True):
        assert torch.allclose(found.double(), right, rtol=1e-4, atol=1e-5 * float(right.abs().max()))
    assert torch.allclose(mean.float(), x.mean((0, 2, 3)), **NEAR)
    assert torch.allclose(variance.float(), x.var((0, 2, 3), correction=0), **NEAR)


@pytest.mark.parametrize("slope", [1.0, 0.01])
def test_in_bfloat16_it_is_that_of_the_rounded_values_rounded_once(slope):
    x, weight, bias, gradient = example(3, 2 * LANES, 40, 19)
    kept = [t.bfloat16() for t in (x, gradient)]
    own = [kept[0].requires_grad_(), weight.requires_grad_(), bias.requires_grad_()]
    y, *_ = normalise(*own, epsilon=1e-5, slope=slope)
    wanted, gradients = exact(kept[0].detach(), weight.detach(), bias.detach(), kept[1], slope)
    found = torch.autograd.grad(y, own, kept[1])
    assert [each.dtype for each in (y, *found)] == [torch.bfloat16] * 2 + [torch.float32] * 2
    for one, right in zip((y, *found), (wanted, *gradients), strict=True):
        near = 2.0**-8 if one.dtype == torch.bfloat16 else 1e-4
        assert torch.allclose(one.double(), right, rtol=near, atol=1e-4 * float(right.detach().abs().max()))


def test_a_large_mean_costs_no_digits():
    """At 1e4 with a spread of about 1, the mean square less the squared mean has none left in float32."""
    x, weight, bias, gradient = example(2, LANES, 30, 30, mean=1e4)
    y = normalise(x, weight, bias, epsilon=1e-5, slope=0.01)[0]
    wanted, _ = exact(x, weight, bias, gradient, 0.01)
    assert float((y - wanted).detach().abs().max()) < 5e-3  # the input itself has steps of 1e-3


def test_the_bits_are_the_same_for_any_number_of_threads():
    found = []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        try:
            *own, gradient = example(3, 2 * LANES, 33, 21)
            own = [t.requires_grad_() for t in own]
            y = normalise(*own, epsilon=1e-5, slope=0.01)[0]
            found.append([y.detach(), *torch.autograd.grad(y, own, gradient)])
        finally:
            torch.set_num_threads(1)
    for others in found[1:]:
        assert all(map(torch.equal, others, found[0]))


def normalise_half(number: int, folder: Path) -> None:
    x, weight, bias, gradient = example(6, LANES, 9, 70)
    own = [x[3 * number : 3 * number + 3].requires_grad_(), weight.requires_grad_(), bias.requires_grad_()]
    y, mean, variance = normalise(*own, epsilon=1e-5, slope=0.01)
    gradients = torch.autograd.grad(y, own, gradient[3 * number : 3 * number + 3])
    torch.save([y.detach(), mean, variance, *gradients], folder / f"{number}.pt")


def test_two_processes_normalise_as_one(tmp_path):
    in_two_processes(normalise_half, tmp_path)
    halves = [torch.load(tmp_path / f"{number}.pt") for number in range(2)]
    x, weight, bias, gradient = example(6, LANES, 9, 70)
    wanted, (of_x, of_weight, of_bias) = exact(x, weight, bias, gradient, 0.01)
    assert torch.allclose(torch.cat([half[0] for half in halves]).double(), wanted, **NEAR)
    assert torch.allclose(torch.cat([half[3] for half in halves]).double(), of_x, rtol=1e-4, atol=1e-5)
    assert torch.allclose((halves[0][4] + halves[1][4]).double(), of_weight, rtol=1e-4, atol=1e-4)
    assert torch.allclose((halves[0][5] + halves[1][5]).double(), of_bias, rtol=1e-4, atol=1e-4)
    for _, mean, variance, *_ in halves:
        assert torch.allclose(mean.float(), x.mean((0, 2, 3)), **NEAR)
        assert torch.allclose(variance.float(), x.var((0, 2, 3), correction=0), **NEAR)
