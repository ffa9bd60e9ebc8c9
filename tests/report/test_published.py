"""Whether published figures are of our data."""

from dataclasses import replace

import pytest

from grids import cell, one_column
from jcl.benchmark.paper import paper_caption
from jcl.report.published import of_other_data, published_name

TABLE = one_column({"JCL": [cell(0)]})


@pytest.mark.parametrize(
    ("store", "table", "column", "other"),
    [
        ("chd", "table1_chd", "M=6", False),
        ("la2018", "table1_chd", "M=6", True),
        ("mmwhs_ct", "table2_mmwhs", "M=6", False),
        ("chd-64", "table3_components", "CHD M=6", False),  # its caption names no set, its columns do
        ("mscmr", "table3_components", "CHD M=6", True),
        ("hvsmr", "table4_hvsmr", "M=2", False),
    ],
)
def test_by_the_names(store: str, table: str, column: str, other: bool):
    grid = replace(TABLE, store=store, paper_caption=paper_caption(table), paper_columns={"M=2": column})
    assert grid.paper_caption
    assert of_other_data(grid) == other


def test_names():
    assert published_name(replace(TABLE, paper_title="table10_few_patients", paper_caption="X")) == "table 10 (X)"
    assert published_name(replace(TABLE, paper_title="journal_chaos")) == "table journal_chaos"
