"""Statistics of tables against figures worked out by hand, and slow versions."""

import statistics
from dataclasses import replace

import numpy as np
import pytest

from jcl.metrics import METRICS
from jcl.report.stats.resampling import resampled_interval
from jcl.report.stats.results import Cell
from jcl.report.stats.scores import run_scores
from jcl.report.stats.summary import Summary, summarise_grid
from support.grids import case, cell, grid, one_column


def only(summary: Summary, row: str, reference: str):
    (found,) = [each for each in summary.comparisons if (each.row, each.reference) == (row, reference)]
    return found


def six(*values: float) -> list[dict]:
    return [case(f"p{k}", value) for k, value in enumerate(values)]


def test_the_rows_that_others_are_compared_with():
    rows = {name: [cell(0, six(0.1, 0.2, 0.3, 0.4, 0.5, 0.6))] for name in ("JCL", "Random", "Random, strong")}
    table = one_column(rows)
    assert table.references == ("JCL", "Random")
    named = replace(table, named_references=("Random, strong",))
    found = summarise_grid(named)
    assert found.references == ("Random, strong",)
    assert [(each.row, each.reference) for each in found.comparisons] == [
        ("JCL", "Random, strong"),
        ("Random", "Random, strong"),
    ]


def test_mean_goes_over_classes_then_cases_then_folds():
    fold_0 = [case("a", 0.8, 0.4), case("b", 0.9, None)]  # 0.6 and 0.9: 0.75
    fold_1 = [case("c", None, None), case("d", 0.1, 0.3), case("e", 0.5, 0.5), case("f", None, 0.2)]  # .2 .5 .2: 0.3
    found = summarise_grid(one_column({"JCL": [cell(0, fold_0), cell(1, fold_1)]})).cells["JCL", "M=2"]
    assert found.folds == pytest.approx({0: 0.75, 1: 0.3})
    assert found.mean == pytest.approx(0.525)  # not 0.48, the mean over the five cases
    assert found.deviation == pytest.approx(0.45 / 2**0.5)
    assert found.classes["A"].mean == pytest.approx((0.85 + 0.3) / 2)
    assert found.classes["A"].deviation == pytest.approx(0.55 / 2**0.5)
    assert found.classes["B"].mean == pytest.approx((0.4 + 1 / 3) / 2)
    assert found.patients == 5
    assert found.complete


def test_where_slices_were_pooled_that_is_a_folds_score():
    """And the comparison is of the cases all the same."""

    def pooled(value: float) -> dict:
        own = dict.fromkeys(METRICS, value)
        return {"mean": {**own, "classes": {"A": dict.fromkeys(METRICS, value + 0.1), "B": own}}}

    cases = six(0.1, 0.2, 0.3, 0.4, 0.5, 0.6)
    rows = {
        "JCL": [cell(0, cases, pooled=pooled(0.6)), cell(1, cases, pooled=pooled(0.8))],
        "Random": [cell(0, six(0, 0, 0, 0, 0, 0), pooled=pooled(0.7)), cell(1)],
    }
    summary = summarise_grid(one_column(rows))
    found = summary.cells["JCL", "M=2"]
    assert (summary.pooled, found.pooled, found.interval, found.patients) == (True, True, None, 6)
    assert found.folds == pytest.approx({0: 0.6, 1: 0.8})
    assert (found.mean, found.deviation) == pytest.approx((0.7, 0.2 / 2**0.5))
    assert found.classes["A"].mean == pytest.approx(0.8)
    assert only(summary, "JCL", "Random").difference == pytest.approx(0.35)
    assert summary.cells["Random", "M=2"].folds == pytest.approx({0: 0.7})
    assert not summarise_grid(one_column({"JCL": [cell(0, cases)]})).pooled


def test_seeds_are_averaged_within_a_fold():
    cells = [
        cell(0, [case("a", 0.2)], seed=0),
        cell(0, [case("a", 0.4)], seed=1),
        cell(0, [case("a", 0.9)], seed=2),
        cell(1, [case("b", 0.7)], seed=0),
        cell(1, seed=1),
        cell(1, seed=2, status="failed"),
    ]
    found = summarise_grid(one_column({"JCL": cells})).cells["JCL", "M=2"]
    assert found.folds == pytest.approx({0: 0.5, 1: 0.7})
    assert found.mean == pytest.approx(0.6)
    assert (found.folds_done, found.folds_expected) == (1, 2)
    assert (len(found.runs), found.runs_expected) == (4, 6)
    assert found.statuses == {"done": 4, "missing": 1, "failed": 1}
    assert not found.complete


def test_without_scores_nothing_is_made_up():
    rows = {"JCL": [cell(0), cell(1)], "Random": [cell(0, [case("a", None)]), cell(1)]}
    summary = summarise_grid(one_column(rows))
    for found in summary.cells.values():
        assert (found.mean, found.deviation, found.interval, found.folds, found.patients) == (None, None, None, {}, 0)
    assert summary.best == {"M=2": ()}
    assert summary.ranks == {"JCL": None, "Random": None}
    assert only(summary, "Random", "JCL").pairs == 0
    assert only(summary, "Random", "JCL").difference is None
    assert only(summary, "Random", "JCL").p_value is None


@pytest.mark.parametrize("metric", METRICS)
def test_each_metric_is_its_own(metric: str):
    scores = dict(zip(METRICS, (0.5, 0.25, 10.0, 4.0), strict=True))
    cells = [cell(0, [{"case": "a", "patient": "a", "classes": {"A": scores}}])]
    assert summarise_grid(one_column({"JCL": cells}), metric=metric).cells["JCL", "M=2"].mean == scores[metric]


def test_unknown_metric():
    with pytest.raises(ValueError, match="metric is 'iou'; it is one of dice, jaccard, hd95, asd"):
        summarise_grid(one_column({"JCL": [cell(0)]}), metric="iou")


def test_intervals_draw_patients_folds_and_seeds():
    """Of a cell, and of the differences of two, run by run and case by case."""

    def run(fold: int, seed: int, *values: float) -> Cell:
        return cell(fold, [case(f"p{fold}{k}", value) for k, value in enumerate(values)], seed=seed)

    ours = [run(0, 0, 0.9, 0.7, 0.8), run(0, 1, 0.7, 0.7, 0.9), run(1, 0, 0.5, 0.4, 0.6), run(1, 1, 0.6, 0.5, 0.8)]
    theirs = [run(0, 0, 0.5, 0.6, 0.7), run(0, 1, 0.8, 0.6, 0.7), run(1, 0, 0.5, 0.1, 0.2), run(1, 1, 0.4, 0.6, 0.1)]
    summary = summarise_grid(one_column({"JCL": ours, "MoCo": theirs}))
    scores = {name: run_scores(cells, "dice") for name, cells in (("JCL", ours), ("MoCo", theirs))}
    for name, found in scores.items():
        assert summary.cells[name, "M=2"].interval == resampled_interval(found)
    found = only(summary, "MoCo", "JCL")
    differences = {
        run: {entry: value - scores["JCL"][run][entry] for entry, value in values.items()}
        for run, values in scores["MoCo"].items()
    }
    assert found.interval == resampled_interval(differences)
    assert found.mean == pytest.approx(statistics.fmean(v for each in differences.values() for v in each.values()))
    assert found.mean != pytest.approx(found.difference)


def test_seeds_and_cases_of_a_patient_are_one_pair():
    def run(seed: int, shift: float) -> list[dict]:
        cases = [case(f"p{k}", 0.5 + shift * (k + 1), name=f"p{k}-{phase}") for k in range(6) for phase in range(2)]
        return [*cases, case("p0", 0.5 - shift * (seed + 1), name="p0-more")]

    rows = {name: [cell(0, run(s, shift), seed=s) for s in (0, 1)] for name, shift in (("JCL", 0.0), ("MoCo", 0.01))}
    found = only(summarise_grid(one_column(rows)), "MoCo", "JCL")
    assert found.pairs == 6
    # p0: 0.01 in four entries, -0.01 and -0.02 in one each; the others 0.02 to 0.06
    assert found.difference == pytest.approx((0.03 + 0.04) / 2)
    assert found.p_value == 2 / 2**6


def test_of_distances_the_smaller_is_better():
    rows = {
        "JCL": [cell(0, six(1, 2, 3, 4, 5, 6)), cell(1, [case("q", 9)]), cell(2, [case("r", 7)])],
        "MoCo": [cell(0, six(2, 4, 6, 8, 10, 12)), cell(1, [case("q", 8)]), cell(2, [case("r", 6)])],
    }
    dice, distance = (summarise_grid(one_column(rows), metric=m) for m in ("dice", "hd95"))
    assert (dice.lower_is_better, distance.lower_is_better) == (False, True)
    assert (dice.best["M=2"], distance.best["M=2"]) == (("MoCo",), ("JCL",))
    assert (only(dice, "MoCo", "JCL").better, only(distance, "MoCo", "JCL").better) == (True, False)
    assert only(dice, "MoCo", "JCL").difference == only(distance, "MoCo", "JCL").difference == 2.5
    assert (only(dice, "MoCo", "JCL").folds_better, only(distance, "MoCo", "JCL").folds_better) == (1, 2)
    # MoCo has the larger mean in fold 0, JCL in folds 1 and 2
    assert dice.ranks == pytest.approx({"JCL": 4 / 3, "MoCo": 5 / 3})
    assert distance.ranks == pytest.approx({"JCL": 5 / 3, "MoCo": 4 / 3})


def test_no_difference_is_in_nobodys_favour():
    rows = {row: [cell(0, six(*[0.5] * 7))] for row in ("JCL", "MoCo")}
    summary = summarise_grid(one_column(rows))
    found = only(summary, "MoCo", "JCL")
    assert (found.difference, found.better, found.p_value, found.folds_better) == (0.0, None, 1.0, 0)
    assert summary.best["M=2"] == ("JCL", "MoCo")
    assert summary.ranks == {"JCL": 1.5, "MoCo": 1.5}


def test_ranks_are_those_counted_by_hand():
    rng = np.random.default_rng(3)
    values = np.round(rng.uniform(0, 1, (4, 2, 3)), 1)  # rows, columns, folds; with ties
    cells = {
        (row, column): [cell(f, [case(f"p{f}", float(values[r, c, f]))]) for f in range(3)]
        for r, row in enumerate("WXYZ")
        for c, column in enumerate(("M=2", "M=4"))
    }
    summary = summarise_grid(grid(cells))
    assert len(summary.blocks) == 6
    for r, row in enumerate("WXYZ"):
        places = [
            1 + sum(values[:, c, f] > values[r, c, f]) + (sum(values[:, c, f] == values[r, c, f]) - 1) / 2
            for c in range(2)
            for f in range(3)
        ]
        assert summary.ranks[row] == pytest.approx(statistics.fmean(places))


def test_only_blocks_that_all_rows_have_are_ranked():
    rows = {
        "JCL": [cell(0, six(0.9), seed=s) for s in (0, 1)] + [cell(1, six(0.1), seed=s) for s in (0, 1)],
        "MoCo": [cell(0, six(0.5), seed=s) for s in (0, 1)] + [cell(1, six(0.9), seed=0), cell(1, seed=1)],
        "Bad": [cell(f, seed=s, status="blocked") for f in (0, 1) for s in (0, 1)],
    }
    summary = summarise_grid(one_column(rows))
    assert summary.blocks == (("M=2", 0),)
    assert summary.ranks == {"JCL": 1.0, "MoCo": 2.0, "Bad": None}


def test_only_common_cases_are_compared():
    jcl = [cell(0, six(0.9, 0.9, 0.9, 0.9, 0.9, 0.9)), cell(1, [case("q", 0.1)]), cell(2)]
    moco = [cell(0, [*six(0.8, 0.7, 0.6, 0.5, 0.4)[::-1], case("p5", None), case("p6", 0.3)]), cell(1), cell(2)]
    found = only(summarise_grid(one_column({"JCL": jcl, "MoCo": moco})), "MoCo", "JCL")
    assert found.pairs == 5
    assert found.difference == pytest.approx(-0.3)
    assert found.p_value is None  # five pairs
    assert found.p_holm is None
    assert (found.folds, found.folds_better, found.better, found.complete) == (1, 0, False, False)


def test_seeds_are_paired_each_with_its_like():
    jcl = [cell(0, six(*[0.5] * 6), seed=0), cell(0, six(*[0.9] * 6), seed=1)]
    moco = [cell(0, seed=0), cell(0, six(*[0.8] * 6), seed=1)]
    found = only(summarise_grid(one_column({"JCL": jcl, "MoCo": moco})), "MoCo", "JCL")
    assert found.difference == pytest.approx(-0.1)  # of seed 1; against the mean of JCL's seeds it would be +0.1


def test_slices_of_a_patient_are_parted_by_number():
    def slices(shift: float) -> list[dict]:
        return [case(f"p{k}", 0.1 * s + shift, name="scan", slice=s) for k in range(6) for s in range(3)]

    rows = {"JCL": [cell(0, slices(0.2))], "MoCo": [cell(0, slices(0.1)[::-1])]}
    summary = summarise_grid(one_column(rows))
    assert summary.cells["JCL", "M=2"].mean == pytest.approx(0.3)  # all 18 slices
    assert only(summary, "MoCo", "JCL").difference == pytest.approx(-0.1)
    assert only(summary, "MoCo", "JCL").pairs == 6
