"""Which DICOM series are taken, by what their description says."""

from pathlib import Path

import pytest

from jcl.data.dicom.series import DicomSeries
from jcl.data.leftout import LeftOut
from jcl.data.series_choice import choose_series
from jcl.errors import DataError, UsageError

SOURCE = Path("studies")


def series(*descriptions: str) -> list[DicomSeries]:
    return [
        DicomSeries(str(number), f"s{number}", "p", (), "MR", description, None)
        for number, description in enumerate(descriptions)
    ]


def test_an_expression_is_found_anywhere_whatever_its_capitals() -> None:
    left_out = LeftOut()
    taken = choose_series(SOURCE, series("T1 ax", "t2_tse_tra", "AX T2 FS", "DWI"), r"\bt2|T2_", left_out)
    assert [each.description for each in taken] == ["t2_tse_tra", "AX T2 FS"]
    assert left_out.lines(SOURCE) == ["left out: 2 DICOM series with another description"]


def test_different_descriptions_are_said_where_none_was_chosen() -> None:
    left_out = LeftOut()
    some = series("T1", "T2", "T1", *"abcdef", "")
    shown = "T1 (2), T2 (1), a (1), b (1), c (1), d (1) and 3 more"
    assert choose_series(SOURCE, some, None, left_out) == tuple(some)
    assert left_out.lines(SOURCE) == [f"DICOM series by description: {shown}; --series takes some of them"]
    alike = LeftOut()
    choose_series(SOURCE, series("T1", "T1"), None, alike)
    assert not alike.lines(SOURCE)


def test_no_series_of_the_description_names_those_that_are_there() -> None:
    with pytest.raises(DataError, match=r"'flair' in its description; there are T1 \(2\), none \(1\)$"):
        choose_series(SOURCE, series("T1", "T1", ""), "flair", LeftOut())
    with pytest.raises(DataError, match="no DICOM series, of which --series T1 could take some; leave it out"):
        choose_series(SOURCE, [], "T1", LeftOut())
    with pytest.raises(UsageError, match=r"series: '\(' is not a regular expression"):
        choose_series(SOURCE, series("T1"), "(", LeftOut())
