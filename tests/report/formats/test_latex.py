"""Tables for LaTeX, line by line."""

import re
from dataclasses import replace

import pytest

from jcl.report.formats.latex import latex_tables
from support import pages
from support.grids import benchmark, case, cell, grid, one_column


def text_of(shown, **more: str) -> str:
    return latex_tables(pages.content_of(benchmark(shown, **more)))


def rows(text: str, number: int = 0) -> list[list[str]]:
    """Cells of all lines of the table of that number."""
    body = re.findall(r"\\toprule\n(.*?)\\bottomrule", text, re.DOTALL)[number]
    lines = [line.strip().removesuffix(r" \\") for line in body.splitlines() if line.strip()]
    return [re.split(r"(?<!\\) ?& ?", line) for line in lines if line != r"\midrule"]


def test_a_table_for_each_metric_with_the_papers_rows_below_and_notes_on_what_it_lacks() -> None:
    text = text_of(pages.some_grid(), title="A\n100 % title")
    assert "\n% A 100 % title\n" in text  # one line, so that none of it is typeset
    assert re.findall(r"\\label\{(.*)\}", text) == [f"tab:t1-{m}" for m in ("dice", "jaccard", "hd95", "asd")]
    assert rows(text) == [
        ["Method", "M=1", "M=2", "Rank"],
        ["Random", "0.2250(0.106)", r"\textbf{0.3000(0.106)}", "2.67"],
        ["JCL", r"\textbf{0.5250(0.106)}", r"0.6750\textsuperscript{a}", r"\textbf{1.00}"],
        ["MoCo", "0.3750(0.000)", "0.1500(0.106)", "2.33"],
        ["Bad", r"blocked\textsuperscript{b}", r"blocked\textsuperscript{b}", "--"],
        [r"\multicolumn{4}{l}{\emph{Published, table 1 (CHD, 68 patients), other data}}"],
        ["", "M=6", "", ""],
        ["JCL", "0.5620(0.05)", "--", "--"],
    ]
    assert rows(text, 2)[1][1] == r"\textbf{0.23(0.11)}"  # of distances the smaller one
    assert text.count("Published") == 1
    assert text.count("over folds. Not complete.}") == 4
    assert r"\textsuperscript{a} fold 1 not run yet}" in text
    whole = text_of(one_column({"JCL": [cell(0, [case("p", 0.5)])]}))
    assert "Not complete" not in whole
    assert "other data" not in text_of(replace(pages.some_grid(), store="chd"))


@pytest.mark.parametrize(
    ("name", "typeset"),
    [
        ("50 % & more", r"50 \% \& more"),
        ("a_b^c~d", r"a\_b\textasciicircum{}c\textasciitilde{}d"),
        (r"{x}$\y#", r"\{x\}\$\textbackslash{}y\#"),
        ("a<b>c", r"a\textless{}b\textgreater{}c"),
    ],
)
def test_names_are_escaped(name: str, typeset: str) -> None:
    shown = grid({(name, "M=2"): [cell(0, [case("p", 0.5)])], ("other", "M=2"): [cell(0)]})
    text = text_of(replace(shown, title=name))
    assert f"    {typeset} & 0.5000 " in text
    assert f"\\caption{{{typeset}. Dice" in text
