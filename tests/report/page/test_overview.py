from dataclasses import replace

import pages
from grids import case, cell, grid
from jcl.report.page.overview import overview_table
from jcl.report.statistics import summarise_grid


def table_of(*grids):
    return overview_table(grids, {each.name: summarise_grid(each) for each in grids})


def test_runs_leaders_ranks_and_gain_by_hand() -> None:
    table = table_of(pages.some_grid())
    assert table.rows[0].name == "First table"
    done, best, rank, gain = table.rows[0].cells
    assert done.text == "11 / 16"
    assert best.text == "Random, JCL (1 of 2)"
    assert rank.text == "JCL (1.0 of 3)"
    # only M=1, where both have the same folds: 0.525 - 0.225
    assert gain.text == "+0.300"


def test_nothing_done_yet() -> None:
    empty = grid({("Random", "M=1"): [cell(0)], ("JCL", "M=1"): [cell(0)]})
    assert [each.text for each in table_of(empty).rows[0].cells] == ["0 / 2", "–", "–", "–"]


def test_tables_without_jcl_and_random_are_not_asked_for_a_gain() -> None:
    shown = grid({("PCL", "M=1"): [cell(0, [case("p", 0.5)])], ("GCL", "M=1"): [cell(0, [case("p", 0.6)])]})
    assert [head.text for head in table_of(shown).heads] == [
        "Table", "Runs done", "Best mean in most columns", "Lowest average rank",
    ]  # fmt: skip
    both = table_of(shown, replace(pages.some_grid(), name="t2"))
    assert [row.cells[-1].text for row in both.rows] == ["–", "+0.300"]
