import pytest

from jcl.report.page.comparisons import comparison_table
from jcl.report.stats.summary import summarise_grid
from support import pages
from support.grids import case, cell, one_column


def cells_of(shown, reference: str, metric: str = "dice") -> dict:
    table = comparison_table(shown, summarise_grid(shown, metric=metric), reference)
    return {row.name: row.cells for row in table.rows}


def runs(*values: float, patients: int = 4) -> list:
    """A fold for each value, in all of whose patients it is scored, each with a little more than the one before."""
    return [
        cell(fold, [case(f"p{fold}{k}", value + k / 1000) for k in range(patients)])
        for fold, value in enumerate(values)
    ]


def test_difference_p_value_patients_and_folds_by_hand() -> None:
    shown = one_column({"JCL": runs(0.8, 0.6), "Random": runs(0.5, 0.5)})
    only = cells_of(shown, "Random")["JCL"][0]
    # four differences of 0.3 and four of 0.1; all eight on one side: p = 2 / 2**8
    assert (only.text, only.sub, only.tone, only.best) == (
        "+0.200",
        "mean +0.200 (+0.100 to +0.300), p = 0.008, n = 8, 2/2 folds",
        "up",
        True,
    )
    other = cells_of(shown, "JCL")["Random"][0]
    assert (other.text, other.sub, other.tone) == (
        "−0.200",
        "mean −0.200 (−0.300 to −0.100), p = 0.008, n = 8, 0/2 folds",
        "down",
    )
    distance = cells_of(shown, "Random", "hd95")["JCL"][0]
    assert (distance.text, distance.tone, distance.sub[-9:]) == ("+0.20", "down", "0/2 folds")


def test_bold_is_what_is_small_after_holm() -> None:
    rows = {"JCL": runs(0.8, patients=6), "Random": runs(0.5, patients=6)}
    assert cells_of(one_column(rows), "Random")["JCL"][0].best
    three_tests = one_column({**rows, "PCL": rows["Random"]})  # 0.03125 and 0.03125 become 0.09375
    only = cells_of(three_tests, "Random")["JCL"][0]
    assert (only.sub, only.best, only.tip) == (
        "mean +0.300 (+0.300 to +0.300), p = 0.094, n = 6, 1/1 folds",
        False,
        "p = 0.031 before Holm's correction",
    )


def test_too_few_patients_are_not_tested() -> None:
    shown = one_column({"JCL": runs(0.8, patients=5), "Random": runs(0.5, patients=5)})
    only = cells_of(shown, "Random")["JCL"][0]
    assert (only.text, only.sub, only.best) == (
        "+0.300",
        "mean +0.300 (+0.300 to +0.300), no test, n = 5, 1/1 folds",
        False,
    )


def test_rows_that_are_not_complete_are_compared_over_what_both_have_and_say_so() -> None:
    shown = pages.some_grid()
    cells = cells_of(shown, "Random")
    assert [each.sub.endswith(" °") for each in cells["JCL"]] == [False, True]
    assert "° not all runs" in comparison_table(shown, summarise_grid(shown), "Random").caption
    assert cells["Bad"][0].text == "–"


@pytest.mark.parametrize("value", [0.5, 0.50004])
def test_no_difference_has_neither_sign_nor_colour(value: float) -> None:
    shown = one_column({"JCL": runs(value), "Random": runs(0.5)})
    only = cells_of(shown, "Random")["JCL"][0]
    assert (only.text, only.tone) == ("0.000", "")
