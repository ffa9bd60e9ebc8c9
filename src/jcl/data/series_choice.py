"""Which DICOM series of a folder are taken: a study holds several, told apart by what their description says."""

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from jcl.data.leftout import LeftOut
from jcl.errors import DataError, UsageError

if TYPE_CHECKING:
    from jcl.data.dicom.series import DicomSeries

__all__ = ["choose_series"]

SHOWN = 6
"""Descriptions that a message names, the most frequent first."""


def choose_series(
    source: Path, series: "Sequence[DicomSeries]", wanted: str | None, left_out: LeftOut
) -> "tuple[DicomSeries, ...]":
    """Those series in whose description an expression is found, whatever its capitals; all where none is given.

    Where none is given and the descriptions differ, a remark of `left_out` says which there are: mixed contrasts are
    seldom meant.

    Args:
        source: the folder, for messages.
        series: all that lie there.
        wanted: the regular expression.
        left_out: where series that are not taken are counted.

    Raises:
        UsageError: the expression is none.
        DataError: it is found in no description, or there is no series.
    """
    if wanted is None:
        if len({each.description for each in series}) > 1:
            left_out.remarks.append(f"DICOM series by description: {_counted(series)}; --series takes some of them")
        return tuple(series)
    try:
        expression = re.compile(wanted, re.IGNORECASE)
    except re.error as error:
        raise UsageError(f"series: {wanted!r} is not a regular expression ({error})") from error
    if not series:
        raise DataError(f"{source}: no DICOM series, of which --series {wanted} could take some; leave it out")
    taken = tuple(each for each in series if expression.search(each.description))
    if not taken:
        raise DataError(f"{source}: no DICOM series has {wanted!r} in its description; there are {_counted(series)}")
    left_out.count("DICOM series with another description", len(series) - len(taken))
    return taken


def _counted(series: "Sequence[DicomSeries]") -> str:
    counts = Counter(each.description or "none" for each in series).most_common()
    more = f" and {len(counts) - SHOWN} more" if len(counts) > SHOWN else ""
    return ", ".join(f"{description} ({count})" for description, count in counts[:SHOWN]) + more
