"""How figures are written."""

import pytest

from jcl.report.stats.numbers import deviation_text, difference_text, mean_text, p_text, ranges


def test_dice_has_the_papers_digits_and_distances_two():
    assert (mean_text("dice", 0.56204), deviation_text("dice", 0.0517)) == ("0.5620", "0.052")
    assert (mean_text("hd95", 12.3), deviation_text("asd", 0.555)) == ("12.30", "0.56")


@pytest.mark.parametrize(
    ("value", "text"), [(0.0312, "+0.031"), (-0.0312, "−0.031"), (-0.0004, "0.000"), (0.0, "0.000"), (-1.0, "−1.000")]
)
def test_a_difference_has_a_sign_unless_nothing_is_left_of_it(value: float, text: str):
    assert difference_text("dice", value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1.0, "= 1.000"), (0.03125, "= 0.031"), (0.001, "= 0.001"), (0.00099, "< 0.001"),
        (0.0496, "= 0.0496"), (0.0503, "= 0.0503"), (0.05, "= 0.0500"),
    ],
)  # fmt: skip
def test_p_values_tell_on_which_side_of_a_twentieth_they_are(value: float, text: str):
    assert p_text(value) == text


def test_ranges():
    assert ranges([3, 0, 2, 4]) == "0, 2–4"
    assert ranges([1, 2]) == "1, 2"
    assert ranges([]) == ""
