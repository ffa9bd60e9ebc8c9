import pages
from grids import case, cell, one_column
from jcl.report.page.details import class_tables, fold_tables
from jcl.report.statistics import summarise_grid


def test_each_class_by_itself() -> None:
    shown = pages.some_grid()
    first, second = class_tables(shown, summarise_grid(shown))
    assert (first.title, second.title) == ("M=1", "M=2")
    assert [head.text for head in first.heads] == ["Method", "A", "B"]
    texts = {row.name: [(each.text, each.deviation) for each in row.cells] for row in first.rows}
    # folds of 0.8 and 0.6, and of half of each
    assert texts["JCL"] == [("0.7000", "0.141"), ("0.3500", "0.071")]
    assert texts["Bad"] == [("–", ""), ("–", "")]


def test_one_class_has_no_table_of_its_own() -> None:
    shown = one_column({"JCL": [cell(0, [case("p", 0.5)])]})
    assert class_tables(shown, summarise_grid(shown)) == ()


def test_each_fold_with_interval_and_patients() -> None:
    shown = pages.some_grid()
    summary = summarise_grid(shown)
    _, second = fold_tables(shown, summary)
    assert [head.text for head in second.heads] == ["Method", "Fold 0", "Fold 1", "95 % interval", "Patients"]
    texts = {row.name: [each.text for each in row.cells] for row in second.rows}
    low, high = summary.cells["Random", "M=2"].interval or (0, 0)
    assert texts["Random"] == ["0.2250", "0.3750", f"{low:.4f} – {high:.4f}", "8"]
    assert texts["JCL"][:2] == ["0.6750", "–"]
    assert texts["Bad"] == ["–", "–", "–", "0"]
