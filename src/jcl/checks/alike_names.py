"""Cases whose names begin alike: scans of one patient, for all that anybody can tell by their files."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from jcl.data.manifest import CaseRecord

__all__ = ["on_alike_names"]

MOST = 12
"""Cases of a patient: more that begin alike are a site's, or a scanner's."""


def on_alike_names(preparation: Mapping[str, Any], cases: Sequence[CaseRecord]) -> str | None:
    """A line on cases that differ in what follows the last `_` of their names alone, if half of them and more do so.

    Only where each case is its own patient, and nobody has said which part of a name is the patient.
    """
    if preparation.get("patient") is not None or any(record.patient != record.case for record in cases):
        return None
    groups: defaultdict[str, list[str]] = defaultdict(list)
    for record in cases:
        groups[record.case.rpartition("_")[0]].append(record.case)
    several = [
        names for start, names in groups.items() if 1 < len(names) <= MOST and any(letter.isdigit() for letter in start)
    ]
    if len(groups) < 2 or 2 * sum(map(len, several)) < len(cases):
        return None
    one, other = several[0][:2]
    more = f", as do those of {len(several) - 1} more" if len(several) > 1 else ""
    return (
        f"{one} and {other} begin alike{more}: if they are one patient's, prepare with --patient '(.+)_', or one may "
        "be trained on and the other tested"
    )
