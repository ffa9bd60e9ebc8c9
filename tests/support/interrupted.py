"""Trainings that are stopped at a step, and whether two end in the same weights."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from jcl.errors import Interrupted
from jcl.training import session
from jcl.training.run_folder import read_model


def stopped(monkeypatch: pytest.MonkeyPatch, train: Callable[[], object], last: int) -> None:
    """Run a training until it has saved after so many steps."""

    def stop(checkpointer, request, step):
        if step == last:
            checkpointer.save(step)
            raise Interrupted("stopped")

    with monkeypatch.context() as changed:
        changed.setattr(session, "save_or_stop", stop)
        with pytest.raises(Interrupted):
            train()


def same_weights(one: Path, other: Path) -> bool:
    """Whether two runs have the same, bit for bit."""
    first, second = read_model(one), read_model(other)
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)
