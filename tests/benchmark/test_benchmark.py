"""The whole command, as a user runs it; killed, resumed, and with runs that fail."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from jcl.benchmark import benchmark as module
from jcl.benchmark.benchmark import benchmark
from jcl.benchmark.folder import DONE, LOG, PLAN, RESULTS
from jcl.benchmark.stores import prepare_stores
from jcl.config import BenchmarkConfig
from jcl.errors import JclError, UsageError
from jcl.files import read_json
from jcl.report.stats.results import read_benchmark
from support.clusters import wait_for
from support.tinyrecipes import tiny, tiny_file


def command(recipe: Path, out: Path, scans: Path, *more: str) -> list[str]:
    words = ["benchmark", str(recipe), "--out", str(out), "--data", str(scans), "--workers", "2", *more]
    return [sys.executable, "-m", "jcl", *words]


def scores(out: Path) -> dict[str, list]:
    """Cases and scores of every fine-tuning, by its folder."""
    return {path.parent.name: json.loads(path.read_text())["cases"] for path in out.glob(f"tasks/*/{RESULTS}")}


def marks(out: Path) -> dict[str, bytes]:
    return {path.parent.name: path.read_bytes() for path in out.glob(f"tasks/*/{DONE}")}


def printed(out: Path) -> int:
    """Characters in the logs of all tasks: it grows while there is work."""
    return sum(path.stat().st_size for path in out.glob(f"tasks/*/{LOG}"))


@pytest.fixture(scope="module")
def unbroken(scans: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a benchmark that ran in one go, in this process."""
    folder = tmp_path_factory.mktemp("unbroken")
    benchmark(BenchmarkConfig(recipe=tiny_file(folder), out=folder / "bench", data=scans, workers=0))
    return folder / "bench"


def test_a_benchmark_in_this_process(unbroken: Path):
    plan = json.loads((unbroken / PLAN).read_text())
    assert set(marks(unbroken)) == {task["id"] for task in plan["tasks"]}
    assert len(scores(unbroken)) == 12
    tables = read_benchmark(unbroken).tables
    assert all(cell.status == "done" for table in tables for cells in table.cells.values() for cell in cells)


def test_again_nothing_is_run_and_the_scans_are_not_needed(unbroken: Path, tmp_path: Path, capsys):
    before = marks(unbroken)
    benchmark(BenchmarkConfig(recipe=tiny_file(tmp_path), out=unbroken, workers=0))
    assert marks(unbroken) == before
    assert "14 done" in capsys.readouterr().err


def test_a_dry_run_runs_nothing(scans: Path, tmp_path: Path, capsys):
    out = tmp_path / "bench"
    benchmark(BenchmarkConfig(recipe=tiny_file(tmp_path), out=out, data=scans, dry_run=True))
    said = capsys.readouterr()
    assert "14 runs (2 pretrain, 12 finetune) for 14 cells, 0 done" in said.err
    assert len(said.out.splitlines()) == 14
    assert all(line.startswith(("to do pretrain ", "to do finetune ")) for line in said.out.splitlines())
    assert not (out / "tasks").exists()
    assert not (out / PLAN).exists()


@pytest.mark.slow
def test_a_part_now_and_the_rest_later_is_the_whole(unbroken: Path, scans: Path, tmp_path: Path, capsys):
    out = tmp_path / "bench"
    settings = {"recipe": tiny_file(tmp_path), "out": out, "data": scans, "workers": 0}
    label = next(task["label"] for task in read_json(unbroken / PLAN)["tasks"] if task["needs"])
    benchmark(BenchmarkConfig(**settings, only=(label,)))
    said = capsys.readouterr().err
    assert "2 of 14 runs (1 pretrain, 1 finetune)" in said
    assert "all 2 runs are done (12 others of the recipe were left out)" in said
    assert {cell.status for table in read_benchmark(out).tables for c in table.cells.values() for cell in c} == {
        "done", "missing",
    }  # fmt: skip
    benchmark(BenchmarkConfig(**settings))
    assert "14 runs (2 pretrain, 12 finetune) for 14 cells, 2 done" in capsys.readouterr().err
    assert scores(out) == scores(unbroken)


@pytest.mark.slow
@pytest.mark.long
def test_killed_again_and_again_it_gives_the_same_table(unbroken: Path, scans: Path, tmp_path: Path):
    """kill -9 at random moments of its work; what was done is not redone, and the scores are the unbroken one's."""
    out, chance = tmp_path / "bench", random.Random(0)
    done: dict[str, bytes] = {}
    for _ in range(3):
        before = printed(out)
        with subprocess.Popen(command(tiny_file(tmp_path), out, scans), stderr=subprocess.DEVNULL) as process:
            wait_for(lambda before=before: printed(out) > before, 200)
            time.sleep(chance.uniform(0, 2))
            process.kill()
        now = marks(out)
        assert {name: now[name] for name in done} == done
        done = now
    finished = subprocess.run(command(tiny_file(tmp_path), out, scans), capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr
    now = marks(out)
    assert {name: now[name] for name in done} == done
    assert scores(out) == scores(unbroken)
    assert len(now) == 14


@pytest.mark.slow
def test_ctrl_c_saves_and_says_how_to_go_on(scans: Path, tmp_path: Path):
    recipe = tiny_file(tmp_path, ("[pretrain]\nwidth = 2\nsteps = 3", "[pretrain]\nwidth = 2\nsteps = 100000"))
    out = tmp_path / "bench"
    process = subprocess.Popen(command(recipe, out, scans), stderr=subprocess.PIPE, text=True, start_new_session=True)
    try:
        deadline = time.monotonic() + 200
        while not any(log.read_text() for log in out.glob("tasks/pretrain-*/run/log.jsonl")):  # it trains
            assert time.monotonic() < deadline, "no training began"
            time.sleep(0.1)
        os.killpg(process.pid, signal.SIGINT)
        _, said = process.communicate(timeout=120)
    finally:
        if process.poll() is None:
            process.kill()  # it would train for hours
    assert process.returncode == 130
    assert "stopped and saved" in said
    assert "Traceback" not in said
    assert list(out.glob("tasks/pretrain-*/run/checkpoints/step-*"))


def test_a_method_that_fails_stops_no_other_and_shows(scans: Path, tmp_path: Path, capsys):
    recipe = tiny_file(tmp_path, ('method = "moco"', 'method = "moco"\nmethod_settings = { queue = -1 }'))
    out = tmp_path / "bench"
    with pytest.raises(JclError, match=r"1 of 14 runs failed and 4 that need them.*queue is -1") as caught:
        benchmark(BenchmarkConfig(recipe=recipe, out=out, data=scans, workers=0))
    assert caught.value.exit_code == 1
    assert capsys.readouterr().err.count("given up") == 1
    table = read_benchmark(out).tables[0]
    statuses = {row: {cell.status for c in table.columns for cell in table.cells[row, c.name]} for row in table.rows}
    assert statuses == {"Random": {"done"}, "JCL": {"done"}, "MoCo": {"blocked"}}


def test_runs_of_other_code_are_run_again_and_until_then_say_so(
    unbroken: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    from jcl.benchmark import plan as planning

    true = planning.code_digest
    monkeypatch.setattr(planning, "code_digest", lambda modules: true(modules) + "!")
    recipe = tiny(tmp_path)
    plan = planning.make_plan(recipe, prepare_stores(recipe, unbroken, None, 1))
    assert not {task.id for task in plan.tasks} & set(marks(unbroken))
    before = (unbroken / PLAN).read_bytes()
    try:
        module._write(unbroken, recipe, plan, prepare_stores(recipe, unbroken, None, 1))
        tables = read_benchmark(unbroken).tables
        found = {cell.status for table in tables for cells in table.cells.values() for cell in cells}
        assert found == {"other code"}
    finally:
        (unbroken / PLAN).write_bytes(before)


def test_where_the_scans_are_not(tmp_path: Path):
    recipe = tiny_file(tmp_path)
    with pytest.raises(UsageError, match=r"--data is needed.*scans of store ball"):
        benchmark(BenchmarkConfig(recipe=recipe, out=tmp_path / "bench"))
    with pytest.raises(UsageError, match=r"scans is not there.*below --data"):
        benchmark(BenchmarkConfig(recipe=recipe, out=tmp_path / "bench", data=tmp_path))


def test_a_store_prepared_with_other_settings_is_not_taken(scans: Path, tmp_path: Path):
    out = tmp_path / "bench"
    benchmark(BenchmarkConfig(recipe=tiny_file(tmp_path), out=out, data=scans, dry_run=True))
    other = tiny_file(tmp_path, ('labels = "1=ball"', 'labels = "1=ball"\nsize = 48'))
    with pytest.raises(UsageError, match="was prepared with"):
        benchmark(BenchmarkConfig(recipe=other, out=out, data=scans, dry_run=True))


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"task_timeout": 0.0}, "task_timeout is 0.0; above 0 is needed"),
        ({"task_timeout": -1.0}, "task_timeout is -1.0; above 0 is needed"),
        ({"task_timeout": float("nan")}, "task_timeout is nan; a number is needed"),
        ({"task_timeout": float("inf")}, "task_timeout is inf; a number is needed"),
        ({"task_timeout": 5.0, "workers": 0}, "--task-timeout does not go with --workers 0, where no run can be ended"),
        ({"task_timeout": 5.0, "ray": "auto"}, "--task-timeout does not go with --ray, where no run can be ended"),
    ],
)
def test_a_time_out_that_cannot_be_is_refused_before_any_work(tmp_path: Path, more, said: str):
    with pytest.raises(UsageError, match=said):
        benchmark(BenchmarkConfig(recipe=tiny_file(tmp_path), out=tmp_path / "bench", **more))
    assert not (tmp_path / "bench").exists()
