"""CSV files read back by another reader, and counted."""

import csv
import io

import pytest

from jcl.benchmark.paper import PaperCell
from jcl.metrics import METRICS
from jcl.report.formats.csv_tables import as_csv, csv_rows, summary_rows
from jcl.report.stats.summary import summarise_benchmark
from support.grids import benchmark, case, cell, grid, one_column

BENCHMARK = benchmark(
    grid(
        {
            ("JCL", "M=2"): [cell(0, [case("p1", 0.75, None), case("p2", 0.1, 0.2)], task="a"), cell(1, task="b")],
            ("=cmd()", "M=2"): [
                cell(0, [case("p1", 0.5, 0.5, name="scan", slice=s) for s in range(2)], task="c", status="other code"),
                cell(1, status="failed", task="d"),
            ],
        },
        {("JCL", "M=2"): PaperCell(0.562, 0.05)},
    )
)


def read(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text), strict=True))


def test_every_score_is_one_row_and_every_run_without_scores_another() -> None:
    rows = read(as_csv(csv_rows(BENCHMARK)))
    scored = [row for row in rows if row["case"]]
    assert len(scored) == (2 + 2) * 2 * 4  # cases (or slices), classes, metrics
    (one,) = [r for r in scored if (r["row"], r["case"], r["class"], r["metric"]) == ("JCL", "p2", "B", "hd95")]
    assert one == {
        "table": "t1", "row": "JCL", "column": "M=2", "fold": "0", "seed": "0", "status": "done", "task": "a",
        "patient": "p2", "case": "p2", "slice": "", "class": "B", "metric": "hd95", "value": "0.2",
    }  # fmt: skip
    assert {r["value"] for r in scored if (r["case"], r["class"]) == ("p1", "B")} == {""}  # not counted is no 0
    assert [r["slice"] for r in scored if (r["class"], r["metric"], r["status"]) == ("A", "asd", "other code")] == [
        "0", "1",
    ]  # fmt: skip
    without = [row for row in rows if not row["case"]]
    assert [(r["row"], r["fold"], r["status"], r["patient"], r["metric"], r["value"]) for r in without] == [
        ("JCL", "1", "missing", "", "", ""),
        ("'=cmd()", "1", "failed", "", "", ""),
    ]


def test_summary_has_means_and_classes() -> None:
    rows = read(as_csv(summary_rows(BENCHMARK, summarise_benchmark(BENCHMARK))))
    assert len(rows) == 2 * 4 * 3  # cells, metrics, mean and two classes
    assert {row["metric"] for row in rows} == set(METRICS)
    mean, a, b = [row for row in rows if (row["row"], row["metric"]) == ("JCL", "dice")]
    assert [row["class"] for row in (mean, a, b)] == ["mean", "A", "B"]
    assert [float(row["mean"]) for row in (mean, a, b)] == pytest.approx([(0.75 + 0.15) / 2, 0.425, 0.2])
    assert (mean["std"], mean["folds_done"], mean["folds_expected"]) == ("", "1", "2")
    assert (mean["statuses"], mean["patients"]) == ("1 done; 1 missing", "2")
    assert float(mean["interval_low"]) < float(mean["mean"]) < float(mean["interval_high"])
    assert (mean["paper_mean"], mean["paper_std"]) == ("0.562", "0.05")
    assert mean["paper_table"] == "table 1 (CHD, 68 patients)"
    assert a["paper_mean"] == ""
    assert [row["paper_mean"] for row in rows if row["metric"] == "jaccard"] == [""] * 6


def test_summary_has_comparisons() -> None:
    shifts = (("JCL", 0.3), ("Random", 0.0), ("PCL", 0.1))
    six = benchmark(
        one_column({row: [cell(0, [case(f"p{k}", 0.1 * k + shift) for k in range(6)])] for row, shift in shifts})
    )
    rows = read(as_csv(summary_rows(six, summarise_benchmark(six))))
    found = {row["row"]: row for row in rows if (row["metric"], row["class"]) == ("dice", "mean")}
    pcl = found["PCL"]
    assert [float(pcl[f"difference_to_{row}"]) for row in ("JCL", "Random")] == pytest.approx([-0.2, 0.1])
    assert (pcl["pairs_to_JCL"], pcl["p_to_JCL"], pcl["p_holm_to_JCL"]) == ("6", "0.03125", "0.09375")
    assert (pcl["folds_better_to_Random"], pcl["folds_compared_to_Random"]) == ("1", "1")
    assert pcl["complete_to_JCL"] == "yes"
    assert (found["JCL"]["difference_to_JCL"], found["JCL"]["complete_to_JCL"]) == ("", "")


def test_numbers_are_written_in_full_names_are_quoted_and_none_becomes_a_formula() -> None:
    names = ['a, "b"\nc', "=1+1", "+x", "-x", "@x", "\tx"]
    found = read(as_csv([{"name": name, "value": 0.1 - 0.3} for name in names]))
    assert [row["name"] for row in found] == [names[0], *(f"'{name}" for name in names[1:])]
    assert {row["value"] for row in found} == {"-0.19999999999999998"}
    assert as_csv([]) == ""
