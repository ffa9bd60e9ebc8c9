"""Charts of doubt: what is drawn, and that results of earlier versions have none."""

import re

import pytest

from jcl.inference.calibration import BINS
from jcl.report.figures.doubt import dice_against_doubt, reliability
from jcl.report.figures.draw import draw_table
from support.grids import benchmark, case, cell, one_column


def bins(*filled: tuple[int, int, float, float]) -> dict:
    """(number, voxels, confidence, accuracy) of those that are not empty."""
    empty = {"voxels": 0, "confidence": None, "accuracy": None}
    found = [{**empty, "low": n / BINS, "high": (n + 1) / BINS} for n in range(BINS)]
    for number, voxels, confidence, accuracy in filled:
        found[number] |= {"voxels": voxels, "confidence": confidence, "accuracy": accuracy}
    return {"ece": 0.1, "voxels": 1, "bins": found}


def scored(*pairs: tuple[float | None, float], fold: int = 0, **more):
    cases = [case(f"p{n}", dice, doubt=doubt) for n, (doubt, dice) in enumerate(pairs)]
    return cell(fold, cases, **more)


def test_a_mark_for_each_case_and_the_rank_of_each_row():
    pairs = ((0.1, 0.9), (0.2, 0.7), (0.3, 0.8), (None, 0.1))
    svg = dice_against_doubt(one_column({"JCL": [scored(*pairs)], "Random": [scored((0.4, 0.2))]}))
    assert "ρ = -0.50" in svg
    assert re.search(r">● Random<", svg)
    assert len(re.findall("<use ", svg)) >= 4


def test_bins_of_all_folds_are_one():
    cells = [
        scored((0.1, 0.9), fold=0, calibration=bins((10, 100, 0.7, 0.6), (14, 100, 0.98, 0.9))),
        scored((0.1, 0.9), fold=1, calibration=bins((10, 300, 0.7, 0.8))),
    ]
    svg = reliability(one_column({"JCL": cells, "Random": [cell(0)]}))
    # 400 voxels: 0.7 and 0.75; 100 voxels: 0.98 and 0.9
    assert f"JCL: ECE {(400 * 0.05 + 100 * 0.08) / 500:.3f}" in svg
    assert "Random" not in svg


@pytest.mark.parametrize("calibration", [{}, bins()])
def test_results_without_doubt_have_no_figures(calibration):
    grid = one_column({"JCL": [cell(0, [case("p", 0.5)], calibration=calibration)]})
    assert dice_against_doubt(grid) is None
    assert reliability(grid) is None


def test_earlier_results_say_nothing_of_it(monkeypatch):
    from jcl.report.figures import draw
    from jcl.report.stats.summary import summarise_benchmark

    for name in ("segmentation_panels", "extreme_cases", "viewer_data"):
        monkeypatch.setattr(draw, name, lambda *_: None)
    grid = one_column({"JCL": [cell(0, [case("p", 0.5, 0.4)])]})
    tables = benchmark(grid)
    figures = draw_table(tables, grid, summarise_benchmark(tables)["t1"])
    assert figures.doubt.figure is figures.reliability.figure is None
