"""Convolutions in bfloat16 are the direct sums in float32 of the rounded values, rounded once.

Small whole numbers are exact in both, and so are their sums, so most tests here are to the bit, on every processor.
"""

import itertools
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from jcl.kernels import correlation, direct
from jcl.kernels.affine import Affine
from jcl.kernels.convolution import convolve
from jcl.kernels.library import has_fast_bfloat16, multiplies_bfloat16
from support.onkernels import lanes

lanes()
if not multiplies_bfloat16():
    pytest.skip("this system lets no program use the processor's tiles (AMX)", allow_module_level=True)

STEP = direct.CHANNELS

SHAPES = [
    (2, STEP, 2 * STEP, 17, 23),
    (1, 2 * STEP, STEP, 1, 1),
    (4, 3 * STEP, 4 * STEP, 8, 8),  # several images in a band
    (33, STEP, STEP, 3, 4),  # and fewer in the last
    (1, 2 * STEP, 2 * STEP, 61, 130),  # several bands in an image, and fewer rows in the last
    (2, 9 * STEP, 8 * STEP, 12, 9),  # the gradient of few channels, and of many
    (5, 11 * STEP, 12 * STEP, 16, 16),
]


def whole(*shape: int, most: int = 3, seed: int = 0) -> Tensor:
    """Whole numbers, as floats, of which some are zero."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(-most, most + 1, shape, generator=generator).float()


def last(x: Tensor) -> Tensor:
    return x.to(torch.bfloat16).contiguous(memory_format=torch.channels_last)


def example(b: int, i: int, o: int, h: int, w: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    return whole(b, i, h, w, seed=seed), whole(o, i, 3, 3, most=1, seed=seed + 1), whole(b, o, h, w, seed=seed + 2)


def exact_gradients(x: Tensor, weight: Tensor, gradient: Tensor) -> tuple[Tensor, Tensor]:
    own = [t.detach().double().clone().requires_grad_() for t in (x, weight)]
    of_x, of_weight = torch.autograd.grad(F.conv2d(*own, padding=1), own, gradient.double())
    return of_x, of_weight


@pytest.mark.parametrize("shape", SHAPES)
def test_values_and_gradients_to_the_bit(shape):
    x, weight, gradient = example(*shape)
    of_x, of_weight = exact_gradients(x, weight, gradient)
    y = correlation.correlate(last(x), weight)
    assert y.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(y, F.conv2d(x.double(), weight.double(), padding=1).bfloat16())
    assert torch.equal(correlation.input_gradient(last(gradient), weight), of_x.bfloat16())
    assert torch.equal(correlation.weight_gradient(last(x), last(gradient), weight), of_weight.float())


@settings(deadline=None, max_examples=30)
@given(
    b=st.integers(1, 5), i=st.integers(1, 5), o=st.integers(1, 5), h=st.integers(1, 21), w=st.integers(1, 21),
    weights_last=st.booleans(), seed=st.integers(0, 99),
)  # fmt: skip
def test_any_shape_to_the_bit(b, i, o, h, w, weights_last, seed):
    x, weight, gradient = example(b, i * STEP, o * STEP, h, w, seed)
    layout = torch.channels_last if weights_last else torch.contiguous_format
    own = [last(x).requires_grad_(), weight.to(memory_format=layout).requires_grad_()]
    y = convolve(*own)
    assert torch.equal(y, F.conv2d(x.double(), weight.double(), padding=1).bfloat16())
    found = torch.autograd.grad(y, own, gradient.bfloat16())
    assert [each.dtype for each in found] == [torch.bfloat16, torch.float32]
    for one, other in zip(found, exact_gradients(x, weight, gradient), strict=True):
        assert torch.equal(one, other.to(one.dtype))


@pytest.mark.parametrize("slope", [1.0, 0.0, 0.5])
@pytest.mark.parametrize("biased", [False, True])
def test_bias_and_activation_are_part_of_it_with_and_without_a_gradient(slope, biased):
    x, weight, gradient = example(2, STEP, 3 * STEP, 9, 13)
    bias = whole(3 * STEP, seed=5).requires_grad_() if biased else None
    wanted = F.leaky_relu(F.conv2d(x, weight, bias, padding=1), slope)
    with torch.no_grad():
        assert torch.equal(convolve(last(x), weight, bias, slope), wanted.bfloat16())
    y = convolve(last(x).requires_grad_(), weight, bias, slope)
    assert torch.equal(y, wanted.bfloat16())
    y.backward(gradient.bfloat16())
    if bias is not None:
        assert torch.equal(bias.grad, (gradient * torch.where(y > 0, 1.0, slope)).sum((0, 2, 3)))


@pytest.mark.parametrize("shape", SHAPES)
def test_moments_are_those_of_what_is_kept(shape):
    x, weight, _ = example(*shape)
    y, moments = correlation.correlate_with_moments(last(x + 100), weight)
    variance, mean = torch.var_mean(y.double(), (0, 2, 3), correction=0)
    torch.testing.assert_close(moments.mean, mean, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(moments.variance, variance, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_normalisation_on_the_way_is_as_one_before(shape):
    """With factors that are exact; zeros around the image are not normalised."""
    x, weight, gradient = example(*shape)
    channels = shape[1]
    of = Affine(whole(channels, seed=7), 2.0 ** whole(channels, most=1, seed=8), whole(channels, seed=9), 0.5)
    linear = (x - of.mean[:, None, None]) * of.scale[:, None, None] + of.shift[:, None, None]
    made = last(F.leaky_relu(linear, of.slope))  # rounded, as on the way
    y, _ = correlation.correlate_with_moments(last(x), weight, of)
    assert torch.equal(y, correlation.correlate(made, weight))
    found = correlation.weight_gradient(last(x), last(gradient), weight, of)
    assert torch.equal(found, correlation.weight_gradient(made, last(gradient), weight))


@pytest.mark.parametrize("shape", SHAPES)
def test_the_gradient_before_an_activation_and_its_sums(shape):
    x, weight, gradient = example(*shape)
    channels = shape[1]
    of = Affine(whole(channels, seed=7), 2.0 ** whole(channels, most=1, seed=8), whole(channels, seed=9), 0.5)
    distance = x - of.mean[:, None, None]
    linear = distance * of.scale[:, None, None] + of.shift[:, None, None]
    of_x, _ = exact_gradients(x, weight, gradient)
    wanted = torch.where(linear > 0, of_x, of.slope * of_x)
    found, sums = correlation.gradient_before(last(gradient), weight, last(x), of)
    assert torch.equal(found, wanted.bfloat16())
    exact = torch.stack([wanted.sum((0, 2, 3)), (wanted * distance).sum((0, 2, 3))])
    torch.testing.assert_close(sums, exact, rtol=1e-5, atol=1e-3 * float(exact.abs().max()))


def test_products_are_summed_in_float32():
    """Of the rounded values: what is lost is one rounding of the result, half a unit in the eighth bit."""
    torch.manual_seed(0)
    x, weight, gradient = torch.randn(2, 8 * STEP, 20, 31), torch.randn(64, 8 * STEP, 3, 3), torch.randn(2, 64, 20, 31)
    rounded = [t.bfloat16().double() for t in (x, weight, gradient)]
    of_x, of_weight = exact_gradients(*rounded)
    y = F.conv2d(*rounded[:2], padding=1)
    for found, wanted in (
        (correlation.correlate(last(x), weight), y),
        (correlation.input_gradient(last(gradient), weight), of_x),
    ):
        assert float(((found.double() - wanted).abs() / (wanted.abs() + 1e-3 * wanted.abs().max())).max()) < 2**-8
    found = correlation.weight_gradient(last(x), last(gradient), weight)
    assert float((found.double() - of_weight).abs().max() / of_weight.abs().max()) < 3e-6


def test_the_bits_are_the_same_for_any_number_of_threads():
    found = []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        try:
            runs = []
            for channels in (2 * STEP, 12 * STEP):
                generator = torch.Generator().manual_seed(0)
                x, gradient = (torch.randn(9, channels, 40, 37, generator=generator) for _ in range(2))
                weight = torch.randn(channels, channels, 3, 3, generator=generator)
                y, moments = correlation.correlate_with_moments(last(x), weight)
                runs += [y, *moments, correlation.weight_gradient(last(x), last(gradient), weight)]
            found.append(runs)
        finally:
            torch.set_num_threads(1)
    for others in found[1:]:
        assert all(map(torch.equal, others, found[0]))


def test_what_is_no_number_stays_where_it_was():
    x, weight, _ = example(2, STEP, STEP, 16, 16)
    x[1, 0, 3, 3], x[1, 1, 12, 3] = float("nan"), float("inf")
    y = correlation.correlate(last(x), weight + 2)
    assert y[0].isfinite().all()
    assert y[1, :, 2:5, 2:5].isnan().all()
    assert y[1, :, 11:14, 2:5].isinf().all()
    assert y[1, :, 2:14, 8:].isfinite().all()


def test_what_they_cannot_do_they_refuse():
    x, weight, _ = example(1, STEP, STEP, 5, 5)
    for wrong in (
        (last(x), weight.bfloat16()),
        (last(x), weight[:, :3]),
        (last(x)[:, :3], weight[:, :3]),
        (last(x), weight[..., :1]),
        (last(x), weight[: STEP // 2]),
    ):
        with pytest.raises((ValueError, TypeError)):
            convolve(*wrong)


@pytest.mark.parametrize("width", [4, 8, None])
def test_without_the_processors_tiles_it_is_the_same(width, tmp_path):
    """The other way, by vectors of any width, goes through the tests of whole numbers too."""
    words = "-DNO_TILES" + (f" -DLANES={width}" if width else "")
    compiler = f"{os.environ.get('CC', 'cc')} {words}"
    variables = {**os.environ, "CC": compiler, "XDG_CACHE_HOME": str(tmp_path)}
    these = ("to_the_bit", "bias", "moments", "on_the_way", "before_an_activation")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", __file__]
    command += ["-k", f"({' or '.join(these)}) and not any_shape", "-m", ""]
    done = subprocess.run(command, env=variables, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:]
    assert f"{sum(1 for _ in itertools.product(SHAPES, range(4))) + 6} passed" in done.stdout


def test_the_tiles_are_used_where_the_processor_has_them():
    if "amx_bf16" not in Path("/proc/cpuinfo").read_text():
        pytest.skip("this processor has no tiles for bfloat16 (AMX)")
    assert has_fast_bfloat16()
