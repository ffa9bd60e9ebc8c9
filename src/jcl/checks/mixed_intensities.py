"""Cases whose intensities mean another thing than those of the others: another modality, or another unit."""

import statistics
from collections import Counter, defaultdict
from collections.abc import Sequence

from jcl.checks.findings import name_some
from jcl.data.intensities import bare_sides
from jcl.data.manifest import CaseRecord

__all__ = ["on_mixed_modalities", "on_mixed_units"]

Found = tuple[str, tuple[str, ...]]


def on_mixed_modalities(cases: Sequence[CaseRecord]) -> Found | None:
    """A line on the cases that are of another modality than most, and their names; None where all are of one."""
    stated = [record for record in cases if record.modality]
    counts = Counter(record.modality for record in stated)
    if len(counts) < 2:
        return None
    (most, _), *_ = counts.most_common(1)
    other: defaultdict[str, list[str]] = defaultdict(list)
    for record in stated:
        if record.modality != most:
            other[record.modality].append(record.case)
    named = "; ".join(f"{modality} in {name_some(found, 5)}" for modality, found in sorted(other.items()))
    line = (
        f"scans are {most} in most cases, but {named}: the same structure has other intensities there; "
        "leave those out or prepare them into a store of their own, unless they are meant"
    )
    return line, tuple(case for found in other.values() for case in found)


def on_mixed_units(cases: Sequence[CaseRecord]) -> Found | None:
    """A line on the cases that have nothing on a side of the window where most have something, and their names.

    So have a CT that is stored without its rescaling to Hounsfield units, and an MR among CT.
    """
    clipped = [record for record in cases if record.outside]
    if not clipped:
        return None
    below, above = (statistics.median(record.outside[side] for record in clipped) for side in (0, 1))
    bare = {record.case: sides for record in clipped if (sides := bare_sides(record.outside, (below, above)))}
    if not bare:
        return None
    sides = " or ".join(side for side in ("below", "above") if any(side in found for found in bare.values()))
    line = (
        f"hardly a value lies {sides} the window in {name_some(list(bare), 5)}, where most cases have "
        f"{100 * below:.0f} % below and {100 * above:.0f} % above: look at the unit of their values"
    )
    return line, tuple(bare)
