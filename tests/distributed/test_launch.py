"""Several processes: one result, one error, and none left behind (tests/stages/test_processes.py: trainings)."""

import os
import signal
import time

import pytest
import torch
from torch import distributed

from jcl.distributed.comm import rank, world_size
from jcl.distributed.launch import launch
from jcl.errors import DataError, JclError, UsageError

pytestmark = pytest.mark.slow


def stage(config: dict[str, str]) -> tuple[int, int, int]:
    match config:
        case {"fails": "wrong"}:
            raise DataError("this file is damaged")
        case {"fails": "one"} if rank() == 1:
            raise JclError("only the second")
        case {"fails": "killed"} if rank() == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        case {"fails": "fault"}:
            raise ZeroDivisionError
    total = torch.tensor(rank() + 1)
    distributed.all_reduce(total)
    return rank(), world_size(), int(total)


def run(config: dict[str, str]) -> tuple[int, int, int]:
    return launch(stage, config, devices="cpu:2", timeout_minutes=1.0)


def test_the_result_is_that_of_the_first_of_two():
    assert run({}) == (0, 2, 3)


def test_an_error_in_one_or_all_is_raised_as_it_is_and_soon():
    began = time.monotonic()
    with pytest.raises(DataError, match="this file is damaged"):
        run({"fails": "wrong"})
    with pytest.raises(JclError, match="only the second"):
        run({"fails": "one"})
    assert time.monotonic() - began < 55, "the time-out was not waited for"


def test_a_killed_process_ends_all_and_is_named():
    with pytest.raises(JclError, match=r"process 2 of 2 was killed \(signal 9\).*--resume"):
        run({"fails": "killed"})


def test_a_fault_of_the_program_keeps_its_traceback():
    with pytest.raises(Exception, match="ZeroDivisionError"):
        run({"fails": "fault"})


def test_devices_that_are_not_there(monkeypatch):
    with pytest.raises(UsageError, match="no GPU"):
        launch(stage, {}, devices="2", timeout_minutes=1.0)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UsageError, match="torchrun"):
        launch(stage, {}, devices="cpu:2", timeout_minutes=1.0)
