"""A signal at any moment ends a command with 130 and one line, or what it did is whole; the same command goes on."""

import os
import signal
import time
from pathlib import Path

import pytest

from support.faults import finetuning, jcl, pretraining

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals are of POSIX")


def ends_well(work, number: int, seconds: float) -> str:
    """Send a signal after some seconds; returns what was said."""
    time.sleep(seconds)
    work.send_signal(number)
    _, said = work.communicate(timeout=120)
    lines = said.decode().splitlines()
    assert "Traceback" not in said.decode(), said.decode()
    assert not [line for line in lines if "Exception ignored" in line], lines
    assert work.returncode in (0, 130), (work.returncode, lines)
    if work.returncode == 130:
        assert len([line for line in lines if line.startswith("jcl: error:")]) == 1, lines
    return said.decode()


def wait_for_ours(work) -> None:
    """Until the program answers signals: its handler of SIGTERM is set."""
    bit = 1 << (signal.SIGTERM - 1)
    end = time.monotonic() + 30
    while time.monotonic() < end and work.poll() is None:
        lines = Path(f"/proc/{work.pid}/status").read_text().splitlines()
        caught = next(int(line.split()[1], 16) for line in lines if line.startswith("SigCgt"))
        if caught & bit:
            return
        time.sleep(0.002)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="no /proc here")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_soon_after_the_start(store_path: Path, tmp_path: Path, number: int):
    work = jcl(*finetuning(store_path, tmp_path / "run", steps=10000))
    wait_for_ours(work)
    ends_well(work, number, 0.1 * number)
    assert work.returncode == 130


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="no /proc here")
@pytest.mark.long
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("kind", ["pretrain", "finetune", "evaluate", "predict"])
def test_signals_at_many_moments(store_path: Path, tmp_path: Path, kind: str):
    run = tmp_path / "whole"
    jcl(*finetuning(store_path, run, steps=10)).communicate(timeout=120)
    count = int(os.environ.get("JCL_SIGNALS", "8"))
    begun = time.monotonic()
    commands = {
        "pretrain": lambda out: pretraining(store_path, out, steps=20),
        "finetune": lambda out: finetuning(store_path, out, steps=20),
        "evaluate": lambda out: ("evaluate", run, "--out", out / "results.json"),
        "predict": lambda out: ("predict", run, store_path.with_name("scans"), "--out", out),
    }
    jcl(*commands[kind](tmp_path / "timed")).communicate(timeout=120)
    whole = time.monotonic() - begun
    for index in range(count):
        work = jcl(*commands[kind](tmp_path / f"out-{index}"))
        wait_for_ours(work)
        ends_well(work, (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)[index % 3], whole * index / count)


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="no /proc here")
@pytest.mark.slow
@pytest.mark.parametrize("kind", ["prepare", "pretrain"])
@pytest.mark.parametrize("seconds", [0.05, 0.4, 1.0])
def test_ctrl_c_reaches_all_processes_while_they_start(store_path: Path, tmp_path: Path, kind: str, seconds: float):
    commands = {
        "prepare": ("prepare", store_path.with_name("scans"), "--out", tmp_path / "store", "--workers", 2),
        "pretrain": pretraining(store_path, tmp_path / "run", steps=10000, more=("--devices", "cpu:2")),
    }
    work = jcl(*commands[kind], start_new_session=True)
    children = Path(f"/proc/{work.pid}/task/{work.pid}/children")
    while work.poll() is None and not children.read_text():
        time.sleep(0.002)
    time.sleep(seconds)
    os.killpg(work.pid, signal.SIGINT)
    said = work.communicate(timeout=120)[1].decode()
    assert "Traceback" not in said, said
    assert work.returncode == 130 or (kind == "prepare" and work.returncode == 0), said


def test_a_closed_terminal_that_was_asked_to_be_ignored_is(store_path: Path, tmp_path: Path):
    ignore = lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN)  # noqa: E731 (as nohup does)
    work = jcl(*finetuning(store_path, tmp_path / "run", steps=20), preexec_fn=ignore)
    time.sleep(0.5)
    work.send_signal(signal.SIGHUP)
    work.communicate(timeout=120)
    assert work.returncode == 0
