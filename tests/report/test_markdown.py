"""The Markdown document, as a parser of GitHub's Markdown reads it."""

from html.parser import HTMLParser
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

from grids import benchmark, case, cell, grid, one_column
from jcl.benchmark.paper import PaperCell
from jcl.report.grid import Benchmark, Grid, Pretraining
from jcl.report.markdown import markdown_tables
from jcl.report.markdownsyntax import escape, table


class Tables(HTMLParser):
    """All tables of a page, as lists of lines of cells; a line break in a cell is " / "."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tables: list[list[list[str]]] = []
        self.bold: list[str] = []
        self.open: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.open += [tag] if tag != "br" else []
        match tag:
            case "table":
                self.tables.append([])
            case "tr":
                self.tables[-1].append([])
            case "td" | "th":
                self.tables[-1][-1].append("")
            case "br" if self.open:
                self.tables[-1][-1][-1] += " / "
            case _:
                pass

    def handle_endtag(self, tag: str) -> None:
        while self.open.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        if {"td", "th"} & set(self.open):
            self.tables[-1][-1][-1] += data
            self.bold += [data] * ("strong" in self.open)


def parse(text: str) -> Tables:
    return Tables(MarkdownIt("commonmark", {"html": True}).enable("table").render(text))


def tables_of(*grids: Grid, **more: object) -> Tables:
    return parse(markdown_tables(benchmark(*grids, **more)))  # type: ignore[arg-type]


def cases(*values: float) -> list[dict]:
    return [case(f"p{k}", value) for k, value in enumerate(values)]


@pytest.fixture
def small() -> Benchmark:
    """Two folds of three rows, one of which failed; the paper has two of them."""
    cells = {
        ("Random", "M=2"): [cell(0, cases(0.2, 0.3, 0.4)), cell(1, [case("q", 0.5)])],  # 0.3 and 0.5
        ("Random", "M=4"): [cell(0, cases(0.5)), cell(1)],
        ("JCL", "M=2"): [cell(0, cases(0.6, 0.8, 0.7)), cell(1, [case("q", 0.8)], status="other code")],  # 0.7 and 0.8
        ("JCL", "M=4"): [cell(0, cases(0.9)), cell(1)],
        ("Bad", "M=2"): [cell(f, status="blocked", error="queue is -1 | <b>") for f in (0, 1)],
        ("Bad", "M=4"): [cell(f, status="blocked", error="queue is -1 | <b>") for f in (0, 1)],
    }
    paper = {("Random", "M=2"): PaperCell(0.5198, 0.06), ("JCL", "M=2"): PaperCell(0.562)}
    table = grid(cells, paper)
    return benchmark(
        Grid(**{**vars(table), "paper_columns": {"M=2": "M=6"}, "paper_caption": "CHD, 68 patients"}),
        pretrainings=[
            Pretraining(
                task="x", label="x", rows=("JCL",), pretrain_on=("heart",), folder=Path("x"), status="done", seconds=90
            )
        ],
    )


def test_scores_with_the_papers_beside_them(small: Benchmark):
    page = parse(markdown_tables(small))
    assert page.tables[0] == [
        ["Dice", "M=2 / paper M=6", "M=4", "Rank"],
        ["Random", "0.4000 (0.141) / paper 0.5198 (0.06)", "0.5000 1/2", "2.00"],
        ["JCL", "0.7500 (0.071) ‡ / paper 0.5620", "0.9000 1/2", "1.00"],
        ["Bad", "– blocked", "– blocked", "–"],
    ]
    assert page.bold[:2] == ["0.7500 (0.071)", "0.9000"]


def test_what_stands_around_them(small: Benchmark):
    text = markdown_tables(small)
    assert text.startswith("# A benchmark\n\n**Not complete**: of 2 fine-tunings")
    assert "the JCL paper's table 1 (CHD, 68 patients). **They are of another data set than ours**" in text
    assert "M=6 beside our M=2." in text
    assert "Ranks are over 3 blocks." in text
    assert "- missing: Random, JCL; M=4: fold 1\n" in text
    assert "- other code: JCL; M=2: fold 1\n" in text
    assert r"- blocked: Bad; all columns: all folds (queue is -1 \| &lt;b&gt;)" in text


def test_state_counts_runs():
    cells = [cell(0, cases(0.5), task="a"), cell(1, cases(0.5), status="other code", task="b")]
    cells += [cell(2, status="failed", task="c"), cell(3, status="blocked", task="d"), cell(4, task="e")]
    text = markdown_tables(benchmark(one_column({"JCL": cells})))
    said = "1 done, 1 of other code, 1 failed, 1 missing, 1 without their pre-training, which failed"
    assert f"**Not complete**: of 5 fine-tunings, {said}." in text
    text = markdown_tables(benchmark(one_column({"JCL": cells[:1]})))
    assert "**Complete**: all 1 fine-tunings are done" in text
    assert "Not complete" not in text


def test_comparisons_say_difference_p_patients_and_folds():
    rows = {
        "Random": [cell(0, cases(0.10, 0.20, 0.30, 0.40, 0.50, 0.60)), cell(1, [case("q", 0.9), case("r", 0.1)])],
        "JCL": [cell(0, cases(0.11, 0.22, 0.33, 0.44, 0.55, 0.66)), cell(1, [case("q", 0.8), case("r", None)])],
        "PCL": [cell(0, cases(0.12, 0.24, 0.36, 0.48)), cell(1)],
    }
    page = tables_of(one_column(rows))
    # seven pairs, ranks 1 to 6 one way and 7 the other; 19 sets of the ranks add up to 7 or less, 1 + 1 + 1 + 2 +
    # 2 + 3 + 4 + 5 of them to 0, 1, 2, ... 7, and as many to 21 or more: p = 38 / 128
    assert page.tables[1] == [
        ["Dice, less that of JCL", "M=2"],
        ["Random", "−0.030 / p = 0.297, n = 7, 1/2 folds"],
        ["PCL", "+0.025 ° / no test, n = 4, 1/1 folds"],
    ]
    assert page.tables[2][1] == ["JCL", "+0.030 / p = 0.297, n = 7, 1/2 folds"]
    assert page.tables[2][2][1].startswith("+0.050 ° / no test, n = 4")


def test_an_asterisk_marks_what_is_small_after_holm():
    rows = {"Random": [cell(0, cases(*[0.1] * 12))], "JCL": [cell(0, cases(*(0.2 + 0.01 * k for k in range(12))))]}
    assert tables_of(one_column(rows)).tables[1][1] == ["Random", "−0.155 * / p < 0.001, n = 12, 0/1 folds"]
    rows = {row: [cell(0, found[0].cases[:6])] for row, found in rows.items()}
    assert tables_of(one_column(rows)).tables[1][1] == ["Random", "−0.125 * / p = 0.031, n = 6, 0/1 folds"]
    rows["PCL"] = rows["Random"]  # three tests: 0.03125 and 0.03125 become 0.09375
    assert tables_of(one_column(rows)).tables[1][1] == ["Random", "−0.125 / p = 0.094, n = 6, 0/1 folds"]


def test_a_reference_without_scores():
    rows = {"Random": [cell(0, cases(0.1))], "JCL": [cell(0)]}
    text = markdown_tables(benchmark(one_column(rows)))
    assert "### Against JCL\n\nNo test case has scores of both JCL and another row yet." in text
    assert "Ranks are over" not in text


def test_other_metrics_intervals_classes_and_costs(small: Benchmark):
    page = parse(markdown_tables(small))
    heads = [table[0][0] for table in page.tables]
    assert heads == [
        "Dice", "Dice, less that of JCL", "Dice, less that of Random", "Jaccard", "HD95 (mm)", "ASD (mm)", "", "M=2",
        "M=4", "Pre-trained on",
    ]  # fmt: skip
    assert page.tables[4][2] == ["JCL", "0.75 (0.07) ‡", "0.90 1/2", "2.00"]  # of distances the larger is the worse
    assert "0.40 (0.14)" in page.bold
    assert page.tables[6][2][2] == "no interval, 1 patient"
    assert page.tables[6][1][1].endswith(" / 4 patients")
    assert page.tables[7] == [
        ["M=2", "A", "B"],
        ["Random", "0.4000 (0.141)", "–"],
        ["JCL", "0.7500 (0.071)", "–"],
        ["Bad", "–", "–"],
    ]


def test_costs_in_minutes():
    found = [cell(0, cases(0.5), task="a", start="x", seconds=120.0), cell(1, cases(0.5), task="b", start="x")]
    pretraining = Pretraining(
        task="x", label="x", rows=("JCL",), pretrain_on=("heart",), folder=Path("x"), status="done", seconds=600.0
    )
    page = tables_of(one_column({"JCL": found, "Random": [cell(0, task="c")]}), pretrainings=[pretraining])
    assert page.tables[-1][1:] == [
        ["heart", "heart", "JCL", "10.00", "2", "1.50", "13.00"],
        ["nothing", "heart", "Random", "–", "0", "–", "–"],
    ]


@pytest.mark.parametrize("name", ["a|b", "<img src=x>", "*a*_b_", "[x](y)", "`c` ~~d~~", r"e\|f", "g\nh", "&lt;"])
def test_names_are_shown_as_they_are(name: str):
    page = tables_of(grid({(name, name): [cell(0, cases(0.5))], ("Random", name): [cell(0)]}))
    shown = " ".join(name.split())
    assert page.tables[0][0][1] == shown
    assert page.tables[0][1][0] == shown
    assert all(len(line) == len(table[0]) for table in page.tables for line in table)


def test_the_source_is_aligned_too():
    lines = table(["", "M"], [["long name", "1"], ["x", "a | b"]]).splitlines()
    assert len({len(line) for line in lines}) == 1
    assert lines[1] == "| --------- | ----: |"
    assert escape("a | b") == r"a \| b"
