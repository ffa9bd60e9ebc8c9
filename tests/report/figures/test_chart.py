"""Places of labels, and colours that can be seen and told apart."""

import numpy as np
import pytest
from scipy.optimize import minimize

from jcl.report.figures.chart import INK, spread
from jcl.report.figures.linestyles import OTHERS, STRONG, row_styles
from jcl.report.figures.overlay import rgb
from support import grids


@pytest.mark.parametrize("places", [[0.1, 0.12, 0.13, 0.8], [0.5, 0.5, 0.5], [0.9, 0.2, 0.21, 0.95, 0.94]])
def test_labels_are_as_near_as_they_can_be(places):
    apart = 0.1
    order = np.argsort(places, kind="stable")
    distances = {"type": "ineq", "fun": lambda x: np.diff(x[order]) - apart}
    best = minimize(lambda x: ((x - places) ** 2).sum(), np.linspace(0, 1, len(places)), constraints=distances)
    np.testing.assert_allclose(spread(places, apart, -1, 2), best.x, atol=1e-4)


def test_labels_stay_inside_and_crowd_where_there_is_no_room():
    assert spread([0.95, 1.0], 0.1, 0, 1) == pytest.approx([0.9, 1.0])
    assert spread([0.5] * 5, 1.0, 0, 1) == pytest.approx([0, 0.25, 0.5, 0.75, 1])
    assert spread([3.0], 1.0, 0, 1) == [1.0]


def luminance(colour: tuple[float, ...]) -> float:
    """Relative luminance (WCAG 2.2)."""
    linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in (c / 255 for c in colour)]
    return float(np.dot(linear, [0.2126, 0.7152, 0.0722]))


@pytest.mark.parametrize("colour", [STRONG, *(colour for colour, _ in OTHERS)])
def test_colours_have_contrast_to_light_and_dark_pages(colour):
    own = luminance(rgb(colour))
    assert 1.05 / (own + 0.05) >= 3
    assert (own + 0.05) / (luminance(rgb("#16181d")) + 0.05) >= 3


def test_rows_differ_in_their_marks_and_not_by_colour_alone():
    rows = ("Random", "A", "B", "C", "D", "E", "F", "G", "H", "JCL")
    cells = {row: [grids.cell(0, start=None if row == "Random" else row)] for row in rows}
    styles = row_styles(grids.one_column(cells))
    assert styles["Random"].colour == INK
    others = [style for row, style in styles.items() if row != "Random"]
    assert len({style.mark for style in others}) == len({style.colour for style in others}) == 9
    assert styles["Random"].dashes != styles["JCL"].dashes
    assert all(styles["JCL"].width > 1.5 * style.width for row, style in styles.items() if row != "JCL")
