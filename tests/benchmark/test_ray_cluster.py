"""A real Ray cluster of two nodes: a benchmark killed, stopped and gone on with gives the same table.

Preparing on a cluster is tested here too, since a cluster takes long to begin.
"""

import json
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from jcl.benchmark.folder import DONE, LOG, RESULTS, RUN
from jcl.config import PrepareConfig
from jcl.stages.prepare import prepare
from support.clusters import Cluster, command_line, environment, processes, tasks_of, wait_for
from support.tinyrecipes import tiny_file

pytestmark = [pytest.mark.slow, pytest.mark.long, pytest.mark.timeout(3600)]

SECONDS = 900
"""A generous limit for each thing that is waited for; a worker process takes seconds to begin on a free machine."""

CHANGES = (
    ("run_folds = [0, 1]", "run_folds = [0]"),
    ('"JCL", "MoCo"', '"JCL"'),
    ("patients = [1, 2]", "patients = [2]"),
    ("[pretrain]", "[pretrain]\ncheckpoint_minutes = 0"),
    ("[finetune]\nsteps = 3", "[finetune]\nsteps = 120\ncheckpoint_minutes = 0.005"),
)
TASKS = 3
"""What is left of the tiny recipe's; each saves several times, but not after every step: that would take most of it."""


def command(recipe: Path, out: Path, scans: Path, *more: str) -> list[str]:
    words = ["benchmark", str(recipe), "--out", str(out), "--data", str(scans), *more]
    return [sys.executable, "-m", "jcl", *words]


@contextmanager
def started(words: Sequence[str]) -> Generator[subprocess.Popen[str]]:
    """A command that does not outlive the block."""
    pipe = subprocess.PIPE
    with subprocess.Popen(words, stderr=pipe, stdout=pipe, text=True, env=environment()) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.fixture(scope="module")
def cluster() -> Generator[Cluster]:
    """Two nodes of a core each; one cluster at a time, also where several processes run the tests."""
    with FileLock(Path(tempfile.gettempdir()) / "jcl-ray-cluster.lock"):
        cluster = Cluster()
        try:
            cluster.add("head", 1)
            cluster.add("other", 1)
            yield cluster
        finally:
            cluster.close()


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_file(tmp_path_factory.mktemp("recipe"), *CHANGES)


@pytest.fixture(scope="module")
def plain(recipe: Path, scans: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the same benchmark without Ray."""
    out = tmp_path_factory.mktemp("plain") / "bench"
    subprocess.run(command(recipe, out, scans, "--workers", "1"), check=True, env=environment(), capture_output=True)
    return out


def results(out: Path) -> dict[str, Any]:
    """Scores, and the digest of the weights, of each task."""
    scores = {path.parent.name: json.loads(path.read_text())["cases"] for path in out.glob(f"tasks/*/{RESULTS}")}
    weights = {path.parents[1].name: path.read_text() for path in out.glob(f"tasks/*/{RUN}/model.json")}
    assert (len(scores), len(weights)) == (TASKS - 1, TASKS)
    return {"scores": scores, "weights": weights}


def begun(out: Path) -> dict[str, int]:
    """How often each task's training began, by its log."""
    logs = {path.parent.name: path.read_text() for path in out.glob(f"tasks/*/{LOG}")}
    return {name: len(re.findall(r"\d steps \(", text)) for name, text in logs.items()}


def has_saved(out: Path, tasks: Sequence[str]) -> bool:
    return bool(tasks) and all(list(out.glob(f"tasks/{task}/{RUN}/checkpoints/step-*")) for task in tasks)


def holds_a_saved_task(cluster: Cluster, node: str, out: Path) -> bool:
    """Whether a training that has saved is on a node, which then is halted, so that it stays so."""
    if not has_saved(out, cluster.at_work(node, out)):
        return False
    cluster.send(node, signal.SIGSTOP)
    if has_saved(out, cluster.at_work(node, out)):
        return True
    cluster.send(node, signal.SIGCONT)
    return False


def test_a_node_that_dies_costs_its_task_one_attempt(
    cluster: Cluster, recipe: Path, plain: Path, scans: Path, tmp_path: Path
):
    out = tmp_path / "bench"
    with started(command(recipe, out, scans, "--ray", cluster.address)) as process:
        wait_for(lambda: holds_a_saved_task(cluster, "other", out) or process.poll() is not None, SECONDS)
        lost = cluster.at_work("other", out)
        cluster.kill("other")
        printed, said = process.communicate(timeout=SECONDS)
    assert process.returncode == 0, said
    assert len(lost) == 1
    assert "its process or its machine died" in said
    assert "will be tried again" in said
    assert not printed, "Ray has printed"
    assert results(out) == results(plain)
    attempts = {path.parent.name: json.loads(path.read_text())["attempt"] for path in out.glob(f"tasks/*/{DONE}")}
    assert attempts == {task: 2 if task in lost else 1 for task in attempts}
    assert begun(out) == attempts
    assert len(attempts) == TASKS


def test_killed_then_stopped_then_gone_on_with_without_ray(
    cluster: Cluster, recipe: Path, plain: Path, scans: Path, tmp_path: Path
):
    """No task outlives the killed command; SIGTERM has the running one save."""
    out = tmp_path / "bench"
    more = ("--ray", cluster.address, "--workers", "1")
    with started(command(recipe, out, scans, *more)) as process:
        wait_for(lambda: has_saved(out, cluster.at_work("head", out)) or process.poll() is not None, SECONDS)
        process.kill()
    wait_for(lambda: not working(out), 60)
    assert list(begun(out).values()) == [1]
    saved, lines = last_step(out), logged(out)

    seldom = tiny_file(tmp_path, *CHANGES, ("checkpoint_minutes = 0", "checkpoint_minutes = 99"))
    with started(command(seldom, out, scans, *more)) as process:
        wait_for(lambda: logged(out) > lines or process.poll() is not None, SECONDS)
        process.send_signal(signal.SIGTERM)
        printed, said = process.communicate(timeout=SECONDS)
    assert process.returncode == 130, said
    assert f"stopped and saved, {TASKS} runs left" in said
    assert not printed, "Ray has printed"
    assert not working(out)
    assert list(begun(out).values()) == [2]
    assert last_step(out) > saved

    subprocess.run(command(recipe, out, scans, "--workers", "1"), check=True, env=environment(), capture_output=True)
    assert results(out) == results(plain)
    assert sorted(begun(out).values()) == [1] * (TASKS - 1) + [3]


def last_step(out: Path) -> int:
    """Of the only task that has checkpoints."""
    return max(int(path.name.split("-")[1]) for path in out.glob(f"tasks/*/{RUN}/checkpoints/step-*"))


def logged(out: Path) -> int:
    """Lines that trainings have written; one for ten steps."""
    return sum(len(path.read_text().splitlines()) for path in out.glob(f"tasks/*/{RUN}/log.jsonl"))


def working(out: Path) -> list[str]:
    """Ray's processes that work on a task of the folder."""
    ours = [number for number in processes() if command_line(number).startswith("ray::")]
    return [task for number in ours for task in tasks_of(number, out)]


def test_more_threads_than_any_machine_has(cluster: Cluster, recipe: Path, plain: Path, scans: Path):
    done = subprocess.run(
        [*command(recipe, plain, scans, "--ray", cluster.address), "--threads", "2"],
        env=environment(), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert "no machine of the cluster has 2 cores (at most 1 cores); take fewer --threads" in done.stderr


THREADS = """
import os, signal, sys
from functools import partial
from jcl.benchmark.executor import set_threads
from jcl.parallel.ray import _call_there, sources_digest

def call():
    import torch
    return torch.get_num_threads(), os.environ["OMP_NUM_THREADS"], signal.pthread_sigmask(signal.SIG_BLOCK, [])

signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # as Ray does
assert "torch" not in sys.modules
print(_call_there(sources_digest(), [], partial(set_threads, 2), call, ()))
"""


def test_a_task_has_its_threads_and_its_processes_can_be_ended():
    words = [sys.executable, "-c", THREADS]
    done = subprocess.run(words, env=environment(), capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "(2, '2', set())", done.stderr


def tree(folder: Path) -> dict[str, bytes]:
    found = {path.relative_to(folder): path for path in folder.rglob("*") if path.is_file() and path.name != ".lock"}
    return {str(name): path.read_bytes() for name, path in found.items()}


def test_preparing_on_a_cluster_gives_the_same_bytes(cluster: Cluster, scans: Path, tmp_path: Path):
    source = tmp_path / "scans"
    shutil.copytree(scans / "scans", source)
    (source / "images" / "bad.nii.gz").write_text("no scan")  # is skipped with the same words
    here = PrepareConfig(source=source, out=tmp_path / "here", workers=1)
    prepare(here)
    words = ["prepare", "scans", "--out", "there", "--ray", cluster.address, "--workers", "2"]
    done = subprocess.run(
        [sys.executable, "-m", "jcl", *words],
        cwd=tmp_path, env=environment(), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "bad.nii.gz: not gzip-compressed" in done.stderr
    assert tree(tmp_path / "there") == tree(tmp_path / "here")


SPREAD = """
import os, signal, sys
from pathlib import Path
from jcl.errors import DataError, UsageError
from jcl.parallel.pool import run_all
from jcl.parallel.ray import RayPool, joined

def square(number):
    if number == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    if number == 9:
        raise DataError("nine")
    return number * number

with joined(sys.argv[1]) as ray:
    queue = RayPool(ray, [Path("/")], int, limit=3, queued=True)
    found = dict(run_all(queue, square, range(7), lambda number: -1))
    print([found[number] for number in range(7)])
    for folder, items in ((Path("/"), [9]), (Path("/not/there"), [1])):
        try:
            list(run_all(RayPool(ray, [folder], int), square, items, lambda number: -1))
        except (DataError, UsageError) as error:
            print(type(error).__name__, error)
"""


def test_an_item_whose_process_dies_and_errors_on_other_machines(cluster: Cluster, tmp_path: Path):
    script = tmp_path / "script.py"
    script.write_text(SPREAD)
    words = [sys.executable, str(script), cluster.address]
    done = subprocess.run(words, env=environment(), capture_output=True, text=True, check=False)
    squares, raised, unseen = done.stdout.splitlines()
    assert squares == "[0, 1, 4, -1, 16, 25, 36]"
    assert raised == "DataError nine"
    assert unseen.startswith("UsageError ")
    assert "does not see /not/there" in unseen
