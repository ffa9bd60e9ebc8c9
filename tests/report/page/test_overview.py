from dataclasses import replace

import pytest

from jcl.report.page.overview import cost_table, method_table, overview_table
from jcl.report.stats.costs import Cost
from jcl.report.stats.summary import summarise_grid
from support import pages
from support.grids import case, cell, grid


def table_of(*grids):
    return overview_table(grids, {each.name: summarise_grid(each) for each in grids})


def test_runs_leaders_ranks_and_gain_by_hand() -> None:
    table = table_of(pages.some_grid())
    assert table.rows[0].name == "First table"
    done, best, rank, gain = table.rows[0].cells
    assert done.text == "11 / 16"
    assert best.text == "Random and JCL (1 of 2)"
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


KNOWN = {"pretrain_on": ("a", "b"), "finetune_on": "c", "row": "JCL"}
DONE = {"pretraining": 90.0, "pretraining_status": "done", "finetunings": 2, "finetuning": 30.0}


@pytest.mark.parametrize(
    ("more", "texts"),
    [
        ({}, ["a + b", "c", "1.50", "2", "0.50", "2.50"]),
        ({"pretraining": None, "pretraining_status": None}, ["nothing", "c", "–", "2", "0.50", "1.00"]),
        (
            {"pretraining": None, "pretraining_status": "failed", "finetunings": 0, "finetuning": None},
            ["a + b", "c", "failed", "0", "–", "–"],
        ),
    ],
)
def test_minutes_and_their_sum(more: dict, texts: list[str]) -> None:
    (row,) = cost_table([Cost(**{**KNOWN, **DONE, **more})]).rows
    assert [each.text for each in row.cells] == texts


def test_settings_that_a_row_has_of_its_own() -> None:
    table = method_table(
        {
            "Random": {"name": "Random", "method": "none", "method_settings": {}, "backbone": None},
            "JCL": {
                "method": "jcl", "method_settings": {"dense_weight": 0.0}, "backbone": "unet", "width": 8,
                "pretrain": {"steps": 3}, "finetune": {"epochs": 1}, "paper": None,
            },
        }
    )  # fmt: skip
    assert [[cell.text for cell in row.cells] for row in table.rows] == [
        ["random weights", "–"],
        ["jcl", "backbone = unet, width = 8, dense_weight = 0.0, pretrain steps = 3, finetune epochs = 1"],
    ]
