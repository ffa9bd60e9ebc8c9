"""What is missing, in words."""

from grids import benchmark, case, cell, grid, one_column
from jcl.report.gaps import Gap, find_gaps, run_counts

SCORES = [case("a", 0.5)]


def test_nothing_lacks():
    assert find_gaps(one_column({"JCL": [cell(0, SCORES), cell(1, SCORES)]})) == ()


def test_rows_and_columns_that_lack_the_same_are_said_together():
    full, three, none = (
        [cell(f, SCORES) for f in range(5)],
        [cell(f, SCORES if f in (0, 2) else ()) for f in range(5)],
        [cell(f) for f in range(5)],
    )
    table = grid(
        {
            ("JCL", "M=1"): three, ("JCL", "M=2"): three, ("JCL", "M=4"): full,
            ("PCL", "M=1"): three, ("PCL", "M=2"): three, ("PCL", "M=4"): full,
            ("GCL", "M=1"): full, ("GCL", "M=2"): three, ("GCL", "M=4"): none,
            ("BYOL", "M=1"): none, ("BYOL", "M=2"): none, ("BYOL", "M=4"): none,
        }
    )  # fmt: skip
    assert find_gaps(table) == (
        Gap(("JCL", "PCL"), "M=1, M=2: folds 1, 3, 4", "missing", None),
        Gap(("GCL",), "M=2: folds 1, 3, 4; M=4: all folds", "missing", None),
        Gap(("BYOL",), "all columns: all folds", "missing", None),
    )


def test_each_status_and_error_by_itself():
    cells = [
        cell(0, SCORES, status="other code"),
        cell(1, status="failed", error="no memory"),
        cell(2, status="failed", error="no disk"),
        cell(3, SCORES),
    ]
    assert find_gaps(one_column({"JCL": cells})) == (
        Gap(("JCL",), "all columns: fold 0", "other code", None),
        Gap(("JCL",), "all columns: fold 1", "failed", "no memory"),
        Gap(("JCL",), "all columns: fold 2", "failed", "no disk"),
    )


def test_seeds_are_named_where_a_fold_has_some():
    there = {(0, 0), (0, 1), (0, 2), (1, 0), (2, 0), (4, 1)}
    cells = [cell(f, SCORES if (f, s) in there else (), seed=s) for f in range(5) for s in range(3)]
    (gap,) = find_gaps(one_column({"JCL": cells}))
    assert gap.where == "all columns: folds 1, 2 (seeds 1, 2), fold 3, fold 4 (seeds 0, 2)"


def test_a_fixed_split_has_one_fold():
    (gap,) = find_gaps(one_column({"JCL": [cell(0)]}, "chaos_2"))
    assert gap.where == "all columns: all runs"


def test_a_run_that_serves_two_tables_counts_once():
    first = one_column({"JCL": [cell(0, SCORES, task="a"), cell(1, task="b")]})
    second = one_column({"JCL": [cell(0, SCORES, task="a"), cell(1, task="c", status="failed")]})
    assert run_counts(benchmark(first, second)) == {"done": 1, "missing": 1, "failed": 1}
