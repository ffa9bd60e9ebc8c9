"""The published figures, as they are printed."""

import pytest

from jcl.benchmark.paper import PaperCell, paper_cell, paper_columns, paper_rows, paper_tables


def test_every_table_with_scores_is_there_and_that_of_costs_is_not():
    assert {name.partition("_")[0] for name in paper_tables()} == {*(f"table{k}" for k in range(1, 11)), "journal"}
    assert len(paper_tables()) == 23
    assert not any("efficiency" in name for name in paper_tables())


@pytest.mark.parametrize(
    ("table", "row", "column", "mean", "deviation"),
    [
        ("table1_chd", "JCL", "M=6", 0.5620, 0.05),
        ("table1_chd", "SwAV", "M=51", 0.7721, 0.03),
        ("table2_mmwhs", "Random", "M=6", 0.8224, 0.06),
        ("table10_few_patients", "JCL", "M=2", 0.5004, 0.21),
    ],
)  # fmt: skip
def test_figures_of_the_paper(table, row, column, mean, deviation):
    assert paper_cell(table, row, column) == PaperCell(mean, deviation)


def test_columns_of_the_paper_can_be_rows_of_ours():
    """Table 6: networks x (JCL, Random)."""
    assert paper_cell("table6_backbones", {"row": "AttUNet", "column": "Random"}, "JCL") == PaperCell(0.5493, 0.06)
    assert paper_cell("table6_backbones", {"row": "AttUNet"}, "JCL") == PaperCell(0.5772, 0.04)


def test_percents_of_the_journal_are_shares_and_its_distances_stay():
    found = {
        metric: paper_cell("journal_hippocampus", "JCL", "25%", metric) for metric in ("dice", "jaccard", "hd95", "asd")
    }
    assert found == {
        "dice": PaperCell(0.8413), "jaccard": PaperCell(0.7261), "hd95": PaperCell(0.99), "asd": PaperCell(0.32),
    }  # fmt: skip
    assert paper_cell("journal_chaos", "Random", "100%") == PaperCell(0.8865)


@pytest.mark.parametrize(
    ("table", "row", "column", "metric"),
    [
        (None, "JCL", "M=6", "dice"),
        ("table11", "JCL", "M=6", "dice"),
        ("table1_chd", "DiRA", "M=6", "dice"),
        ("table1_chd", "JCL", "M=7", "dice"),
        ("table1_chd", "JCL", "M=6", "hd95"),
        ("journal_chaos", "SimCLR", "100%", "dice"),
        ("journal_efficiency_chd_a100", "JCL", "epoch (s)", "dice"),
    ],
)
def test_where_there_is_none(table, row, column, metric):
    assert paper_cell(table, row, column, metric) is None


def test_rows_and_columns_are_in_the_order_of_print():
    assert paper_columns("table1_chd") == ("M=6", "M=10", "M=15", "M=20", "M=51")
    assert paper_rows("table3_components") == ("PCL", "PCL + decoder", "JCL (image-level)", "JCL")
    assert paper_columns("journal_chaos") == ("10%", "25%", "100%")
    assert paper_rows("journal_hippocampus")[-2:] == ("DiRA", "JCL")
