from dataclasses import replace

import pytest

import pages
from grids import case, cell, grid, one_column
from jcl.benchmark.paper import PaperCell
from jcl.report.page.scores import mark_cells, score_table
from jcl.report.page.table import Note
from jcl.report.statistics import summarise_grid


def table_of(shown, metric: str = "dice"):
    return score_table(shown, summarise_grid(shown, metric=metric), mark_cells(shown))


def rows_of(table) -> dict:
    return {row.name: row.cells for row in table.rows}


def test_mean_deviation_best_and_the_papers_figure_by_hand() -> None:
    table = table_of(pages.some_grid())
    jcl, random = (rows_of(table)[name][0] for name in ("JCL", "Random"))
    # JCL at M=1: folds with cases of classes (0.8, 0.4) and (0.6, 0.3), so folds of 0.6 and 0.45
    assert (jcl.text, jcl.deviation, jcl.theirs, jcl.best) == ("0.5250", "0.106", "0.5620", True)
    assert jcl.value == pytest.approx(0.525)
    assert "the paper: 0.5620 ± 0.050" in jcl.tip
    assert "2 of 2 folds; 8 test patients; 95 % interval over patients" in jcl.tip
    # Random: cases of (0.2, 0.1) and of (0.4, 0.2), so folds of 0.15 and 0.3
    assert (random.text, random.deviation, random.theirs, random.best) == ("0.2250", "0.106", "", False)
    assert [row.ours for row in table.rows] == [False, True, False, False]


def test_cells_that_lack_the_same_share_a_letter_and_a_note() -> None:
    shown = pages.some_grid()
    marks = mark_cells(shown)
    assert marks.notes == (
        Note("a", "1 of 2 runs not run yet"),
        Note("b", "2 of 2 runs not begun, since the pre-training failed: queue is -1"),
    )
    assert marks.of["JCL", "M=1"] == ""
    assert marks.of["JCL", "M=2"] == "a"
    assert marks.of["Bad", "M=1"] == marks.of["Bad", "M=2"] == "b"
    cells = rows_of(table_of(shown))
    assert (cells["JCL"][1].mark, cells["JCL"][1].tone) == ("a", "partial")
    assert (cells["Bad"][0].text, cells["Bad"][0].state, cells["Bad"][0].value) == ("blocked", True, None)
    assert "queue is -1" in cells["Bad"][0].tip


def test_a_mean_of_fewer_folds_is_never_the_best() -> None:
    """JCL has the highest mean at M=2, of one fold of two."""
    cells = rows_of(table_of(pages.some_grid()))
    assert float(cells["JCL"][1].text) > float(cells["Random"][1].text)
    assert [cells[row][1].best for row in ("Random", "JCL", "MoCo")] == [True, False, False]


def test_statuses_beside_each_other_in_one_cell() -> None:
    runs = [
        cell(0, [case("p", 0.5)]),
        cell(1, [case("q", 0.5)], status="other code"),
        cell(2, status="failed", error="out of memory"),
        cell(3),
    ]
    note = mark_cells(one_column({"JCL": runs})).notes[0].text
    assert note == (
        "1 of 4 runs not run yet; 1 of 4 runs failed; 1 of 4 runs of other code than the benchmark's last run: "
        "out of memory"
    )


@pytest.mark.parametrize("status", ["missing", "failed", "blocked"])
def test_a_cell_without_scores_is_called_after_its_status(status: str) -> None:
    shown = one_column({"JCL": [cell(0, status=status, error="why")]})
    assert rows_of(table_of(shown))["JCL"][0].text == status


def test_a_cell_that_is_done_but_has_nothing_to_count_is_no_zero() -> None:
    shown = one_column({"JCL": [cell(0, [case("p", None)])]})
    only = rows_of(table_of(shown))["JCL"][0]
    assert (only.text, only.value) == ("no score", None)


def test_distances_are_best_when_small_and_have_no_figure_of_the_papers() -> None:
    table = table_of(pages.some_grid(), "hd95")
    cells = rows_of(table)
    assert [cells[row][0].best for row in ("Random", "JCL", "MoCo")] == [True, False, False]
    assert {cell.theirs for row in cells.values() for cell in row} == {""}
    assert not any(head.beside for head in table.heads)
    assert table.heads[1].first == "ascending"


def test_ranks_by_hand() -> None:
    """Over the blocks that Random, JCL and MoCo all have: M=1 in folds 0 and 1, M=2 in fold 0."""
    cells = rows_of(table_of(pages.some_grid()))
    # M=1 fold 0: 0.8 > 0.5 > 0.2; fold 1: 0.6 > 0.5 > 0.4; M=2 fold 0: 0.9 > 0.3 > 0.1
    assert {row: cells[row][-1].text for row in cells} == {"Random": "2.7", "JCL": "1.0", "MoCo": "2.3", "Bad": "–"}
    assert [row for row in cells if cells[row][-1].best] == ["JCL"]


def test_after_z_comes_aa() -> None:
    shown = grid({(f"row {n}", "M=1"): [cell(0, status="failed", error=f"error {n}")] for n in range(28)})
    assert [note.mark for note in mark_cells(shown).notes][24:] == ["y", "z", "aa", "ab"]


def test_the_papers_figure_stands_beside_a_cell_without_scores() -> None:
    shown = replace(one_column({"JCL": [cell(0)]}), paper={("JCL", "M=2"): PaperCell(0.7)})
    only = rows_of(table_of(shown))["JCL"][0]
    assert (only.text, only.theirs) == ("missing", "0.7000")
