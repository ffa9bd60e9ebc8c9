"""CSV files read back by another reader, and counted."""

import csv
import io

import pytest

from grids import benchmark, case, cell, grid
from jcl.benchmark.paper import PaperCell
from jcl.metrics import METRICS
from jcl.report.spreadsheet import as_csv, csv_rows, summary_rows

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


def test_every_score_is_one_row():
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


def test_runs_without_scores_are_there():
    rows = [row for row in read(as_csv(csv_rows(BENCHMARK))) if not row["case"]]
    assert [(r["row"], r["fold"], r["status"], r["metric"], r["value"]) for r in rows] == [
        ("JCL", "1", "missing", "", ""),
        ("'=cmd()", "1", "failed", "", ""),
    ]


def test_no_row_carries_anothers_case():
    for row in csv_rows(BENCHMARK):
        assert (row["case"] is None) == (row["value"] is None and row["metric"] is None)


def test_summary_has_means_and_classes():
    rows = read(as_csv(summary_rows(BENCHMARK)))
    assert len(rows) == 2 * 4 * 3  # cells, metrics, mean and two classes
    assert {row["metric"] for row in rows} == set(METRICS)
    mean, a, b = [row for row in rows if (row["row"], row["metric"]) == ("JCL", "dice")]
    assert [row["class"] for row in (mean, a, b)] == ["mean", "A", "B"]
    assert [float(row["mean"]) for row in (mean, a, b)] == pytest.approx([(0.75 + 0.15) / 2, 0.425, 0.2])
    assert (mean["std"], mean["folds_done"], mean["folds_expected"]) == ("", "1", "2")
    assert (mean["statuses"], mean["patients"]) == ("1 done; 1 missing", "2")
    assert float(mean["interval_low"]) < float(mean["mean"]) < float(mean["interval_high"])
    assert (mean["paper_mean"], mean["paper_std"], mean["paper_table"]) == ("0.562", "0.05", "table 1")
    assert a["paper_mean"] == ""
    assert [row["paper_mean"] for row in rows if row["metric"] == "jaccard"] == [""] * 6


def test_summary_has_comparisons():
    six = {
        row: [cell(0, [case(f"p{k}", 0.1 * k + shift) for k in range(6)])]
        for row, shift in (("JCL", 0.3), ("Random", 0.0), ("PCL", 0.1))
    }
    rows = read(as_csv(summary_rows(benchmark(grid({(row, "M=2"): cells for row, cells in six.items()})))))
    found = {row["row"]: row for row in rows if (row["metric"], row["class"]) == ("dice", "mean")}
    pcl = found["PCL"]
    assert float(pcl["difference_to_JCL"]) == pytest.approx(-0.2)
    assert float(pcl["difference_to_Random"]) == pytest.approx(0.1)
    assert (pcl["pairs_to_JCL"], pcl["p_to_JCL"], pcl["p_holm_to_JCL"]) == ("6", "0.03125", "0.09375")
    assert (pcl["folds_better_to_Random"], pcl["folds_compared_to_Random"]) == ("1", "1")
    assert pcl["complete_to_JCL"] == "yes"
    assert (found["JCL"]["difference_to_JCL"], found["JCL"]["complete_to_JCL"]) == ("", "")


def test_figures_are_written_in_full_and_names_are_quoted():
    text = as_csv([{"name": 'a, "b"\nc', "value": 0.1 + 0.2}])
    assert read(text) == [{"name": 'a, "b"\nc', "value": "0.30000000000000004"}]


@pytest.mark.parametrize("name", ["=1+1", "+x", "-x", "@x", "\tx"])
def test_no_name_becomes_a_formula(name: str):
    assert read(as_csv([{"name": name, "value": -1.5}])) == [{"name": f"'{name}", "value": "-1.5"}]


def test_nothing_is_nothing():
    assert as_csv([]) == ""
