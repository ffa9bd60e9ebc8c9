"""Tables of scores, by hand: `some_grid` of `support.pages` has every kind of cell."""

from dataclasses import replace

import pytest

from jcl.benchmark.paper import PaperCell
from jcl.metrics import METRICS
from jcl.report.page.notes import mark_cells
from jcl.report.page.scores import class_tables, fold_tables, score_table
from jcl.report.page.table import Note
from jcl.report.stats.summary import summarise_grid
from support import pages
from support.grids import case, cell, grid, one_column


def table_of(shown, metric: str = "dice"):
    return score_table(shown, summarise_grid(shown, metric=metric), mark_cells(shown))


def rows_of(table) -> dict:
    return {row.name: row.cells for row in table.rows}


def test_means_deviations_ranks_and_the_papers_figures() -> None:
    table = table_of(pages.some_grid())
    cells = rows_of(table)
    jcl, random = cells["JCL"][0], cells["Random"][0]
    # JCL at M=1: folds with cases of classes (0.8, 0.4) and (0.6, 0.3), so folds of 0.6 and 0.45
    assert (jcl.text, jcl.deviation, jcl.paper, jcl.best) == ("0.5250", "0.106", PaperCell(0.562, 0.05), True)
    assert jcl.value == pytest.approx(0.525)
    assert "2 of 2 folds; 8 test patients; 95 % interval" in jcl.tip
    assert jcl.tip.endswith("the paper: 0.5620 ± 0.05")
    # Random: cases of (0.2, 0.1) and of (0.4, 0.2), so folds of 0.15 and 0.3
    assert (random.text, random.deviation, random.paper, random.best) == ("0.2250", "0.106", None, False)
    assert [row.ours for row in table.rows] == [False, True, False, False]
    assert [head.paper for head in table.heads] == ["", "M=6", "", ""]
    # over M=1 fold 0: 0.8 > 0.5 > 0.2; fold 1: 0.6 > 0.5 > 0.4; M=2 fold 0: 0.9 > 0.3 > 0.1
    assert {row: cells[row][-1].text for row in cells} == {"Random": "2.67", "JCL": "1.00", "MoCo": "2.33", "Bad": "–"}
    assert [row for row in cells if cells[row][-1].best] == ["JCL"]
    assert "ranks are over 3 pairs of column and fold" in table.caption
    # JCL has the highest mean at M=2, but of one fold of two
    assert [cells[row][1].best for row in ("Random", "JCL", "MoCo")] == [True, False, False]


def test_distances_are_best_when_small_and_have_no_figure_of_the_papers() -> None:
    table = table_of(pages.some_grid(), "hd95")
    cells = rows_of(table)
    assert [cells[row][0].best for row in ("Random", "JCL", "MoCo")] == [True, False, False]
    assert {cell.paper for row in cells.values() for cell in row} == {None}
    assert {head.paper for head in table.heads} == {""}
    assert (table.heads[1].first, "lower is better" in table.caption) == ("ascending", True)


def test_cells_that_lack_the_same_share_a_letter_and_a_note() -> None:
    shown = pages.some_grid()
    assert mark_cells(shown).notes == (
        Note("a", "fold 1 not run yet"),
        Note("b", "all folds not begun, since the pre-training failed: queue is -1"),
    )
    cells = rows_of(table_of(shown))
    assert [[cell.mark for cell in cells[row][:2]] for row in ("JCL", "Bad")] == [["", "a"], ["b", "b"]]
    assert cells["JCL"][1].tone == "partial"
    assert (cells["Bad"][0].text, cells["Bad"][0].state, cells["Bad"][0].value) == ("blocked", True, None)
    assert "queue is -1" in cells["Bad"][0].tip


def test_a_note_names_folds_seeds_and_errors() -> None:
    scores = [case("p", 0.5)]
    there = {(0, 0), (0, 1), (0, 2), (1, 0), (2, 0), (4, 1)}
    seeds = [cell(f, scores if (f, s) in there else (), seed=s) for f in range(5) for s in range(3)]
    mixed = [
        cell(0, scores), cell(1, scores, status="other code"), cell(2, status="failed", error="no\nmemory"), cell(3),
    ]  # fmt: skip
    shown = grid({("A", "M=1"): seeds, ("B", "M=1"): mixed, ("C", "M=1"): [cell(0)]})
    assert [note.text for note in mark_cells(shown).notes] == [
        "folds 1, 2 (seeds 1, 2), fold 3, fold 4 (seeds 0, 2) not run yet",
        "fold 3 not run yet; fold 2 failed; fold 1 of other code than the benchmark's last run: no memory",
        "all runs not run yet",
    ]
    many = grid({(f"row {n}", "M=1"): [cell(0, status="failed", error=f"error {n}")] for n in range(28)})
    assert [note.mark for note in mark_cells(many).notes][24:] == ["y", "z", "aa", "ab"]


@pytest.mark.parametrize(
    ("run", "text"),
    [
        (cell(0), "missing"),
        (cell(0, status="failed", error="why"), "failed"),
        (cell(0, [case("p", None)]), "no score"),  # done, but there is nothing to count: no zero
    ],
)
def test_a_cell_without_scores_says_why_and_keeps_the_papers_figure(run, text: str) -> None:
    shown = replace(one_column({"JCL": [run]}), paper={("JCL", "M=2"): PaperCell(0.7)})
    only = rows_of(table_of(shown))["JCL"][0]
    assert (only.text, only.value, only.paper) == (text, None, PaperCell(0.7))


def test_each_class_and_each_fold_by_itself() -> None:
    shown = pages.some_grid()
    summary = summarise_grid(shown)
    first, second = class_tables(shown, summary)
    assert (first.title, second.title) == ("M=1", "M=2")
    assert [head.text for head in first.heads] == ["Method", "A", "B"]
    classes = {name: [(each.text, each.deviation) for each in cells] for name, cells in rows_of(first).items()}
    assert classes["JCL"] == [("0.7000", "0.141"), ("0.3500", "0.071")]  # folds of 0.8 and 0.6, and of half of each
    assert classes["Bad"] == [("–", ""), ("–", "")]
    one_class = one_column({"JCL": [cell(0, [case("p", 0.5)])]})
    assert class_tables(one_class, summarise_grid(one_class)) == ()
    _, second = fold_tables(shown, summary)
    assert [head.text for head in second.heads] == ["Method", "Fold 0", "Fold 1", "95 % interval", "Patients"]
    folds = {name: [each.text for each in cells] for name, cells in rows_of(second).items()}
    low, high = summary.cells["Random", "M=2"].interval or (0, 0)
    assert folds["Random"] == ["0.2250", "0.3750", f"{low:.4f} – {high:.4f}", "8"]
    assert folds["JCL"][:2] == ["0.6750", "–"]
    assert folds["Bad"] == ["–", "–", "–", "0"]


def test_pooled_scores_say_so_and_their_distances_are_in_pixels() -> None:
    own = dict.fromkeys(METRICS, 0.5)
    shown = one_column(
        {"JCL": [cell(0, [case("a", 0.2, 0.1)], pooled={"mean": {**own, "classes": {"A": own, "B": own}}})]}
    )
    table = table_of(shown, "hd95")
    assert table.title == "HD95 (pixels)"
    assert "all its test slices together" in table.caption
    assert rows_of(table)["JCL"][0].text == "0.50"
    summary = summarise_grid(shown, metric="hd95")
    assert class_tables(shown, summary)[0].caption.startswith("HD95 (pixels) of each class")
    assert "together" not in table_of(one_column({"JCL": [cell(0, [case("a", 0.2)])]})).caption
