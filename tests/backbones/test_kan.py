"""The Kolmogorov-Arnold layer against SciPy's B-splines, one pair of features at a time."""

import numpy as np
import torch
from scipy.interpolate import BSpline

from jcl.backbones._kan import KANLinear, spline_basis

KNOTS = np.arange(-3, 9) * 0.4 - 1
"""Five intervals on [-1, 1] and three beyond each end (efficient-kan: grid_size 5, spline_order 3)."""


def by_scipy(x: np.ndarray) -> np.ndarray:
    """(n, 8): zero where an element ends."""
    elements = [BSpline.basis_element(KNOTS[i : i + 5], extrapolate=False) for i in range(8)]
    return np.nan_to_num(np.stack([element(x) for element in elements], axis=-1))


def layer(in_features: int, out_features: int) -> KANLinear:
    torch.manual_seed(0)
    kan = KANLinear(in_features, out_features).double()
    torch.nn.init.normal_(kan.spline_weight)  # far larger than at the start, so that the splines count
    return kan


def test_basis_is_that_of_scipy_inside_and_outside_the_grid():
    x = np.concatenate([np.linspace(-3, 3, 601), KNOTS])
    basis = spline_basis(torch.from_numpy(x)[:, None])[..., 0]
    np.testing.assert_allclose(basis, by_scipy(x), rtol=0, atol=1e-14)
    inside = x[np.abs(x) <= 1]
    np.testing.assert_allclose(by_scipy(inside), BSpline.design_matrix(inside, KNOTS, 3).toarray(), rtol=0, atol=1e-14)


def test_gradient_of_the_basis():
    x = torch.from_numpy(np.concatenate([np.linspace(-2.5, 2.5, 41), KNOTS])).reshape(-1, 1).requires_grad_()
    assert torch.autograd.gradcheck(spline_basis, x, eps=1e-6, atol=1e-5)


def test_basis_of_half_precision_is_in_single_precision():
    x = torch.linspace(-2, 2, 50)[:, None].bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        basis = spline_basis(x)
    assert basis.dtype == torch.float32
    np.testing.assert_allclose(basis[..., 0], by_scipy(x.double().numpy()[:, 0]), rtol=0, atol=1e-6)


def test_basis_is_the_same_with_a_gradient_and_without():
    x = torch.linspace(-2.5, 2.5, 51)[:, None]
    assert torch.equal(spline_basis(x.clone().requires_grad_()).detach(), spline_basis(x))


def test_layer_is_a_sum_of_curves():
    kan, x = layer(3, 4), torch.randn(2, 5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    expected = np.zeros((2, 5, 4))
    for j in range(4):
        for i in range(3):
            values = x[..., i].numpy()
            coefficients = kan.spline_weight[j, :, i].detach().numpy()
            spline = by_scipy(values) @ coefficients
            silu = values / (1 + np.exp(-values))
            expected[..., j] += kan.base_weight[j, i].item() * silu + kan.spline_scaler[j, i].item() * spline
    np.testing.assert_allclose(kan(x).detach(), expected, rtol=0, atol=1e-12)


def test_gradients_of_the_layer():
    kan = layer(3, 2)
    x = torch.randn(4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(2)).requires_grad_()
    names, weights = zip(*kan.named_parameters(), strict=True)
    call = lambda x, *weights: torch.func.functional_call(kan, dict(zip(names, weights, strict=True)), x)  # noqa: E731
    assert torch.autograd.gradcheck(call, (x, *weights))


def test_splines_begin_as_small_curves_of_the_shortest_coefficients():
    torch.manual_seed(0)
    coefficients = KANLinear(20, 30).spline_weight.detach().double().numpy().swapaxes(0, 1).reshape(8, -1)
    at_knots = by_scipy(KNOTS[3:9])
    values = at_knots @ coefficients
    assert np.abs(values).max() <= 0.01 + 1e-7, "noise of 0.1 / 5, about zero"
    # The standard deviation of a uniform draw from ±0.01, of 3600 values: its standard error is under 1 %.
    np.testing.assert_allclose(values.std(), 0.01 / 3**0.5, rtol=0.05)
    shortest = np.linalg.lstsq(at_knots, values, rcond=None)[0]
    np.testing.assert_allclose(coefficients, shortest, rtol=0, atol=1e-7)
