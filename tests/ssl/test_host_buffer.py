"""Numbers that are saved with a module and read from the host."""

import copy

import pytest
import torch
from torch import nn

from jcl.ssl.host_buffer import host_scalar, register_host_scalar, set_host_scalar


def module() -> nn.Module:
    kept = nn.Module()
    register_host_scalar(kept, "phase", 0)
    register_host_scalar(kept, "progress", 0.0)
    return kept


def test_the_state_dict_is_that_of_plain_buffers():
    """Checkpoints that were written with buffers are read, and the other way round."""
    plain = nn.Module()
    plain.register_buffer("phase", torch.tensor(1))
    plain.register_buffer("progress", torch.tensor(0.1))
    ours = module()
    ours.load_state_dict(plain.state_dict())
    assert (host_scalar(ours, "phase"), host_scalar(ours, "progress")) == (1, torch.tensor(0.1).item())
    set_host_scalar(ours, "phase", 7)
    plain.load_state_dict(ours.state_dict())
    assert plain.phase == 7


def test_a_resumed_module_reads_what_the_first_one_does():
    first, resumed = module(), module()
    set_host_scalar(first, "progress", 1 / 3)
    resumed.load_state_dict(first.state_dict())
    assert host_scalar(resumed, "progress") == host_scalar(first, "progress") == pytest.approx(1 / 3)


def test_also_as_a_part_of_another_and_in_a_copy():
    whole = nn.ModuleDict({"part": module()})
    twin = copy.deepcopy(whole)
    set_host_scalar(whole["part"], "phase", 2)
    assert host_scalar(twin["part"], "phase") == 0
    twin.load_state_dict(whole.state_dict())
    assert host_scalar(twin["part"], "phase") == 2
    set_host_scalar(twin["part"], "phase", 3)
    assert host_scalar(whole["part"], "phase") == 2
