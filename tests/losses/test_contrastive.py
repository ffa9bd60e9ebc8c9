"""Losses against loops written from the equations, in float64."""

import math

import pytest
import torch
from torch.nn import functional as F

from jcl.losses.contrastive import info_nce, negative_cosine, position_mask, queue_info_nce
from jcl.losses.dense import dense_info_nce, equivariance


def cosine(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return (a * b).sum() / (a.norm() * b.norm())


def loop_info_nce(anchors, contrasts, positives, temperature):
    """Equation 10, one anchor, one positive and one negative after the other."""
    terms = []
    for i in range(len(anchors)):
        chosen = [j for j in range(len(anchors)) if positives[i, j] and j != i]
        if not chosen:
            continue
        denominator = sum(
            torch.exp(cosine(anchors[i], contrasts[k]) / temperature) for k in range(len(anchors)) if k != i
        )
        terms.append(
            -sum(torch.log(torch.exp(cosine(anchors[i], contrasts[j]) / temperature) / denominator) for j in chosen)
            / len(chosen)
        )
    return sum(terms) / len(terms)


def loop_dense(anchors, contrasts, positives, temperature):
    """Equation 11: the above at every pixel."""
    height, width = anchors.shape[2:]
    values = [
        loop_info_nce(anchors[:, :, y, x], contrasts[:, :, y, x], positives, temperature)
        for y in range(height)
        for x in range(width)
    ]
    return sum(values) / len(values)


def positions() -> torch.Tensor:
    """Seven slices; the last is near no other, so its row has no positive."""
    return torch.tensor([0.05, 0.10, 0.12, 0.40, 0.45, 0.10, 0.90])


@pytest.mark.parametrize("same", [True, False])
@pytest.mark.parametrize("temperature", [0.1, 0.5])
def test_info_nce_equals_loop(same, temperature):
    torch.manual_seed(0)
    a = torch.randn(7, 5, dtype=torch.float64, requires_grad=True)
    b = a if same else torch.randn(7, 5, dtype=torch.float64, requires_grad=True)
    mask = position_mask(positions(), 0.1)
    wanted = loop_info_nce(a, b, mask, temperature)
    got = info_nce(a, b, mask, temperature=temperature)
    torch.testing.assert_close(got, wanted, rtol=0, atol=1e-12)
    leaves = [a] if same else [a, b]
    for g, w in zip(torch.autograd.grad(got, leaves), torch.autograd.grad(wanted, leaves), strict=True):
        torch.testing.assert_close(g, w, rtol=0, atol=1e-12)


@pytest.mark.parametrize("same", [True, False])
@pytest.mark.parametrize("channels_last", [True, False])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-6)])
def test_dense_equals_loop(same, channels_last, dtype, tolerance):
    torch.manual_seed(1)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    a = torch.randn(7, 6, 3, 2, dtype=dtype).contiguous(memory_format=layout).requires_grad_()
    b = a if same else torch.randn(7, 6, 3, 2, dtype=dtype).contiguous(memory_format=layout).requires_grad_()
    mask = position_mask(positions(), 0.1)
    got = dense_info_nce(a, b, mask, temperature=0.1)
    a64 = a.detach().double().requires_grad_()
    b64 = a64 if same else b.detach().double().requires_grad_()
    wanted = loop_dense(a64, b64, mask, 0.1)
    assert got.item() == pytest.approx(wanted.item(), rel=tolerance)
    got_gradients = torch.autograd.grad(got, [a] if same else [a, b])
    for g, w in zip(got_gradients, torch.autograd.grad(wanted, [a64] if same else [a64, b64]), strict=True):
        torch.testing.assert_close(g.double(), w, rtol=0, atol=tolerance)


@pytest.mark.parametrize("same", [True, False])
def test_lengths_of_features_play_no_part(same):
    """Cosines do not depend on them, whether they come from norms or from the diagonal of the products."""
    torch.manual_seed(0)
    a, b = torch.randn(2, 6, 8, 3, 3)
    lengths = 10.0 ** torch.linspace(-8, 8, 6)[:, None, None, None]
    mask = position_mask(torch.rand(6), 0.5)

    def loss(factors):
        anchors = a * factors
        return dense_info_nce(anchors, anchors if same else b / factors, mask, temperature=0.1)

    # a cosine in float32 is off by 1e-7, and ten times that after the division by the temperature
    torch.testing.assert_close(loss(lengths), loss(torch.ones(())), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("same", [True, False])
def test_any_layout_gives_the_same(same):
    """Channels first, channels last, and a part of larger features, as the gradient of a slice is taken."""
    torch.manual_seed(0)
    whole, mask = torch.randn(2, 9, 6, 4, 5, dtype=torch.float64), position_mask(positions(), 0.1)
    results = []
    for layout in (lambda x: x[:7], lambda x: x.contiguous(memory_format=torch.channels_last)[2:], lambda x: x[1:-1]):
        parts = [
            layout(x).detach().copy_(whole[0, :7] if n == 0 else whole[1, :7]) for n, x in enumerate(whole.clone())
        ]
        a, b = (part.requires_grad_() for part in parts)
        loss = dense_info_nce(a, a if same else b, mask, temperature=0.1)
        results.append([loss, *torch.autograd.grad(loss, [a] if same else [a, b])])
    for other in results[1:]:
        for x, y in zip(other, results[0], strict=True):
            torch.testing.assert_close(x, y, rtol=0, atol=1e-13)


def test_gradient_scales_with_what_comes_after():
    a = torch.randn(4, 3, 1, 2, dtype=torch.float64, requires_grad=True)
    mask = ~torch.eye(4, dtype=torch.bool)
    once = torch.autograd.grad(dense_info_nce(a, a, mask, temperature=0.1), a)[0]
    thrice = torch.autograd.grad(3 * dense_info_nce(a, a, mask, temperature=0.1), a)[0]
    torch.testing.assert_close(thrice, 3 * once)


def test_position_mask_by_hand():
    mask = position_mask(torch.tensor([0.1, 0.15, 0.3, 0.1]), 0.1)
    assert mask.int().tolist() == [[0, 1, 0, 1], [1, 0, 0, 1], [0, 0, 0, 0], [1, 1, 0, 0]]


def test_position_mask_leaves_out_the_threshold_itself():
    assert not position_mask(torch.tensor([0.25, 0.5]), 0.25).any()
    assert not position_mask(torch.tensor([0.25, 0.25]), 0.0).any()


def test_value_by_hand():
    """Two orthogonal pairs: log(e^{1/t} + 2 e^0) - 1/t for each of the four anchors."""
    z = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]], dtype=torch.float64)
    mask = torch.tensor([[0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 1], [0, 0, 1, 0]], dtype=torch.bool)
    assert info_nce(z, z, mask, temperature=0.5).item() == pytest.approx(math.log(math.e**2 + 2) - 2)


@pytest.mark.parametrize("same", [True, False])
@pytest.mark.parametrize("rows", [2, 5])
def test_finite_at_low_temperature_with_doubles_and_a_zero_vector(same, rows):
    a = torch.ones(rows, 3, 2, 2)
    a[0] = 0
    a.requires_grad_()
    b = a if same else torch.ones(rows, 3, 2, 2, requires_grad=True)
    mask = ~torch.eye(rows, dtype=torch.bool)
    loss = dense_info_nce(a, b, mask, temperature=0.01)
    loss.backward()
    assert torch.isfinite(loss)
    assert a.grad is not None
    assert torch.isfinite(a.grad).all()


def test_float32_inside_autocast():
    torch.manual_seed(0)
    a = torch.randn(6, 8, 2, 2, requires_grad=True)
    mask = position_mask(torch.rand(6), 0.5)
    outside = dense_info_nce(a, a, mask, temperature=0.1)
    with torch.autocast("cpu", torch.bfloat16):
        inside = dense_info_nce(a, a, mask, temperature=0.1)
        inside.backward()
    assert inside.dtype == torch.float32
    assert inside.item() == outside.item()


def test_no_positive_at_all_is_zero():
    a = torch.randn(3, 4, requires_grad=True)
    loss = info_nce(a, a, torch.zeros(3, 3, dtype=torch.bool), temperature=0.1)
    loss.backward()
    assert loss.item() == 0
    assert a.grad is not None
    assert not a.grad.any()


def test_equivariance_equals_loop():
    torch.manual_seed(0)
    dominant = torch.randn(2, 3, 2, 2, dtype=torch.float64)
    auxiliary = torch.randn(2, 3, 4, 4, dtype=torch.float64)
    # halving bilinearly takes the mean of each 2x2 square
    down = torch.stack([auxiliary[..., y : y + 2, x : x + 2].mean((2, 3)) for y in (0, 2) for x in (0, 2)], dim=2)
    wanted = (dominant - down.view(2, 3, 2, 2)).abs().mean()
    torch.testing.assert_close(equivariance(dominant, auxiliary), wanted)


def test_equivariance_trains_both_branches():
    dominant, auxiliary = torch.randn(1, 2, 2, 2, requires_grad=True), torch.randn(1, 2, 4, 4, requires_grad=True)
    equivariance(dominant, auxiliary).backward()
    assert dominant.grad is not None
    assert dominant.grad.any()
    assert auxiliary.grad is not None
    assert auxiliary.grad.any()


def test_loss_of_untrained_features_is_about_the_logarithm_of_the_others():
    torch.manual_seed(0)
    z = F.normalize(torch.randn(32, 4096), dim=1)
    mask = position_mask(torch.arange(16).repeat(2) / 16, 0.01)
    assert info_nce(z, z, mask, temperature=1.0).item() == pytest.approx(math.log(31), abs=0.05)


@pytest.mark.parametrize("temperature", [0.07, 0.2])
def test_queue_info_nce_equals_loop(temperature):
    torch.manual_seed(0)
    q, k = torch.randn(2, 5, 4, dtype=torch.float64).requires_grad_().unbind()
    queue, left_out = torch.randn(7, 4, dtype=torch.float64), torch.rand(5, 7) < 0.4
    left_out[0] = True
    terms = []
    for i in range(5):
        positive = torch.exp(cosine(q[i], k[i].detach()) / temperature)
        negatives = [torch.exp(cosine(q[i], queue[j]) / temperature) for j in range(7) if not left_out[i, j]]
        terms.append(-torch.log(positive / (positive + sum(negatives))))
    wanted = sum(terms) / 5
    got = queue_info_nce(q, k, queue, left_out, temperature=temperature)
    torch.testing.assert_close(got, wanted, rtol=0, atol=1e-12)
    (got_gradient,), (wanted_gradient,) = torch.autograd.grad(got, [q]), torch.autograd.grad(wanted, [q])
    torch.testing.assert_close(got_gradient, wanted_gradient, rtol=0, atol=1e-12)
    assert torch.autograd.grad(queue_info_nce(q, k, queue, left_out, temperature=1.0), [k], allow_unused=True) == (
        None,
    )


def test_queue_info_nce_by_hand():
    """An aligned key and two orthogonal negatives, of which one is left out."""
    q, queue = torch.tensor([[2.0, 0.0]]), torch.tensor([[0.0, 1.0], [0.0, -3.0]])
    loss = queue_info_nce(q, q, queue, torch.tensor([[True, False]]), temperature=0.5)
    assert loss.item() == pytest.approx(math.log(1 + math.exp(-2)))


def test_negative_cosine_by_hand_and_without_gradient_of_the_target():
    p = torch.tensor([[3.0, 4.0], [1.0, 0.0]], requires_grad=True)
    z = torch.tensor([[1.0, 0.0], [-2.0, 0.0]], requires_grad=True)
    loss = negative_cosine(p, z)
    assert loss.item() == pytest.approx(-(0.6 - 1) / 2)
    gradients = torch.autograd.grad(loss, [p, z], allow_unused=True)
    assert gradients[0].any()
    assert gradients[1] is None
