"""NRRD files: every line of the header is known, and the voxels are in the same file, as many as it claims."""

import math
import re
from pathlib import Path

from jcl.data.imagefile.claims import check_deflate, check_length, check_sizes, check_spacing
from jcl.data.imagefile.textheader import TextHeader, numbers, put, refuse_line, text_lines
from jcl.errors import DataError

__all__ = ["check_nrrd", "nrrd_keys"]

FIELDS = frozenset(
    (
        "content", "number", "type", "blocksize", "dimension", "space", "spacedimension", "sizes", "spacings",
        "thicknesses", "axismins", "axismaxs", "spacedirections", "centers", "centerings", "kinds", "labels", "units",
        "min", "max", "oldmin", "oldmax", "endian", "encoding", "lineskip", "byteskip", "sampleunits", "spaceunits",
        "spaceorigin", "measurementframe", "datafile",
    )
)  # fmt: skip
"""Their names in lower case without spaces, for some have both forms."""

TYPE_BYTES = {
    **dict.fromkeys(("signed char", "int8", "int8_t", "uchar", "unsigned char", "uint8", "uint8_t"), 1),
    **dict.fromkeys(("short", "short int", "signed short", "signed short int", "int16", "int16_t"), 2),
    **dict.fromkeys(("ushort", "unsigned short", "unsigned short int", "uint16", "uint16_t"), 2),
    **dict.fromkeys(("int", "signed int", "int32", "int32_t", "uint", "unsigned int", "uint32", "uint32_t"), 4),
    **dict.fromkeys(("longlong", "long long", "long long int", "signed long long", "signed long long int"), 8),
    **dict.fromkeys(("int64", "int64_t", "ulonglong", "unsigned long long", "unsigned long long int"), 8),
    **dict.fromkeys(("uint64", "uint64_t", "double"), 8),
    "float": 4,
}


def check_nrrd(path: Path) -> None:
    """Check header, length and, of packed voxels, the checksum.

    Raises:
        DataError: see `readable`.
    """
    fields, start = _read(path)
    if "datafile" in fields:
        raise DataError(f"{path}: its voxels are in another file, which is not supported; convert it to one file")
    if any(numbers(path, fields, name) not in ((), (0.0,)) for name in ("lineskip", "byteskip")):
        raise DataError(f"{path}: its header says that some of its bytes are to be skipped; save it again")
    width = TYPE_BYTES.get(fields.get("type", "").lower())
    if width is None:
        raise DataError(f"{path}: its voxels are of the type {fields.get('type', '')!r:.40}; save it with numbers")
    stored, sizes = path.stat().st_size, numbers(path, fields, "sizes")
    check_sizes(path, sizes, stored, width)
    if numbers(path, fields, "dimension") != (float(len(sizes)),):
        raise DataError(f"{path}: its header has {len(sizes)} sizes, and another dimension; correct it")
    _check_place(path, fields)
    voxels = int(math.prod(sizes))
    match fields.get("encoding", "").lower():
        case "raw":
            check_length(path, start + voxels * width, stored)
        case "gzip" | "gz":
            check_deflate(path, path, start, 31)
        case "text" | "txt" | "ascii":
            check_length(path, start + 2 * voxels - 1, stored)
        case "hex":
            check_length(path, start + 2 * voxels * width, stored)
        case other:
            raise DataError(f"{path}: its voxels are packed as {other!r:.40}, which is not supported; save it as gzip")


def nrrd_keys(path: Path) -> dict[str, str]:
    """The keys that a header has besides its fields, and their values: what other programs have noted there.

    Raises:
        DataError: the header cannot be read, or has a key twice.
    """
    keys: dict[str, str] = {}
    for line, _ in text_lines(path):
        if not line:
            break
        if match := re.match(r"([^:#]+):=(.*)", line):
            put(path, keys, match[1], match[2].encode("latin-1").decode("utf-8", "replace"))
    return keys


def _read(path: Path) -> tuple[TextHeader, int]:
    """What each field says, and where (bytes) the header ends."""
    fields: dict[str, str] = {}
    first = True
    for line, after in text_lines(path):
        if first:
            if not re.fullmatch(r"NRRD000[1-5]", line):
                raise DataError(f"{path}: not a NRRD file")
            first = False
        elif not line:
            return fields, after
        elif line.startswith("#") or re.match(r"[^:]+:=", line):
            continue  # a comment, or a key with a value
        else:
            name, colon, value = line.partition(": ")
            plain = name.replace(" ", "").lower()
            if not colon or plain not in FIELDS:
                refuse_line(path, line)
            put(path, fields, plain, value)
    return fields, 0  # not reached: lines without an end are refused


def _check_place(path: Path, fields: TextHeader) -> None:
    spacing, directions = numbers(path, fields, "spacings"), fields.get("spacedirections", "")
    if spacing:
        known = tuple(value for value in spacing if not math.isnan(value))
        check_spacing(path, known if len(known) >= 3 else spacing)  # an axis of channels has none
    if spacing and directions:
        raise DataError(f"{path}: its header has both spacings and space directions; remove one of them")
    if directions and directions.count("(") < directions.split(")")[0].count(",") + 1:
        raise DataError(f"{path}: a picture in space of three dimensions; save it as a volume of one slice")
