"""MetaImage files: every line is a key and a value, and voxels in another file are in one beside the header."""

import math
import os
import re
import stat
from pathlib import Path

from jcl.data.imagefile.claims import check_deflate, check_length, check_sizes, check_spacing
from jcl.data.imagefile.textheader import TextHeader, numbers, put, refuse_line, text_lines
from jcl.data.notes import note
from jcl.errors import DataError
from jcl.files import read_error

__all__ = ["check_meta", "voxel_file"]

ELEMENT_BYTES = {
    "MET_CHAR": 1, "MET_UCHAR": 1, "MET_SHORT": 2, "MET_USHORT": 2, "MET_INT": 4, "MET_UINT": 4, "MET_LONG": 4,
    "MET_ULONG": 4, "MET_LONG_LONG": 8, "MET_ULONG_LONG": 8, "MET_FLOAT": 4, "MET_DOUBLE": 8,
}  # fmt: skip

SYNONYMS = (
    ("Offset", "Position", "Origin"), ("TransformMatrix", "Rotation", "Orientation"),
    ("BinaryDataByteOrderMSB", "ElementByteOrderMSB"),
)  # fmt: skip
"""Words of MetaImage that mean the same, so that a header may say it twice."""

USED = (
    "NDims", "DimSize", "ElementType", "ElementDataFile", "ElementNumberOfChannels", "ElementSpacing", "ElementSize",
    "CompressedData", "CompressedDataSize", "BinaryData", "HeaderSize", "ObjectType",
)  # fmt: skip
"""Words that decide what is read; readers want their capitals."""

LAST = "ElementDataFile"
MOST_DIMENSIONS = 10
LONGEST_KEY = 200
"""Letters; the reader cuts longer ones."""

ANNEX = (".git", "annex", "objects")
"""Where git-annex keeps the files to which it leaves links."""


def check_meta(path: Path) -> None:
    """Check header, length and, of packed voxels, the checksum.

    Raises:
        DataError: see `readable`.
    """
    fields, start = _read(path)
    data = _voxels_of(path, fields)
    if data != path:
        start = 0
    stored, sizes = data.stat().st_size, numbers(path, fields, "DimSize")
    width = ELEMENT_BYTES.get(fields.get("ElementType", ""))
    if width is None:
        raise DataError(
            f"{path}: its voxels are of the type {fields.get('ElementType', '')!r:.40}; save it with numbers"
        )
    channels = numbers(path, fields, "ElementNumberOfChannels") or (1.0,)
    if len(sizes) > MOST_DIMENSIONS or numbers(path, fields, "NDims") not in ((), (float(len(sizes)),)):
        raise DataError(f"{path}: its header has {len(sizes)} sizes, and another number of dimensions; correct it")
    if fields.get("ObjectType", "Image") != "Image" or len(channels) != 1:
        raise DataError(f"{path}: its header is not that of an image; save it again")
    check_sizes(path, (*sizes, *channels) if sizes else (), stored, width)
    for words in SYNONYMS:
        said: dict[str, str] = {}
        for word, value in fields.items():
            if word in words:
                put(path, said, words[0], value)
    _check_spacing(path, fields)
    skipped = numbers(path, fields, "HeaderSize") or (0.0,)
    if skipped not in ((0.0,), (-1.0,)) and (data == path or not 0 <= skipped[0] <= stored):
        raise DataError(f"{path}: its header says that {skipped[0]:g} bytes are to be skipped; save it again")
    packed = numbers(path, fields, "CompressedDataSize") or (0.0,)
    if not 0 <= packed[0] <= stored:
        raise DataError(f"{path}: truncated; its header claims {packed[0]:g} packed bytes, it has {stored}")
    start += int(max(0.0, skipped[0]))
    values = int(math.prod((*sizes, *channels)))
    if _is_true(path, fields, "CompressedData"):
        check_deflate(path, data, start, 15)
    elif "BinaryData" not in fields or _is_true(path, fields, "BinaryData"):
        check_length(path, start + values * width, stored)
    else:
        check_length(path, start + 2 * values - 1, stored)


def voxel_file(path: Path) -> Path:
    """The file that holds the voxels of a MetaImage file: itself, or the one beside it that its header names.

    Raises:
        DataError: the header cannot be read, or names another place.
    """
    try:
        return _voxels_of(path, _read(path)[0])
    except OSError as error:
        raise read_error(path, error) from error


def _read(path: Path) -> tuple[TextHeader, int]:
    """What each key says, and where (bytes) the header ends: after the one that says where the voxels are."""
    fields: dict[str, str] = {}
    known = {word.lower(): word for word in (*USED, *(word for words in SYNONYMS for word in words))}
    for line, after in text_lines(path):
        match = re.match(r"\s*([^\s=:][^=:]*?)\s*=(.*)", line)
        if not match:
            if line.strip():
                refuse_line(path, line)
            continue
        key, value = match[1], match[2]
        if len(key) > LONGEST_KEY or known.get(key.lower(), key) != key:
            refuse_line(path, line)
        put(path, fields, key, value)
        if key == LAST:
            return fields, after
    return fields, 0  # not reached: lines without an end are refused


def _voxels_of(path: Path, fields: TextHeader) -> Path:
    name = os.fsdecode(fields[LAST].encode("latin-1"))  # the bytes that the reader takes
    if name.lower() == "local":
        return path
    if Path(name).name != name or "\\" in name or "%" in name or name.startswith("LIST"):
        raise DataError(f"{path}: its voxels are said to be in {name!r:.80}; a single file beside it is needed")
    data = path.parent / name
    try:
        found = data.stat()
    except FileNotFoundError as error:
        raise DataError(f"{data}: missing; it holds the voxels of {path.name}") from error
    if not stat.S_ISREG(found.st_mode):
        raise DataError(f"{data}: is no regular file; it should hold the voxels of {path.name}")
    real, folder = data.resolve(), path.parent.resolve()
    annexes = [folder.joinpath(*ANNEX), *(above.joinpath(*ANNEX) for above in folder.parents)]
    if not any(real.is_relative_to(inside) for inside in (folder, *annexes)):
        raise DataError(f"{data}: is a link to a file outside of its folder, with the voxels of {path.name}; copy it")
    return data


def _check_spacing(path: Path, fields: TextHeader) -> None:
    stated = [numbers(path, fields, key) for key in ("ElementSpacing", "ElementSize")]
    for spacing in stated:
        if spacing:
            check_spacing(path, spacing)
    if all(stated) and stated[0] != stated[1]:
        shown = [" x ".join(f"{value:.4g}" for value in spacing) for spacing in stated]
        note(f"{path}: its ElementSize is {shown[1]} mm, its ElementSpacing {shown[0]} mm, which was taken")


def _is_true(path: Path, fields: TextHeader, key: str) -> bool:
    said = fields.get(key, "False").lower()
    if said not in ("true", "t", "1", "false", "f", "0"):
        raise DataError(f"{path}: its header says {key} = {said!r:.40}; it has to be True or False")
    return said in ("true", "t", "1")
