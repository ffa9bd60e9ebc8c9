"""Cases whose slices lie in another plane than those of the others: reformats, or localisers, among a set's scans."""

import math
from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from jcl.checks.findings import name_some
from jcl.data.manifest import CaseRecord
from jcl.data.slice_direction import TURNED, angle, middle, plane

__all__ = ["on_mixed_planes"]


def on_mixed_planes(cases: Sequence[CaseRecord]) -> tuple[str, tuple[str, ...]] | None:
    """A line on the cases that are not cut as the others are, and their names; None where all are cut alike.

    Each plane shows an organ in another form, and position in a volume means another thing along another direction.
    """
    stated = [record for record in cases if record.direction]
    if not stated:
        return None
    most = _usual([record.direction for record in stated])
    turned: defaultdict[str, list[str]] = defaultdict(list)
    for record in stated:
        if angle(record.direction, most) > TURNED:
            turned[plane(record.direction)].append(record.case)
    if not turned:
        return None
    others = "; ".join(f"{name} in {name_some(found, 5)}" for name, found in sorted(turned.items()))
    line = (
        f"slices are {plane(most)} in most cases, but {others}: another plane shows structures in another form; "
        "leave those out or prepare them into a store of their own, unless they are meant"
    )
    return line, tuple(case for found in turned.values() for case in found)


def _usual(directions: Sequence[tuple[float, ...]]) -> tuple[float, ...]:
    """The middle of those around the one that most of the others lie near to."""
    lines = np.array(directions)
    near = [np.abs(lines @ each) >= math.cos(math.radians(TURNED)) for each in np.unique(lines, axis=0)]
    return middle(lines[max(near, key=np.count_nonzero)].tolist())
