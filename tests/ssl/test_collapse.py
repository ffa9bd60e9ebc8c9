import pytest
import torch

from jcl.ssl.collapse import collapse_monitor


def test_spread_projections():
    found = collapse_monitor(torch.eye(64), torch.eye(64))
    assert found["feature_std"] == pytest.approx(1, abs=0.01)
    assert found["alignment"] == pytest.approx(1)


def test_collapsed_projections():
    z = torch.ones(6, 8)
    found = collapse_monitor(z, -z)
    assert found["feature_std"] == pytest.approx(0, abs=1e-6)
    assert found["alignment"] == pytest.approx(-1)


def test_it_gives_no_gradient():
    z = torch.randn(4, 3, requires_grad=True)
    assert not any(value.requires_grad for value in collapse_monitor(z, z).values())
