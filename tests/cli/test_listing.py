"""What can be looked up: methods, data sets, splits."""

import re

import pytest

from jcl.cli.listing import show_datasets, show_splits
from jcl.data.datasets import spec_names
from jcl.data.splits import official_splits
from jcl.errors import UsageError


@pytest.fixture(autouse=True)
def wide(monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")


def test_all_data_sets_are_listed_with_what_they_are(capsys):
    show_datasets()
    lines = capsys.readouterr().out.splitlines()
    for name in spec_names():
        assert any(re.match(rf"{name}\s+\S", line) for line in lines), name


def test_a_data_set_says_where_to_get_it_and_how_it_is_prepared(capsys):
    show_datasets("chaos")
    said = capsys.readouterr().out
    for words in ("https://chaos", "CC BY-NC-SA", "63 liver", "252 spleen", "1 mm", "256 pixels"):
        assert words in said
    show_datasets("isic2018")
    assert "each slice scaled to it" in capsys.readouterr().out
    with pytest.raises(UsageError, match="no data set is named 'isic'"):
        show_datasets("isic")


def test_all_splits_are_listed_and_one_is_shown(capsys):
    show_splits()
    said = capsys.readouterr().out
    assert all(name in said for name in official_splits())
    show_splits("hvsmr_2")
    assert re.search(r"train\s+pat8, pat0", capsys.readouterr().out)
    with pytest.raises(UsageError, match="no split 'hvsmr_3'; there are: acdc_8, acdc_20"):
        show_splits("hvsmr_3")
