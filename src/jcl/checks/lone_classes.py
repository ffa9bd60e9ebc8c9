"""Classes that one labelled case alone has: most are slips of a pen, which name a structure that nobody meant."""

from collections import defaultdict
from collections.abc import Sequence

from jcl.checks.findings import name_some
from jcl.data.manifest import CaseRecord

__all__ = ["on_lone_classes"]

FEWEST = 3
"""Labelled cases from which on a class of one of them is worth a word."""


def on_lone_classes(cases: Sequence[CaseRecord], class_names: Sequence[str]) -> dict[str, str]:
    """A line for each case that has classes which no other labelled case has, by its name.

    A label file without names of structures says by its values which there are, so that a voxel of 7 among 1 and 2
    makes a class that is trained, and scored where it is not.
    """
    labelled = [record for record in cases if any(record.voxels)]
    if len(labelled) < FEWEST:
        return {}
    alone: defaultdict[str, list[str]] = defaultdict(list)
    for number, name in enumerate(class_names):
        having = [record for record in labelled if record.voxels[number]]
        if len(having) == 1:
            count = having[0].voxels[number]
            alone[having[0].case].append(f"{name} ({count} voxel{'s' * (count > 1)})")
    return {
        case: f"classes that of {len(labelled)} labelled cases {case} alone has: {name_some(found)}; "
        "correct its label, if they are slips"
        for case, found in alone.items()
    }
