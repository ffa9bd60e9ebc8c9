"""What the header of a .nrrd file says of the segments in it, if 3D Slicer wrote it (.seg.nrrd).

The format: https://slicer.readthedocs.io/en/latest/developer_guide/modules/segmentations.html
"""

import re
from dataclasses import dataclass
from pathlib import Path

from jcl.data.imagefile.nrrd import nrrd_keys
from jcl.errors import DataError

__all__ = ["Segment", "has_named_segments", "named_segments"]

KEY = re.compile(r"Segment(\d+)_(Name|LabelValue|Layer)")


@dataclass(frozen=True)
class Segment:
    """A name, and where the file has its voxels: those of a value in a layer. Old files have one layer a segment."""

    name: str
    value: int
    layer: int


def has_named_segments(path: Path) -> bool:
    """Whether the header of a .nrrd file names segments; False where it cannot be read, which reading the file says."""
    try:
        return bool(named_segments(path))
    except (DataError, OSError):
        return False


def named_segments(path: Path) -> dict[int, Segment]:
    """The segments that the header names, by their numbers in it; none where another program wrote the file.

    Raises:
        DataError: the header cannot be read, or the value of a segment in it is no number.
    """
    told: dict[int, dict[str, str]] = {}
    for key, value in nrrd_keys(path).items():
        if match := KEY.fullmatch(key):
            told.setdefault(int(match[1]), {})[match[2]] = value
    found: dict[int, Segment] = {}
    for number, each in sorted(told.items()):
        if "Name" not in each:
            continue
        numbers = each.get("LabelValue", "1"), each.get("Layer", str(number))
        if not all(re.fullmatch(r"\d{1,9}", text) for text in numbers):
            raise DataError(f"{path}: its header has {numbers} as value and layer of {each['Name']!r:.60}; correct it")
        found[number] = Segment(each["Name"], int(numbers[0]), int(numbers[1]))
    return found
