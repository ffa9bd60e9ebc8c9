"""Tables for LaTeX, line by line."""

import re
from dataclasses import replace

import pytest

from grids import benchmark, case, cell, grid
from jcl.benchmark.paper import PaperCell
from jcl.report.latex import latex_tables


def cells(*values: float | None, status: str | None = None):
    """A fold a value; None is one that is missing."""
    return [cell(f, [] if v is None else [case(f"p{f}", v)], status=None if v is None else status)
            for f, v in enumerate(values)]  # fmt: skip


TABLE = grid(
    {
        ("Random", "M=2"): cells(0.50, 0.54),
        ("Random", "all"): cells(0.70, 0.80),
        ("JCL_x & y", "M=2"): cells(0.60, 0.524),
        ("JCL_x & y", "all"): cells(0.9, None),
        ("Bad", "M=2"): cells(0.40, 0.40, status="other code"),
        ("Bad", "all"): cells(None, None),
    }
)


def rows(text: str, number: int = 0) -> list[list[str]]:
    """Cells of all lines of the table of that number."""
    body = re.findall(r"\\toprule\n(.*?)\\bottomrule", text, re.DOTALL)[number]
    lines = [line.strip().removesuffix(r" \\") for line in body.splitlines() if line.strip()]
    return [re.split(r"(?<!\\) ?& ?", line) for line in lines if line != r"\midrule"]


def test_cells_are_printed_as_the_paper_does():
    assert rows(latex_tables(benchmark(TABLE))) == [
        ["Method", "M=2", "all"],
        ["Random", "0.5200(0.03)", "0.7500(0.07)"],  # no other row has both folds of "all"
        [r"JCL\_x \& y", r"\textbf{0.5620(0.05)}", "0.9000$^{1/2}$"],
        ["Bad", r"0.4000(0.00)$^{\ddagger}$", "--"],
    ]


def test_a_table_for_each_metric_with_the_smaller_distance_bold():
    text = latex_tables(benchmark(TABLE))
    assert re.findall(r"\\label\{(.*)\}", text) == [f"tab:t1-{m}" for m in ("dice", "jaccard", "hd95", "asd")]
    assert rows(text, 2)[1:3] == [
        ["Random", "0.52(0.03)", "0.75(0.07)"],
        [r"JCL\_x \& y", "0.56(0.05)", "0.90$^{1/2}$"],
    ]
    assert rows(text, 2)[3][1] == r"\textbf{0.40(0.00)}$^{\ddagger}$"


def test_the_papers_rows_stand_below_and_are_marked():
    paper = {("Random", "M=2"): PaperCell(0.5198, 0.06)}
    table = replace(TABLE, paper=paper, paper_caption="CHD, 68 patients", paper_columns={"M=2": "M=6"},
                    paper_title="table1_chd")  # fmt: skip
    text = latex_tables(benchmark(table))
    assert rows(text)[4:] == [
        [r"\multicolumn{3}{l}{\emph{Published, table 1 (CHD, 68 patients), other data}}"],
        ["", "M=6", ""],
        ["Random", "0.5198(0.06)", "--"],
    ]
    assert "Published" not in text[text.index("tab:t1-jaccard") :]
    own = latex_tables(benchmark(replace(table, store="chd")))
    assert "other data" not in own


def test_captions_say_what_is_not_complete():
    text = latex_tables(benchmark(TABLE, title="A\n100 % title"))
    assert text.count("over folds. Not complete.}") == 4
    assert "\n% A 100 % title\n" in text  # one line, so that none of it is typeset
    whole = grid({("JCL", "M=2"): cells(0.5, 0.6)})
    assert "Not complete" not in latex_tables(benchmark(whole))


@pytest.mark.parametrize(
    ("name", "typeset"),
    [
        ("50 % & more", r"50 \% \& more"),
        ("a_b^c~d", r"a\_b\textasciicircum{}c\textasciitilde{}d"),
        (r"{x}$\y#", r"\{x\}\$\textbackslash{}y\#"),
        ("a<b>c", r"a\textless{}b\textgreater{}c"),
    ],
)
def test_names_are_escaped(name: str, typeset: str):
    table = grid({(name, "M=2"): cells(0.5), ("other", "M=2"): cells(None)})
    assert f"    {typeset} & 0.5000 " in latex_tables(benchmark(table))
    assert f"\\caption{{{typeset}. Dice" in latex_tables(benchmark(replace(table, title=name)))
