"""The average of the weights, against the sum written out, and through a resume."""

import pytest
import torch
from torch import nn

from jcl.training.averaging import averaged_copy, update_average


def test_it_is_the_weighted_sum_of_all_steps_statistics_included() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))
    average = averaged_copy(model)
    wanted = {name: value.double() for name, value in model.state_dict().items()}
    for step in range(1, 30):
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter))
        model(torch.randn(4, 1, 6, 6))
        update_average(average, model, step=step, decay=0.7)
        keep = min(0.7, (1 + step) / (10 + step))
        for name, value in model.state_dict().items():
            wanted[name] = keep * wanted[name] + (1 - keep) * value.double()
    found = average.state_dict()
    for name, value in wanted.items():
        if name.endswith("num_batches_tracked"):
            assert int(found[name]) == 29
        else:
            assert torch.allclose(found[name].double(), value, atol=1e-5), name


def test_random_weights_of_the_beginning_are_forgotten() -> None:
    model = nn.Linear(1, 1, bias=False)
    average = averaged_copy(model)
    with torch.no_grad():
        average.weight.fill_(1000.0)
        model.weight.fill_(1.0)
    for step in range(1, 101):
        update_average(average, model, step=step, decay=0.99)
    assert float(average.weight) == pytest.approx(1.0, abs=0.01)


def test_the_copy_is_not_trained() -> None:
    average = averaged_copy(nn.Linear(2, 2))
    assert not any(parameter.requires_grad for parameter in average.parameters())
