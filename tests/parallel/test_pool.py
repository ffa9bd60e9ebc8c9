"""Calls in processes: each has its result, and a process that dies costs its own call only."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator
from functools import partial
from multiprocessing import forkserver
from pathlib import Path

import pytest

from jcl.errors import DataError, UsageError
from jcl.parallel import pool as module
from jcl.parallel.pool import InProcessPool, Late, Lost, Pool, ProcessPool, run_all
from support.hangs import holds, is_alive, of_group


def square_or_die(number: int) -> int:
    if number == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return number * number


def square_or_raise(number: int) -> int:
    if number == 3:
        raise DataError("three")
    return number * number


def lost(number: int) -> int:
    return -1


def nothing() -> None:
    pass


def set_variable(value: str) -> None:
    os.environ["JCL_SLOT"] = value


def variable() -> str:
    time.sleep(0.2)  # so that the other process has the other call
    return os.environ["JCL_SLOT"]


def process_after_a_while(number: int) -> int:
    time.sleep(0.5)  # so that the other process has the other call
    return os.getpid()


def until_stopped(begun: Path) -> str:
    """As a training, which has a handler of its own."""
    said: list[str] = []
    signal.signal(signal.SIGTERM, lambda number, frame: said.append("saved"))
    begun.touch()
    while not said:
        time.sleep(0.01)
    return said[0]


def with_a_child(begun: Path) -> None:
    """Which keeps SIGTERM to itself, and so does what it has started."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    subprocess.Popen(["sleep", "1000"])
    forever(begun)


def forever(begun: Path) -> None:
    begun.write_text(str(os.getpid()))
    time.sleep(1000)


@pytest.fixture
def two() -> Generator[ProcessPool]:
    with contextlib.closing(ProcessPool([nothing, nothing], [__name__])) as pool:
        yield pool
        for worker in pool.workers:
            if worker:
                worker.process.kill()


def wait_for(condition: Callable[[], bool], seconds: float = 100) -> None:
    limit = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < limit, "waited too long"
        time.sleep(0.01)


def test_a_worker_that_dies_costs_its_item_only(two: ProcessPool):
    """And another takes its place: none of the later items is left to the other worker alone."""
    found = dict(run_all(two, square_or_die, list(range(7)), lost))
    assert found == {number: -1 if number == 3 else number * number for number in range(7)}
    assert len({process for _, process in run_all(two, process_after_a_while, [1, 2], lost)}) == 2


@pytest.mark.parametrize("kind", [InProcessPool, partial(ProcessPool, [nothing, nothing], [__name__])])
def test_what_the_function_raises_is_raised(kind: Callable[[], Pool]):
    pool = kind()
    with pytest.raises(DataError, match="three") as caught:
        list(run_all(pool, square_or_raise, list(range(7)), lost))
    if isinstance(pool, ProcessPool):
        pool.close()
        assert 'raise DataError("three")' in caught.value.__notes__[0]


def test_this_process_as_a_pool():
    def process_of(number: int) -> int:  # a function that could not be sent to another
        return os.getpid()

    pool: Pool = InProcessPool()
    assert list(run_all(pool, process_of, [1, 2], lost)) == [(number, os.getpid()) for number in (1, 2)]


def test_each_process_has_its_own_environment_from_the_first_call_on():
    with contextlib.closing(ProcessPool([partial(set_variable, "a"), partial(set_variable, "b")], [__name__])) as pool:
        pool.start(1, variable)
        pool.start(2, variable)
        found = {name: future.result() for _ in (1, 2) for name, future in pool.wait()}
    assert found == {1: "a", 2: "b"}
    assert "JCL_SLOT" not in os.environ


def test_a_killed_process_is_told_while_the_other_goes_on(two: ProcessPool, tmp_path: Path):
    two.start("killed", forever, tmp_path / "killed")
    two.start("other", until_stopped, tmp_path / "other")
    wait_for(lambda: (tmp_path / "other").exists() and (tmp_path / "killed").exists())
    assert two.wait(0.1) == []
    os.kill(int((tmp_path / "killed").read_text()), signal.SIGKILL)
    ((name, future),) = two.wait(100)
    assert name == "killed"
    with pytest.raises(Lost, match=r"the process that ran it died \(killed; memory may have run out\)"):
        future.result()
    two.start("next", square_or_raise, 2)  # in a new process
    ((name, future),) = two.wait(100)
    assert (name, future.result()) == ("next", 4)
    two.stop()
    ((name, future),) = two.wait(100)
    assert (name, future.result()) == ("other", "saved")


def test_a_process_that_died_while_it_had_nothing_to_do_is_replaced(two: ProcessPool):
    for _ in range(2):
        two.start("pid", os.getpid)
        ((_, future),) = two.wait(100)
        os.kill(future.result(), signal.SIGKILL)
        wait_for(lambda: two.workers[0] is not None and two.workers[0].pipe.poll())
    two.start("pid", os.getpid)
    assert two.wait(100)[0][0] == "pid"


@pytest.mark.slow
def test_a_call_that_takes_too_long_is_ended_and_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """One saves when it is asked to end, one does not and is killed, with its children; then both have new calls."""
    monkeypatch.setattr(module, "GRACE_SECONDS", 1.0)
    pool = ProcessPool([nothing] * 3, [__name__])
    with contextlib.closing(pool):
        for _ in pool.setups:
            pool.start("begins", nothing)
        while pool.running:
            pool.wait(100)
        pool.seconds = 2.0
        pool.start("saves", until_stopped, tmp_path / "saves")
        pool.start("ignores", with_a_child, tmp_path / "ignores")
        pool.start("quick", square_or_raise, 2)
        found = {name: future for _ in range(3) for name, future in pool.wait(100)}
        assert found["quick"].result() == 4
        for name in ("saves", "ignores"):
            with pytest.raises(Late, match="it took longer than 2 s"):
                found[name].result()
        wait_for(lambda: not of_group(int((tmp_path / "ignores").read_text())))
        pool.seconds = 100.0
        assert dict(run_all(pool, square_or_raise, [1, 2], lost)) == {1: 1, 2: 4}


def test_closing_ends_what_is_at_work_at_once_with_its_children(tmp_path: Path):
    pool = ProcessPool([nothing, nothing], [__name__])
    pool.start("holds", holds)
    pool.start("ignores", with_a_child, tmp_path / "begun")
    wait_for(lambda: (tmp_path / "begun").exists() and (tmp_path / "begun").read_text() != "")
    workers = [worker.process.pid for worker in pool.workers if worker]
    begun = time.monotonic()
    pool.close()
    assert time.monotonic() - begun < module.GRACE_SECONDS
    wait_for(lambda: not any(of_group(number or 0) for number in workers))
    assert len(workers) == 2


def test_what_starts_processes_is_killed_meanwhile(two: ProcessPool):
    """A process that forks the workers (not on all systems), which has a request and dies before it answers."""
    begun = list(run_all(two, square_or_die, [1], lost))
    server = forkserver._forkserver._forkserver_pid
    if server is None:
        pytest.skip("no process that forks others here")
    os.kill(server, signal.SIGSTOP)
    killer = threading.Timer(0.5, os.kill, (server, signal.SIGKILL))
    killer.start()
    for worker in two.workers:
        if worker:
            worker.kill()
            worker.process.join()
    assert begun == [(1, 1)]
    assert sorted(run_all(two, square_or_die, [2, 4], lost)) == [(2, 4), (4, 16)]
    killer.join()


def test_nothing_can_start_processes(two: ProcessPool, monkeypatch: pytest.MonkeyPatch):
    def refused(process: object) -> None:
        raise EOFError

    monkeypatch.setattr(two.context.Process, "start", refused)
    with pytest.raises(UsageError, match="worker processes cannot start"):
        list(run_all(two, square_or_die, [1], lost))


def die_once(marker: Path) -> str:
    if not marker.exists():
        marker.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return "done"


def test_an_item_whose_process_was_killed_once_is_done_by_another(two: ProcessPool, tmp_path: Path):
    """Whatever killed it: only what dies twice is given up."""
    markers = [tmp_path / name for name in "abc"]
    assert sorted(run_all(two, die_once, markers, lambda marker: "lost")) == [(each, "done") for each in markers]


def test_a_process_that_is_slow_to_begin_can_be_waited_for(monkeypatch: pytest.MonkeyPatch):
    with contextlib.closing(ProcessPool([partial(time.sleep, 1000)], [__name__])) as pool:
        pool.start("x", nothing)
        assert pool.wait(0.1) == []


@pytest.mark.parametrize(("code", "cause"), [(-9, "killed"), (-11, "signal 11"), (3, "exit code 3"), (None, "None")])
def test_what_a_process_died_of(code: int | None, cause: str):
    assert cause in module._cause(code)


SCRIPT = """
import signal, sys
from pathlib import Path
signal.signal(signal.SIGINT, signal.default_int_handler)  # which tests that run in the background ignore
sys.path[:0] = {path!r}
from jcl.parallel.pool import ProcessPool
from test_pool import forever, nothing
if __name__ == "__main__":
    pool = ProcessPool([nothing], {modules!r})
    pool.start("x", forever, Path(sys.argv[1]))
    try:
        pool.wait()
    except KeyboardInterrupt:
        print("answered", flush=True)
        pool.wait()
"""


@pytest.mark.parametrize("modules", [pytest.param([], id="spawn"), pytest.param(["jcl.errors"], id="forkserver")])
def test_workers_leave_ctrl_c_to_their_parent_and_end_with_it(tmp_path: Path, modules: list[str]):
    begun, script = tmp_path / "begun", tmp_path / "script.py"
    path = [str(Path(__file__).parent), str(Path(__file__).parents[1]), *sys.path]
    script.write_text(SCRIPT.format(path=path, modules=modules))
    process = subprocess.Popen(
        [sys.executable, str(script), str(begun)], stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    with process:
        wait_for(lambda: begun.exists() and begun.read_text() != "")
        worker = int(begun.read_text())
        os.killpg(process.pid, signal.SIGINT)
        assert process.stdout is not None
        assert process.stdout.readline() == "answered\n"
        time.sleep(0.2)
        assert Path(f"/proc/{worker}").exists()
        process.kill()
        wait_for(lambda: not is_alive(worker), 20)


@pytest.mark.slow
def test_processes_start_where_the_temporary_folder_takes_no_socket(tmp_path: Path):
    """Its name is too long for a socket; in a Python of its own, whose server is not running yet."""
    folder = tmp_path / ("x" * 120)
    folder.mkdir()
    script = tmp_path / "script.py"
    script.write_text(
        "from jcl.parallel.pool import ProcessPool, run_all\nif __name__ == '__main__':\n"
        "    pool = ProcessPool([int, int], ['jcl.errors'])\n"
        "    print(sorted(dict(run_all(pool, abs, [-1, -2, -3], abs)).values()), pool.context.get_start_method())\n"
        "    pool.close()\n"
    )
    for temporary, method in [(str(folder), "spawn"), ("/tmp", "forkserver")]:
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "TMPDIR": temporary}
        done = subprocess.run([sys.executable, script], env=environment, capture_output=True, text=True, check=True)
        assert done.stdout == f"[1, 2, 3] {method}\n"
