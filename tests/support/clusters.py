"""A Ray cluster of two nodes on this machine, each of its own processes, and either can be killed."""

import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

START_SECONDS = 240

WORKER_SECONDS = 90
"""Of a worker process to begin; one that never does costs as much before another is begun."""
END_SECONDS = 60

TRIES = 4
"""A node gives up when one of its helper processes takes more than 15 seconds to begin, as it may on a busy machine."""

ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AUTH_MODE": "token",  # a node listens on the network, too
    "RAY_AUTH_TOKEN": secrets.token_hex(32),  # else one is written to the home folder
    "RAY_raylet_start_wait_time_s": str(START_SECONDS),  # a busy machine is slow
    "RAY_worker_register_timeout_seconds": str(WORKER_SECONDS),
    "OMP_NUM_THREADS": "1",
}

HELPERS = ("metrics-export", "dashboard-agent-grpc", "runtime-env-agent")


class Cluster:
    """Nodes by name; the first is the head, which has what belongs to the whole cluster."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="jclray", dir="/tmp"))  # Ray's sockets need a short path
        self.address = f"127.0.0.1:{free_port()}"
        self.nodes: dict[str, subprocess.Popen[bytes]] = {}

    def add(self, name: str, cores: int) -> None:
        """Begin a node and wait until it is there."""
        place = ["--address", self.address]
        if not self.nodes:
            place = ["--head", "--port", self.address.split(":")[1], "--include-dashboard", "false"]
            place += ["--temp-dir", str(self.folder)]
        command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", *place, "--num-cpus", str(cores)]
        command += ["--num-gpus", "0", "--object-store-memory", str(80 << 20)]
        for _ in range(TRIES):
            process = self._start(name, command)
            if is_well(process):
                self.nodes[name] = process
                return
            end(process)
        raise AssertionError(self.said(name)[-3000:])

    def _start(self, name: str, command: Sequence[str]) -> "subprocess.Popen[bytes]":
        # A node does not wait for the helpers whose ports are given.
        ports = [word for helper in HELPERS for word in (f"--{helper}-port", str(free_port()))]
        with (self.folder / f"{name}.txt").open("w") as said:
            process = subprocess.Popen([*command, *ports], env=environment(), stdout=said, stderr=said)
        try:
            wait_for(lambda: "Ray runtime started" in self.said(name) or not is_well(process), START_SECONDS)
        except AssertionError:
            end(process)  # it is in no list yet, and would outlive the tests
            raise
        return process

    def said(self, name: str) -> str:
        return (self.folder / f"{name}.txt").read_text()

    def at_work(self, name: str, out: Path) -> list[str]:
        """The tasks of a benchmark that processes of a node work on."""
        return tasks_of(self.nodes[name].pid, out)

    def send(self, name: str, number: signal.Signals) -> None:
        """Send a signal to all processes of a node."""
        send(self.nodes[name].pid, number)

    def kill(self, name: str) -> None:
        """All its processes at once and without a word, as when a machine loses its power."""
        end(self.nodes.pop(name))

    def close(self) -> None:
        for name in reversed(list(self.nodes)):
            self.kill(name)
        try:
            # A killed process is still listed for a moment, and one whose parent went first is no descendant any more.
            wait_for(lambda: not self._kill_left(), END_SECONDS)
        finally:
            shutil.rmtree(self.folder, ignore_errors=True)

    def _kill_left(self) -> list[int]:
        """The processes of the cluster that are still there, each sent the signal to end."""
        left = [number for number in processes() if str(self.folder) in command_line(number)]
        for number in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(number, signal.SIGKILL)
        return left


def is_well(process: "subprocess.Popen[bytes]") -> bool:
    """Neither it nor the raylet, the node's main process, has ended."""
    ended = [number for number in descendants(process.pid) if status_of(number).startswith("raylet Z")]
    return process.poll() is None and not ended


def environment() -> dict[str, str]:
    return {**os.environ, **ENVIRONMENT}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def end(process: "subprocess.Popen[bytes]") -> None:
    """Kill a process and all that it has started, also what those have started."""
    send(process.pid, signal.SIGKILL)
    process.wait()


def send(number: int, sent: signal.Signals) -> None:
    for each in [number, *descendants(number)]:
        with contextlib.suppress(ProcessLookupError):
            os.kill(each, sent)


def descendants(number: int) -> list[int]:
    parents = {child: parent_of(child) for child in processes()}
    found, new = [], [number]
    while new:
        new = [child for child, parent in parents.items() if parent in new]
        found += new
    return found


def tasks_of(number: int, out: Path) -> list[str]:
    """The tasks of a benchmark whose locks a process or one that it has started holds open."""
    opened = {link for each in (number, *descendants(number)) for link in links(Path(f"/proc/{each}/fd"))}
    return sorted(path.parent.name for path in out.glob("tasks/*/.lock") if str(path) in opened)


def links(folder: Path) -> list[str]:
    try:
        return [str(path.readlink()) for path in folder.iterdir()]
    except OSError:
        return []


def processes() -> list[int]:
    return [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]


def parent_of(number: int) -> int | None:
    fields = status_of(number).split()
    return int(fields[2]) if fields else None


def status_of(number: int) -> str:
    """Name, state and parent of a process; nothing of one that is gone."""
    try:
        before, _, after = Path(f"/proc/{number}/stat").read_text().rpartition(")")
    except OSError:
        return ""
    return f"{before.partition('(')[2].replace(' ', '-')} {after}"


def command_line(number: int) -> str:
    try:
        return Path(f"/proc/{number}/cmdline").read_text().replace("\0", " ")
    except OSError:
        return ""


def wait_for(condition: Callable[[], bool], seconds: float) -> None:
    limit = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < limit, "waited too long"
        time.sleep(0.05)
