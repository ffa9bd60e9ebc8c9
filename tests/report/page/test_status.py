from dataclasses import replace
from pathlib import Path

from grids import benchmark, case, cell, grid
from jcl.report.grid import Pretraining
from jcl.report.page.status import Failure, state_of


def run(task: str, status: str, **more: object):
    return cell(0, [case("p", 0.5)] if status in ("done", "other code") else (), status=status, task=task, **more)


def pretraining(status: str, error: str | None = None) -> Pretraining:
    return Pretraining(
        task="pre", label="heart-jcl", rows=("JCL",), pretrain_on=("heart",), folder=Path("tasks"), status=status,
        error=error,
    )  # fmt: skip


def test_all_done() -> None:
    state = state_of(benchmark(grid({("JCL", "M=1"): [run("a", "done")]}), pretrainings=[pretraining("done")]))
    assert (state.level, state.headline) == ("complete", "Complete: all 2 trainings are done.")
    assert state.counts == (("done", 2),)
    assert state.failures == ()


def test_each_training_counts_once_and_each_status_is_told() -> None:
    first = grid(
        {
            ("JCL", "M=1"): [run("a", "done"), run("b", "missing")],
            ("MoCo", "M=1"): [run("c", "failed", error="out of memory"), run("d", "other code")],
        }
    )
    second = replace(first, name="t2")
    bad = [pretraining("failed", "queue is -1")]
    state = state_of(benchmark(first, second, pretrainings=bad))
    assert state.level == "failed"
    assert state.counts == (("done", 1), ("other code", 1), ("failed", 2), ("missing", 1))
    assert state.headline == (
        "Incomplete: 1 of 5 trainings are done; 2 failed, 1 not run yet, "
        "1 of other code than the last run of the benchmark."
    )
    assert state.failures == (
        Failure("queue is -1", "heart-jcl"),
        Failure("out of memory", "heart MoCo M=1 fold 0 seed 0"),
    )


def test_unfinished_without_a_fault_is_no_alarm() -> None:
    state = state_of(benchmark(grid({("JCL", "M=1"): [run("a", "done"), run("b", "missing")]})))
    assert state.level == "partial"


def test_other_code_alone_is_told_as_such() -> None:
    state = state_of(benchmark(grid({("JCL", "M=1"): [run("a", "done"), run("b", "other code")]})))
    assert state.level == "partial"
    assert state.headline.startswith("Of mixed code: 1 of 2 trainings are done;")
