from dataclasses import replace
from pathlib import Path

import pytest

from jcl.report.stats.results import Pretraining
from jcl.report.stats.status import Failure, state_of
from support.grids import benchmark, case, cell, one_column


def run(task: str, status: str, **more: object):
    return cell(0, [case("p", 0.5)] if status in ("done", "other code") else (), status=status, task=task, **more)


def test_each_training_counts_once_and_each_status_is_told() -> None:
    first = one_column(
        {
            "JCL": [run("a", "done"), run("b", "missing")],
            "MoCo": [run("c", "failed", error="out of memory"), run("d", "other code")],
        }
    )
    second = replace(first, name="t2")
    bad = Pretraining(
        task="pre", label="heart-jcl", rows=("JCL",), pretrain_on=("heart",), folder=Path("tasks"), status="failed",
        error="queue is -1",
    )  # fmt: skip
    state = state_of(benchmark(first, second, pretrainings=[bad]))
    assert state.level == "failed"
    assert state.counts == (("done", 1), ("other code", 1), ("failed", 2), ("missing", 1))
    assert state.headline == (
        "Incomplete: 1 of 5 trainings are done; 2 failed, 1 not run yet, "
        "1 of other code than the last run of the benchmark."
    )
    assert state.failures == (
        Failure("queue is -1", "heart-jcl"),
        Failure("out of memory", "heart MoCo M=2 fold 0 seed 0"),
    )


@pytest.mark.parametrize(
    ("status", "level", "headline"),
    [
        ("done", "complete", "Complete: all 2 trainings are done."),
        ("missing", "partial", "Incomplete: 1 of 2 trainings are done; 1 not run yet."),
        ("other code", "partial", "Of mixed code: 1 of 2 trainings are done; 1 of other code than"),
    ],
)
def test_without_a_fault_there_is_no_alarm(status: str, level: str, headline: str) -> None:
    state = state_of(benchmark(one_column({"JCL": [run("a", "done"), run("b", status)]})))
    assert (state.level, state.failures) == (level, ())
    assert state.headline.startswith(headline)
