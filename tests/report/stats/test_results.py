"""A benchmark's folder, written by hand, read as tables."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from jcl.benchmark.paper import PaperCell, paper_caption
from jcl.errors import DataError
from jcl.report.stats.results import Column, read_benchmark
from support.grids import cell, one_column

CASES = [{"case": "c1", "patient": "p1", "classes": {"A": {"dice": 0.5}}}]


def task(name: str, kind: str = "finetune", needs: str | None = None) -> dict:
    settings = {"stores": ["heart"]} if kind == "pretrain" else {"store": "heart"}
    return {
        "id": f"{name}-new", "kind": kind, "label": name, "key": f"key-{name}", "code": "new",
        "settings": settings, "needs": needs, "steps": 1,
    }  # fmt: skip


def write(path: Path, value: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value), encoding="utf-8")


def finish(folder: Path, name: str, *, code: str = "new", finished: str = "2020", dice: float = 0.5) -> Path:
    """A finished task of that code, as `jcl benchmark` leaves it."""
    place = folder / "tasks" / f"{name}-{code}"
    write(place / "task.json", {"id": place.name})
    write(place / "results.json", {"cases": [{**CASES[0], "classes": {"A": {"dice": dice}}}]})
    done = {"id": place.name, "key": f"key-{name}", "code": code, "seconds": 90, "finished": finished}
    write(place / "done.json", done)
    return place


def test_scores_of_all_slices_together_are_read_where_there_are_some(folder: Path):
    place = finish(folder, "m1-0")
    pooled = {"mean": {"dice": 0.7, "classes": {"A": {"dice": 0.7}}}}
    write(place / "results.json", {"cases": CASES, "pooled": pooled})
    finish(folder, "m1-1")
    (table,) = read_benchmark(folder).tables
    assert [each.pooled for each in table.cells["Ours", "M=1"]] == [pooled, {}]


def fail(folder: Path, name: str, error: str) -> None:
    write(folder / "tasks" / f"{name}-new" / "failed.json", {"error": error})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A table of one row, two columns and two folds; the pre-training is `pre`, the others `m1-0` to `m2-1`."""
    tasks = [task("pre", "pretrain"), *(task(f"m{m}-{f}", needs="pre-new") for m in (1, 2) for f in (0, 1))]
    cells = [
        {"table": "t", "row": "Ours", "column": f"M={m}", "fold": f, "seed": 0, "task": f"m{m}-{f}-new"}
        for m in (1, 2)
        for f in (0, 1)
    ]
    table = {
        "name": "t", "title": "T", "methods": ["Ours"], "pretrain_on": ["heart"], "finetune_on": "heart",
        "columns": [{"name": f"M={m}", "patients": m, "split": None} for m in (1, 2)],
        "paper": "table1_chd", "paper_columns": {"M=1": "M=6", "M=2": "M=7"},
    }  # fmt: skip
    plan = {
        "format": 1, "title": "B", "notes": "N", "stores": {"heart": {"path": "stores/heart", "class_names": ["A"]}},
        "tables": [table], "methods": {"Ours": {"paper": "JCL"}}, "cells": cells, "tasks": tasks,
    }  # fmt: skip
    write(tmp_path / "plan.json", plan)
    (tmp_path / "recipe.toml").write_text('title = "B"\n', encoding="utf-8")
    return tmp_path


def states(folder: Path) -> dict[str, str]:
    (grid,) = read_benchmark(folder).tables
    return {cell.task.removesuffix("-new"): cell.status for cells in grid.cells.values() for cell in cells}


def cell_of(folder: Path, column: str, fold: int):
    (grid,) = read_benchmark(folder).tables
    (found,) = [cell for cell in grid.cells["Ours", column] if cell.fold == fold]
    return found


def test_what_the_plan_says(folder: Path):
    benchmark = read_benchmark(folder)
    (grid,) = benchmark.tables
    assert (benchmark.title, benchmark.notes, benchmark.recipe) == ("B", "N", 'title = "B"\n')
    assert benchmark.store_path("heart") == folder / "stores/heart"
    assert (grid.name, grid.title, grid.store, grid.pretrain_on) == ("t", "T", "heart", ("heart",))
    assert (grid.rows, grid.columns) == (("Ours",), (Column("M=1", 1), Column("M=2", 2)))
    assert [(cell.fold, cell.seed) for cell in grid.cells["Ours", "M=2"]] == [(0, 0), (1, 0)]
    (pretraining,) = benchmark.pretrainings
    assert (pretraining.label, pretraining.rows, pretraining.pretrain_on) == ("pre", ("Ours",), ("heart",))


def test_the_papers_figures_are_those_it_prints(folder: Path):
    (grid,) = read_benchmark(folder).tables
    assert grid.paper == {("Ours", "M=1"): PaperCell(0.5620, 0.05)}  # table 1, JCL, M = 6; it has no M = 7
    assert grid.paper_columns == {"M=1": "M=6", "M=2": "M=7"}
    assert grid.paper_title == "table1_chd"
    assert grid.paper_caption is not None
    assert grid.paper_caption.startswith("CHD, 68 patients")


def test_done_and_failed(folder: Path):
    finish(folder, "pre")
    place = finish(folder, "m1-0")
    fail(folder, "m1-1", "no memory")
    assert states(folder) == {"m1-0": "done", "m1-1": "failed", "m2-0": "missing", "m2-1": "missing"}
    done = cell_of(folder, "M=1", 0)
    assert (list(done.cases), done.seconds, done.folder, done.code) == (CASES, 90.0, place, "new")
    failed, missing = cell_of(folder, "M=1", 1), cell_of(folder, "M=2", 0)
    assert (failed.cases, failed.error) == ((), "no memory")
    assert (missing.cases, missing.seconds, missing.error, missing.start) == ((), None, None, "pre-new")
    assert read_benchmark(folder).pretrainings[0].seconds == 90.0


def test_a_failed_pretraining_blocks_what_needs_it(folder: Path):
    finish(folder, "m1-0")  # of before
    fail(folder, "pre", "queue is -1")
    assert states(folder) == {"m1-0": "done", "m1-1": "blocked", "m2-0": "blocked", "m2-1": "blocked"}
    assert cell_of(folder, "M=2", 0).error == "queue is -1"
    assert read_benchmark(folder).pretrainings[0].status == "failed"


def test_the_last_finished_run_of_other_code_is_shown_as_such(folder: Path):
    for code, finished, dice in (("a", "2021", 0.1), ("b", "2023", 0.3), ("c", "2022", 0.2)):
        finish(folder, "m1-0", code=code, finished=finished, dice=dice)
        finish(folder, "m1-1", code=code, finished=finished, dice=dice)
    finish(folder, "m1-1", dice=0.9)
    assert states(folder) == {"m1-0": "other code", "m1-1": "done", "m2-0": "missing", "m2-1": "missing"}
    old = cell_of(folder, "M=1", 0)
    assert (old.code, old.folder.name, old.cases[0]["classes"]["A"]["dice"]) == ("b", "m1-0-b", 0.3)
    assert cell_of(folder, "M=1", 1).cases[0]["classes"]["A"]["dice"] == 0.9


def test_an_old_run_stands_in_for_one_that_failed_which_is_said(folder: Path):
    finish(folder, "m1-0", code="old")
    fail(folder, "m1-0", "no memory")
    cell = cell_of(folder, "M=1", 0)
    assert (cell.status, cell.error, cell.code, len(cell.cases)) == ("other code", "no memory", "old", 1)


def test_a_run_of_other_settings_is_no_cells(folder: Path):
    place = finish(folder, "m1-0", code="old")
    done = json.loads((place / "done.json").read_text())
    write(place / "done.json", {**done, "key": "other settings"})
    assert states(folder)["m1-0"] == "missing"


def test_a_later_format(folder: Path):
    plan = json.loads((folder / "plan.json").read_text())
    write(folder / "plan.json", {**plan, "format": 2})
    with pytest.raises(DataError, match="format 2; this jcl reads format 1"):
        read_benchmark(folder)


def test_spoilt_scores_are_named(folder: Path):
    place = finish(folder, "m1-0")
    (place / "results.json").write_text("{", encoding="utf-8")
    with pytest.raises(DataError, match=r"m1-0-new.results\.json"):
        read_benchmark(folder)


@pytest.mark.parametrize(
    ("store", "table", "column", "other"),
    [
        ("la2018", "table1_chd", "M=6", True),
        ("mmwhs_ct", "table2_mmwhs", "M=6", False),
        ("chd-64", "table3_components", "CHD M=6", False),  # its caption names no set, its columns do
        ("mscmr", "table3_components", "CHD M=6", True),
    ],
)
def test_names_tell_whether_what_the_paper_publishes_is_of_our_data(store: str, table: str, column: str, other: bool):
    published = {"paper_title": table, "paper_caption": paper_caption(table), "paper_columns": {"M=2": column}}
    grid = replace(one_column({"JCL": [cell(0)]}), store=store, **published)
    assert grid.published.startswith(f"table {table[5]} (")
    assert grid.published_of_other_data == other
