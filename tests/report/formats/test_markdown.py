"""The Markdown document, as a parser of GitHub's Markdown reads it."""

from html.parser import HTMLParser

import pytest
from markdown_it import MarkdownIt

from jcl.report.formats.markdown import markdown_document, markdown_table
from jcl.report.page.table import Cell, Head, Row, Table
from support import pages
from support.grids import benchmark, case, cell, grid, one_column


class Tables(HTMLParser):
    """All tables of a page, as lists of lines of cells; a line break in a cell is " / "."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tables: list[list[list[str]]] = []
        self.bold: list[str] = []
        self.open: list[str] = []
        self.feed(MarkdownIt("commonmark", {"html": True}).enable("table").render(text))

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


def test_all_tables_of_the_page_with_what_they_lack_and_the_papers_figures() -> None:
    text = markdown_document(pages.content_of(benchmark(pages.some_grid(), notes="First <b>.\n\nSecond.")))
    assert text.startswith("# A benchmark\n\n**Incomplete: ")
    assert "First &lt;b>.\n\nSecond." in text
    assert "its table 1 (CHD, 68 patients), another data set than ours" in text
    assert "- a: fold 1 not run yet\n- b: all folds not begun, since the pre-training failed: queue is -1" in text
    found = Tables(text)
    assert [table[0][0] for table in found.tables] == ["Table", *["Method"] * 10, "Method", "Row"]
    assert found.tables[1] == [
        ["Method", "M=1 / paper M=6", "M=2", "Rank"],
        ["Random", "0.2250 ± 0.106", "0.3000 ± 0.106", "2.67"],
        ["JCL", "0.5250 ± 0.106 / paper 0.5620 ± 0.05", "0.6750 a", "1.00"],
        ["MoCo", "0.3750 ± 0.000", "0.1500 ± 0.106", "2.33"],
        ["Bad", "blocked b", "blocked b", "–"],
    ]
    assert {"0.5250 ± 0.106", "0.3000 ± 0.106", "1.00"} <= set(found.bold)
    assert "0.6750" not in found.bold
    against = {row[0]: row[1:] for row in found.tables[2][1:]}
    assert against["Random"] == [
        "−0.300 / mean −0.300 (−0.450 to −0.150), p = 0.023, n = 8, 0/2 folds",
        "−0.450 / mean −0.450 (−0.450 to −0.450), no test, n = 4, 0/1 folds °",
    ]
    assert [text.count(f"<summary>{title}") for title in ("Jaccard", "HD95 (mm)", "Dice of each class")] == [1, 1, 1]


def test_a_reference_without_scores() -> None:
    rows = {"Random": [cell(0, [case("p", 0.1)])], "JCL": [cell(0)]}
    text = markdown_document(pages.content_of(benchmark(one_column(rows))))
    assert "Against JCL: there are no patients yet of whom JCL and another row have scores." in text


@pytest.mark.parametrize("name", ["a|b", "<img src=x>", "*a*_b_", "[x](y)", "`c` ~~d~~", r"e\|f", "g\nh", "&lt;"])
def test_names_are_shown_as_they_are(name: str) -> None:
    shown = grid({(name, name): [cell(0, [case("p", 0.5)])], ("Random", name): [cell(0)]})
    found = Tables(markdown_document(pages.content_of(benchmark(shown))))
    scores = found.tables[1]
    assert (scores[0][1], scores[1][0]) == (" ".join(name.split()),) * 2
    assert all(len(line) == len(table[0]) for table in found.tables for line in table)


def test_the_source_is_aligned_too() -> None:
    rows = (Row("long name", (Cell(text="1"), Cell(text="w", words=True))), Row("x", (Cell(text="a | b"),) * 2))
    lines = markdown_table(Table(title="t", heads=(Head("Row"), Head("M"), Head("N", words=True)), rows=rows))
    assert len({len(line) for line in lines.splitlines()}) == 1
    assert lines.splitlines()[1] == "| --------- | -----: | ------ |"
