import pytest

import pages
from grids import case, cell, one_column
from jcl.report.page.comparisons import comparison_table
from jcl.report.statistics import summarise_grid


def cells_of(shown, reference: str, metric: str = "dice") -> dict:
    table = comparison_table(shown, summarise_grid(shown, metric=metric), reference)
    return {row.name: row.cells for row in table.rows}


def runs(*values: float, patients: int = 4) -> list:
    """A fold for each value, in all of whose patients it is scored, each with a little more than the one before."""
    return [
        cell(fold, [case(f"p{fold}{k}", value + k / 1000) for k in range(patients)])
        for fold, value in enumerate(values)
    ]


def test_difference_p_value_and_folds_by_hand() -> None:
    shown = one_column({"JCL": runs(0.8, 0.6), "Random": runs(0.5, 0.5)})
    only = cells_of(shown, "Random")["JCL"][0]
    # four differences of 0.3 and four of 0.1; all eight on one side: p = 2 / 2**8
    assert (only.text, only.sub, only.tone, only.best) == ("+0.200", "p = 0.008 · 2/2", "up", True)
    assert "8 patients; better in 2 of 2 folds" in only.tip
    other = cells_of(shown, "JCL")["Random"][0]
    assert (other.text, other.sub, other.tone) == ("−0.200", "p = 0.008 · 0/2", "down")


def test_a_distance_that_is_longer_is_worse() -> None:
    shown = one_column({"JCL": runs(8, 6), "Random": runs(5, 5)})
    only = cells_of(shown, "Random", "hd95")["JCL"][0]
    assert (only.text, only.tone, only.sub[-3:]) == ("+2.00", "down", "0/2")


def test_too_few_patients_are_not_tested() -> None:
    shown = one_column({"JCL": runs(0.8, patients=5), "Random": runs(0.5, patients=5)})
    only = cells_of(shown, "Random")["JCL"][0]
    assert (only.text, only.sub, only.best) == ("+0.300", "no test · 1/1", False)


def test_rows_that_are_not_complete_are_compared_over_what_both_have_and_say_so() -> None:
    cells = cells_of(pages.some_grid(), "Random")
    assert cells["JCL"][1].sub.endswith("*")
    assert "not all runs of both are done" in cells["JCL"][1].tip
    assert not cells["JCL"][0].sub.endswith("*")
    assert cells["Bad"][0].text == "–"


@pytest.mark.parametrize("value", [0.5, 0.50004])
def test_no_difference_has_neither_sign_nor_colour(value: float) -> None:
    shown = one_column({"JCL": runs(value), "Random": runs(0.5)})
    only = cells_of(shown, "Random")["JCL"][0]
    assert (only.text, only.tone) == ("0.000", "")
