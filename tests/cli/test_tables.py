"""Tables of results: the figures in them, by hand."""

import json
import math
from pathlib import Path

import pytest
from rich.console import Console

from jcl.cli.tables import MEAN, class_values, gain_table, print_scores, read_results, score_table
from jcl.errors import DataError


def case(lv: float | None, rv: float | None) -> dict:
    def scores(dice: float | None) -> dict:
        return {"dice": dice, "jaccard": dice, "hd95": None if dice is None else 10 * (1 - dice), "asd": dice}

    return {"case": "c", "patient": "p", "classes": {"LV": scores(lv), "RV": scores(rv)}}


RESULTS = {"cases": [case(0.8, 0.5), case(0.6, None)]}


def lines(table) -> list[list[str]]:
    console = Console(width=160, record=True, quiet=False, file=open("/dev/null", "w"))  # noqa: PTH123, SIM115
    with console.file:
        console.print(table)
        return [[cell.strip() for cell in line.split("│")[1:-1]] for line in console.export_text().splitlines()]


def test_a_class_counts_only_where_it_is_counted():
    assert class_values([RESULTS], "LV") == [0.8, 0.6]
    assert class_values([RESULTS], "RV") == [0.5]
    assert class_values([RESULTS], MEAN) == pytest.approx([0.65, 0.6])
    assert class_values([RESULTS, RESULTS], "LV") == [0.8, 0.6, 0.8, 0.6]


def test_score_table_shows_mean_deviation_and_count():
    rows = lines(score_table(RESULTS))
    deviation = 100 * math.sqrt(0.02)  # of 0.8 and 0.6
    assert ["LV", f"70.0 ± {deviation:.1f}", f"70.0 ± {deviation:.1f}", "3.0 ± 1.4", "0.7 ± 0.1", "2"] in rows
    assert ["RV", "50.0", "50.0", "5.0", "0.5", "1"] in rows
    assert next(row for row in rows if row and row[0] == "mean")[1].startswith("62.5")


def test_a_class_that_no_case_has_is_a_dash():
    rows = lines(score_table({"cases": [case(0.8, None)]}))
    assert ["RV", "–", "–", "–", "–", "0"] in rows


def test_gain_is_the_difference_of_the_means_and_may_be_negative():
    before, after = {"cases": [case(0.5, 0.5)]}, {"cases": [case(0.75, 0.25)]}
    rows = lines(gain_table({"2 patients": ([before], [after])}, ("Random", "JCL")))
    assert ["LV", "50.0", "75.0", "+25.0"] in rows
    assert ["RV", "50.0", "25.0", "-25.0"] in rows
    assert ["mean", "50.0", "50.0", "+0.0"] in rows


def test_print_scores_reads_what_evaluate_writes(tmp_path: Path, capsys: pytest.CaptureFixture):
    path = tmp_path / "results.json"
    path.write_text(json.dumps(RESULTS))
    print_scores(path)
    said = capsys.readouterr().out
    assert "2 test cases" in said
    assert "HD95 mm" in said


@pytest.mark.parametrize("text", ["", "{}", '{"cases": []}', "[1]"])
def test_a_file_that_holds_no_results_is_named(tmp_path: Path, text: str):
    path = tmp_path / "results.json"
    path.write_text(text)
    with pytest.raises(DataError, match=r"results\.json"):
        read_results(path)
    with pytest.raises(DataError, match=r"nowhere\.json"):
        read_results(tmp_path / "nowhere.json")
