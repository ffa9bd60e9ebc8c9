"""Schedule and budget by hand; the optimisers against PyTorch's own scheduler."""

import pytest
import torch

from jcl.errors import UsageError
from jcl.training.optim import adam, budget, clip_each, cosine, set_learning_rate, sgd


def test_cosine_equals_torch():
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=0.1)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=20, eta_min=0.001)
    for step in range(20):
        assert cosine(step, 20, peak=0.1, final=0.001) == pytest.approx(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()


def test_warmup_rises_in_a_straight_line_to_the_peak():
    rates = [cosine(step, 10, peak=1.0, warmup=4) for step in range(10)]
    assert rates[:5] == [0.25, 0.5, 0.75, 1.0, 1.0]
    assert rates[4:] == sorted(rates[4:], reverse=True)
    assert rates[-1] > 0


def test_set_learning_rate_reaches_every_group():
    optimizer = adam([torch.nn.Parameter(torch.zeros(1))])
    optimizer.add_param_group({"params": [torch.nn.Parameter(torch.zeros(1))]})
    set_learning_rate(optimizer, 0.3)
    assert [group["lr"] for group in optimizer.param_groups] == [0.3, 0.3]


def test_biases_and_normalisations_need_not_decay():
    """Without a gradient a step is the decay alone: w - rate x decay x w, or nothing."""
    network = torch.nn.Sequential(torch.nn.Conv2d(2, 3, 3), torch.nn.BatchNorm2d(3), torch.nn.Flatten())
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.fill_(2.0)
            parameter.grad = torch.zeros_like(parameter)
    optimizer = sgd(network.parameters(), weight_decay=0.1, decays_all=False)
    set_learning_rate(optimizer, 0.5)
    optimizer.step()
    for parameter in network.parameters():
        assert parameter.flatten()[0].item() == pytest.approx(2 - 0.5 * 0.1 * 2 if parameter.ndim > 1 else 2)
    assert {group["momentum"] for group in optimizer.param_groups} == {0.9}


def test_each_gradient_is_clipped_by_itself():
    """Of three parameters the norms are 5, 0.5 and none, and the limit 2."""
    parameters = [torch.nn.Parameter(torch.zeros(2)) for _ in range(3)]
    parameters[0].grad, parameters[1].grad = torch.tensor([3.0, -4.0]), torch.tensor([0.3, 0.4])
    clip_each(parameters, 2.0)
    assert parameters[0].grad.tolist() == pytest.approx([1.2, -1.6], rel=1e-5)
    assert parameters[1].grad.tolist() == pytest.approx([0.3, 0.4])
    assert parameters[2].grad is None


def test_sgd_is_the_papers():
    group = sgd([torch.nn.Parameter(torch.zeros(1))], weight_decay=1e-5).param_groups[0]
    assert (group["momentum"], group["weight_decay"], group["nesterov"]) == (0.9, 1e-5, False)


@pytest.mark.parametrize("build", [adam, lambda p: adam(p, weight_decay=0.01), lambda p: sgd(p, weight_decay=0.01)])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_steps_are_those_of_plain_ones_in_float64(build, layout):
    """Ten steps. Apart from rounding: a step of a few float32 operations is off by some 1e-7 of the values, about 1."""

    def network(dtype):
        torch.manual_seed(0)
        convolutions = torch.nn.Sequential(torch.nn.Conv2d(3, 5, 3), torch.nn.Conv2d(5, 2, 1))
        return convolutions.to(dtype, memory_format=layout)

    ours, plain = network(torch.float32), network(torch.float64)
    optimizer = build(ours.parameters())
    defaults = {k: v for k, v in optimizer.defaults.items() if k not in ("fused", "foreach", "decoupled_weight_decay")}
    reference = type(optimizer)(plain.parameters(), **defaults, foreach=False)
    for step in range(10):
        images = torch.rand(2, 3, 6, 6, generator=torch.Generator().manual_seed(step))
        for each, trained in ((optimizer, ours), (reference, plain)):
            set_learning_rate(each, 0.01 * (step + 1) / 10)
            each.zero_grad()
            trained(images.to(next(trained.parameters()).dtype)).square().mean().backward()
            each.step()
    for a, b in zip(ours.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(a.double(), b, rtol=0, atol=2e-6)


def test_weight_decay_of_adam_is_in_its_gradient():
    """L2, not AdamW's shrinking: the first step is the rate, whatever the decay's size, towards 0."""
    for decay, moved in ((0.0, 0.0), (1e-5, 0.1), (1e-2, 0.1)):
        weight = torch.nn.Parameter(torch.tensor([3.0]))
        optimizer = adam([weight], weight_decay=decay)
        set_learning_rate(optimizer, 0.1)
        (weight * 0).sum().backward()
        optimizer.step()
        assert weight.item() == pytest.approx(3 - moved, abs=1e-3)


def test_one_pass_a_parameter_on_a_cpu_and_the_default_elsewhere():
    assert adam([torch.nn.Parameter(torch.zeros(1))]).defaults["fused"]
    assert adam([torch.nn.Parameter(torch.zeros(1, device="meta"))]).defaults["fused"] is None


def test_budget():
    assert budget(epochs=None, steps=None, batches=7, least=1000) == 1000
    assert budget(epochs=None, steps=None, batches=70, least=1000) == 7000
    assert budget(epochs=3, steps=None, batches=7, least=1000) == 21
    assert budget(epochs=None, steps=5, batches=7, least=1000) == 5


@pytest.mark.parametrize(
    "wrong", [{"epochs": 2, "steps": 2}, {"epochs": 0, "steps": None}, {"epochs": None, "steps": -1}]
)
def test_budget_errors(wrong):
    with pytest.raises(UsageError):
        budget(**wrong, batches=7, least=1000)
