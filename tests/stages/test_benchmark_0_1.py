"""The folder of a benchmark of version 0.1.0 stays usable: see tests/oracles/make_benchmark_0_1.py."""

import csv
import shutil
from pathlib import Path

import pytest

from jcl.benchmark.benchmark import benchmark
from jcl.config import BenchmarkConfig, ReportConfig
from jcl.files import read_json
from jcl.report.report import report
from support.scans import write_volumes


@pytest.fixture
def bench(tmp_path, monkeypatch) -> Path:
    """A copy of the folder in which the old command was given: its paths are relative to it."""
    shutil.copytree(Path(__file__).parent / "benchmark-0.1", tmp_path / "old")
    monkeypatch.chdir(tmp_path / "old")
    return Path("bench")


@pytest.mark.slow
def test_its_report_has_the_scores_that_were_found(bench):
    report(ReportConfig(folder=bench, out=Path("report.html")))
    with Path("report.csv").open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["metric"] == "dice"]
    assert {(row["row"], row["status"]) for row in rows} == {("Random", "done"), ("SimCLR", "done")}
    for row in rows:
        (case,) = (
            case
            for case in read_json(bench / "tasks" / row["task"] / "results.json")["cases"]
            if case["case"] == row["case"]
        )
        assert float(row["value"]) == case["classes"][row["class"]]["dice"]
    assert "Balls" in Path("report.html").read_text(encoding="utf-8")


@pytest.mark.slow
def test_it_goes_on_without_preparing_anything_again(bench, capsys):
    write_volumes(Path("scans"), patients=3, labelled=3, slices=3)
    before = {path: path.stat().st_mtime_ns for path in (bench / "stores").rglob("*.slices")}
    assert len(before) == 6
    benchmark(BenchmarkConfig(recipe=Path("recipe.toml"), data=Path(), out=bench, workers=0, dry_run=True))
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert len(read_json(bench / "plan.json")["tasks"]) == 3
