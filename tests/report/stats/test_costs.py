"""What runs took, added up by hand."""

from pathlib import Path

from jcl.report.stats.costs import row_costs
from jcl.report.stats.results import Pretraining
from support.grids import benchmark, case, cell, grid

SCORES = [case("a", 0.5)]


def pretraining(task: str, seconds: float | None, status: str = "done") -> Pretraining:
    about = {"label": task, "rows": ("JCL",), "pretrain_on": ("heart",), "folder": Path("x")}
    return Pretraining(task=task, seconds=seconds, status=status, **about)


def test_each_run_counts_once():
    cells = {
        ("JCL", "M=1"): [cell(0, SCORES, task="a", start="pre", seconds=10.0), cell(1, task="b", start="pre")],
        ("JCL", "M=2"): [cell(0, SCORES, task="c", start="pre", seconds=30.0)],
        ("Random", "M=1"): [cell(0, SCORES, task="d", seconds=8.0), cell(1, task="e")],
    }
    table = grid(cells)
    again = grid({("JCL", "M=2"): cells["JCL", "M=2"]})  # another table, of the same run
    jcl, random = row_costs(benchmark(table, again, pretrainings=[pretraining("pre", 100.0), pretraining("x", 5.0)]))
    assert (jcl.row, jcl.pretraining, jcl.pretraining_status, jcl.finetunings, jcl.finetuning) == (
        "JCL", 100.0, "done", 2, 20.0,
    )  # fmt: skip
    assert (random.row, random.pretraining, random.pretraining_status, random.finetunings, random.finetuning) == (
        "Random", None, None, 1, 8.0,
    )  # fmt: skip


def test_a_pretraining_a_fold_and_one_that_failed():
    cells = [cell(0, SCORES, task="a", start="p0", seconds=10.0), cell(1, task="b", start="p1", status="blocked")]
    found = [pretraining("p0", 100.0), pretraining("p1", None, "failed")]
    (cost,) = row_costs(benchmark(grid({("JCL", "M=1"): cells}), pretrainings=found))
    assert (cost.pretraining, cost.pretraining_status) == (100.0, "failed")
