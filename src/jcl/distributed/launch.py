"""Run a stage in one process or in several, and end them together.

`--devices 4` (GPUs) or `--devices cpu:2` starts processes on this machine. Under `torchrun`, which also goes over
several machines, each process finds its place in the environment, and nothing is started here.
"""

import os
import socket
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from types import FrameType
from typing import Any, TypeVar

import torch
from torch import distributed, multiprocessing
from torch.multiprocessing.spawn import ProcessExitedException, ProcessRaisedException, start_processes

from jcl.distributed.device import count_devices, resolve_device
from jcl.errors import DataError, Interrupted, JclError, UsageError
from jcl.parallel.output import steady_output
from jcl.signals import deaf_to_ctrl_c, handled

__all__ = ["launch"]

GRACE_SECONDS = 10.0
"""How long the other processes may take to end when one has failed, before they are killed."""


Config = TypeVar("Config")
Result = TypeVar("Result")


class LostError(JclError):
    """Another process is gone: what happened there says more."""


def launch(stage: Callable[[Config], Result], config: Config, *, devices: str, timeout_minutes: float) -> Result:
    """The stage's result; it runs in as many processes as `devices` or `torchrun` asks for.

    With several, the result is that of the first. An error in one ends all, and is raised here.

    Args:
        stage: a function of a module (processes are spawned, and find it by its name).
        config: its settings.
        devices: see `jcl.distributed.device.count_devices`.
        timeout_minutes: after which a process that does not answer counts as dead.

    Raises:
        UsageError: devices that are not there, or are asked for under `torchrun` as well.
        JclError: a process died, or whatever error the stage raises.
    """
    count = count_devices(devices)
    if "WORLD_SIZE" in os.environ:
        if count > 1:
            raise UsageError(f"torchrun says how many processes there are; leave out --devices {devices}")
        with _group(devices, timeout_minutes):
            return stage(config)
    if count == 1:
        return stage(config)
    resolve_device(devices)  # before anything is started
    return _spawn(_Work(stage, config, devices, timeout_minutes, count, _free_port()))


@contextmanager
def _group(devices: str, timeout_minutes: float) -> Generator[None, None, None]:
    """The process group that the environment describes."""
    device = resolve_device(devices)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    if os.name == "nt":  # PyTorch is built without it there, and asks for it all the same
        os.environ.setdefault("USE_LIBUV", "0")
    try:
        distributed.init_process_group(
            "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo", timeout=timedelta(minutes=timeout_minutes)
        )
    except (ValueError, RuntimeError) as error:
        raise JclError(f"the processes did not find each other ({str(error).splitlines()[0]})") from error
    try:
        yield
    except RuntimeError as error:
        if isinstance(error, distributed.DistError) or "gloo" in str(error):  # which has no error of its own
            raise LostError(
                f"another process died, or did not answer within {timeout_minutes:g} minutes; "
                "the same command with --resume goes on"
            ) from error
        raise
    finally:
        distributed.destroy_process_group()


@dataclass(frozen=True)
class _Work:
    """What the processes are given."""

    stage: Callable[[Any], Any]
    config: Any
    devices: str
    timeout_minutes: float
    count: int
    port: int

    def __call__(self, number: int, threads: int, outcomes: Any) -> None:
        """One of the processes: its result, or its error, goes to the one that started it."""
        steady_output()
        if hasattr(os, "setpgrp"):
            os.setpgrp()  # Ctrl-C in a terminal reaches the starting process alone, which passes it on
        place = {"RANK": number, "LOCAL_RANK": number, "WORLD_SIZE": self.count, "MASTER_PORT": self.port}
        os.environ.update({name: str(value) for name, value in place.items()}, MASTER_ADDR="127.0.0.1")
        torch.set_num_threads(threads)
        try:
            with _group(self.devices, self.timeout_minutes):
                outcomes.put((number, self.stage(self.config)))
        except Interrupted as error:  # all stop together; none may be ended while it saves
            outcomes.put((number, error))
        except JclError as error:
            outcomes.put((number, error))
            raise SystemExit(error.exit_code) from error


def _spawn(work: _Work) -> Any:
    try:
        outcomes = multiprocessing.get_context("spawn").SimpleQueue()
    except OSError as error:  # of its locks
        raise DataError(
            f"/dev/shm: {error.strerror or error}, and several processes share some bytes there; make room "
            "(of a container: --shm-size 1g), or train in one process"
        ) from error
    threads = max(1, torch.get_num_threads() // work.count)
    started: list[Any] = []
    failure: Exception | None = None
    with _forwarded(started) as asked:  # from before there are any: who is interrupted may not leave them alone
        with deaf_to_ctrl_c():
            group = start_processes(work, (threads, outcomes), nprocs=work.count, join=False, start_method="spawn")
        assert group is not None
        started += group.processes
        if asked:
            for process in started:
                process.terminate()
        try:
            while not group.join(grace_period=GRACE_SECONDS):
                pass
        except (ProcessExitedException, ProcessRaisedException) as error:
            failure = error
    results: dict[int, Any] = {}
    while not outcomes.empty():
        number, results[number] = outcomes.get()
    errors = [outcome for outcome in results.values() if isinstance(outcome, JclError)]
    for error in errors:
        if not isinstance(error, LostError):
            raise error
    if asked and not results:
        raise Interrupted("stopped before the training had begun; the same command begins it")
    if killed := [number for number, process in enumerate(started) if process.exitcode < 0]:
        raise JclError(
            f"process {killed[0] + 1} of {work.count} was killed (signal {-started[killed[0]].exitcode}), and the "
            "others were stopped; the same command with --resume goes on"
        ) from failure
    if isinstance(failure, ProcessRaisedException) or (failure is not None and not errors):
        raise failure
    if errors:
        raise errors[0]
    return results[0]


@contextmanager
def _forwarded(processes: Sequence[Any]) -> Generator[list[int], None, None]:
    """Pass a signal on as SIGTERM, which the stages answer by saving, and kill at a second; yields those that came."""
    asked: list[int] = []

    def forward(number: int, frame: FrameType | None) -> None:
        asked.append(number)
        for process in processes:
            if process.is_alive():
                process.terminate() if len(asked) == 1 else process.kill()

    with handled(forward):
        yield asked


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
