"""Numbers that are saved with a module and read from the host."""

import copy

import pytest
import torch
from torch import nn

from jcl.saved_number import keep_number, number, set_number


def module() -> nn.Module:
    kept = nn.Module()
    keep_number(kept, "phase", 0)
    keep_number(kept, "progress", 0.0)
    return kept


def test_the_state_dict_is_that_of_plain_buffers():
    """Checkpoints that were written with buffers are read, and the other way round."""
    plain = nn.Module()
    plain.register_buffer("phase", torch.tensor(1))
    plain.register_buffer("progress", torch.tensor(0.1))
    ours = module()
    ours.load_state_dict(plain.state_dict())
    assert (number(ours, "phase"), number(ours, "progress")) == (1, torch.tensor(0.1).item())
    set_number(ours, "phase", 7)
    plain.load_state_dict(ours.state_dict())
    assert plain.phase == 7


def test_a_resumed_module_reads_what_the_first_one_does():
    first, resumed = module(), module()
    set_number(first, "progress", 1 / 3)
    resumed.load_state_dict(first.state_dict())
    assert number(resumed, "progress") == number(first, "progress") == pytest.approx(1 / 3)


def test_also_as_a_part_of_another_and_in_a_copy():
    whole = nn.ModuleDict({"part": module()})
    twin = copy.deepcopy(whole)
    set_number(whole["part"], "phase", 2)
    assert number(twin["part"], "phase") == 0
    twin.load_state_dict(whole.state_dict())
    assert number(twin["part"], "phase") == 2
    set_number(twin["part"], "phase", 3)
    assert number(whole["part"], "phase") == 2
