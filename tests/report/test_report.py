"""`jcl report`, from a benchmark's folder to the files that it writes."""

import csv
import json
from pathlib import Path

import pytest

from jcl.benchmark.benchmark import benchmark
from jcl.config import BenchmarkConfig, ReportConfig
from jcl.errors import DataError, JclError, UsageError
from jcl.report.figures import draw as figures
from jcl.report.report import report
from support.browser import complaints, open_browser, requests
from support.scans import write_volumes

SCORES = {"A": {"dice": 0.5, "jaccard": 0.4, "hd95": 3.0, "asd": 1.0}}


def write(path: Path, value: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value), encoding="utf-8")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """One fine-tuning with scores and one that has not run, of a store that is gone."""
    bench = tmp_path / "bench"
    common = {"kind": "finetune", "code": "c", "settings": {"store": "heart"}, "needs": None, "steps": 1}
    tasks = [{**common, "id": f"task-{fold}", "label": f"f{fold}", "key": f"key-{fold}"} for fold in (0, 1)]
    cells = [
        {"table": "t", "row": "Random", "column": "M=1", "fold": fold, "seed": 0, "task": f"task-{fold}"}
        for fold in (0, 1)
    ]
    table = {
        "name": "t", "title": "A table", "methods": ["Random"], "pretrain_on": ["heart"], "finetune_on": "heart",
        "columns": [{"name": "M=1", "patients": 1, "split": None}], "paper": None, "paper_columns": {},
    }  # fmt: skip
    stores = {"heart": {"path": "stores/heart", "digest": "d", "class_names": ["A"]}}
    methods = {"Random": {"method": "none", "paper": None}}
    plan = {"format": 1, "title": "B", "notes": "", "stores": stores, "tables": [table], "methods": methods}
    write(bench / "plan.json", {**plan, "cells": cells, "tasks": tasks})
    done = {"key": "key-0", "code": "c", "seconds": 90, "finished": "2026-01-01T00:00:00+00:00", "host": "box"}
    write(bench / "tasks" / "task-0" / "task.json", {})
    write(bench / "tasks" / "task-0" / "done.json", done)
    write(bench / "tasks" / "task-0" / "results.json", {"cases": [{"case": "c", "patient": "p", "classes": SCORES}]})
    return bench


def run(folder: Path, out: Path) -> str:
    assert report(ReportConfig(folder=folder, out=out)) == out
    return out.read_text(encoding="utf-8")


def test_page_and_tables_of_an_unfinished_benchmark_whose_store_is_gone(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = run(folder, tmp_path / "new" / "report.html")
    assert "Incomplete: 1 of 2 trainings are done; 1 not run yet." in page
    assert "0.5000" in page
    assert "stores/heart" in page  # why there are no segmentations
    assert "segmentations could not be drawn" in capsys.readouterr().err
    written = {path.name for path in (tmp_path / "new").iterdir()}
    assert written == {"report.html", "report.md", "report.tex", "report.csv", "report-summary.csv"}
    assert "0.5000" in (tmp_path / "new" / "report.md").read_text()
    assert "0.5000" in (tmp_path / "new" / "report.tex").read_text()
    with (tmp_path / "new" / "report.csv").open() as file:
        assert {(row["fold"], row["status"]) for row in csv.DictReader(file)} == {("0", "done"), ("1", "missing")}


def test_a_fault_in_one_figure_costs_only_that_figure(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> str:
        raise TypeError("no such <thing>")

    monkeypatch.setattr(figures, "loss_curves", broken)
    page = run(folder, tmp_path / "report.html")
    assert "a fault of jcl (TypeError: no such &lt;thing&gt;)" in page
    assert "0.5000" in page


def test_an_earlier_report_is_replaced_and_any_other_file_is_not(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("mine")
    with pytest.raises(UsageError, match=r"README\.md exists and is of no earlier report"):
        run(folder, tmp_path / "README.html")
    assert (tmp_path / "README.md").read_text() == "mine"
    (tmp_path / "own.html").write_text("mine")
    with pytest.raises(UsageError, match=r"own\.html exists"):
        run(folder, tmp_path / "own.html")
    first = run(folder, tmp_path / "report.html")
    assert run(folder, tmp_path / "report.html") == first


@pytest.mark.parametrize("name", ["report", "report.md", "report.pdf"])
def test_the_page_has_to_be_called_a_page(folder: Path, tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match=r"has to end in \.html"):
        run(folder, tmp_path / name)


def test_a_folder_that_is_no_benchmarks(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"not a benchmark's folder"):
        run(tmp_path, tmp_path / "report.html")
    assert not (tmp_path / "report.html").exists()


RECIPE = """
title = "Tiny"
folds = 2
[stores.balls]
source = "scans"
size = 64
[pretrain]
width = 4
steps = 2
precision = "float32"
compile = "off"
[finetune]
steps = 2
precision = "float32"
compile = "off"
[methods.Random]
method = "none"
[methods.JCL]
method = "jcl"
[methods.MoCo]
method = "moco"
method_settings = { queue = -1 }
[[tables]]
name = "t"
title = "Balls"
methods = ["Random", "JCL", "MoCo"]
pretrain_on = ["balls"]
finetune_on = "balls"
patients = [1]
"""


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_every_figure_of_a_real_benchmark_with_a_failed_row_is_in_the_page_and_works(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_volumes(tmp_path / "data" / "scans")
    (tmp_path / "recipe.toml").write_text(RECIPE)
    bench, out = tmp_path / "bench", tmp_path / "report.html"
    settings = {"recipe": tmp_path / "recipe.toml", "data": tmp_path / "data", "workers": 0, "retries": 0}
    with pytest.raises(JclError, match="1 of 8 runs failed"):
        benchmark(BenchmarkConfig(out=bench, **settings))
    capsys.readouterr()
    page = run(bench, out)
    assert "could not be drawn" not in capsys.readouterr().err
    assert "Incomplete: 5 of 8 trainings are done; 1 failed, 2 could not begin." in page
    with open_browser(tmp_path / "profile") as driver:
        driver.get(out.as_uri())
        assert complaints(driver) == []
        assert requests(driver) == [out.as_uri()]
        assert len(driver.find_elements("css selector", "table.pictures img")) > 10
        assert len(driver.find_elements("css selector", "figure svg")) >= 5
        assert driver.find_element("css selector", ".viewer").is_displayed()
        assert driver.execute_script(DIFFERENT_SLICES) > 1


DIFFERENT_SLICES = """
    const slider = document.querySelector('.viewer [data-part="slice"]');
    const canvas = document.querySelector('.viewer [data-part="truth"]');
    const seen = new Set();
    for (let number = 0; number <= Number(slider.max); number++) {
      slider.value = number;
      slider.dispatchEvent(new Event("input"));
      seen.add(canvas.toDataURL());
    }
    return seen.size;
"""
