"""What a file holds by its first bytes, for the message where that is not what its name says."""

import re
from pathlib import Path

from jcl.errors import DataError
from jcl.files import FETCH, check_regular, read_error

__all__ = ["check_contents", "describe"]

START = 1024

GZIP = b"\x1f\x8b"
NIFTI_SIZES = (b"\x5c\x01\x00\x00", b"\x00\x00\x01\x5c", b"\x1c\x02\x00\x00", b"\x00\x00\x02\x1c")
PNG = b"\x89PNG\r\n\x1a\n"
JPEG = b"\xff\xd8\xff"

KINDS: tuple[tuple[bytes, str, str], ...] = (
    (PNG, "a PNG picture", "rename it to .png"),
    (JPEG, "a JPEG picture", "rename it to .jpg"),
    (b"NRRD", "a NRRD file", "rename it to .nrrd"),
    (b"ObjectType", "a MetaImage file", "rename it to .mha"),
    (b"NDims", "a MetaImage file", "rename it to .mha"),
    (b"\x89HDF", "an HDF5 file", "convert it to .nii.gz"),
    (b"II*\0", "a TIFF picture", "convert it to .png or .nii.gz"),
    (b"MM\0*", "a TIFF picture", "convert it to .png or .nii.gz"),
    (b"GIF8", "a GIF picture", "convert it to .png"),
    (b"BM", "a BMP picture", "convert it to .png"),
    (b"RIFF", "a WebP picture", "convert it to .png"),
    (b"\x93NUMPY", "a NumPy array", "convert it to .nii.gz"),
    (b"PK\x03\x04", "a ZIP archive", "unpack it"),
    (b"7z\xbc\xaf", "a 7-Zip archive", "unpack it"),
    (b"Rar!", "a RAR archive", "unpack it"),
    (b"BZh", "bzip2-compressed", "unpack it"),
    (b"\xfd7zXZ", "xz-compressed", "unpack it"),
    (b"\x28\xb5\x2f\xfd", "zstd-compressed", "unpack it"),
    (b"%PDF", "a PDF document", "leave it out"),
    (b"version https://git-lfs", "a pointer of Git LFS to a file that is not here", FETCH),
)
"""First bytes, what begins with them, and what to do where that has another name."""

WANTED = {
    ".nii": "a NIfTI file", ".nrrd": "a NRRD file", ".mha": "a MetaImage file", ".mhd": "a MetaImage file",
    ".png": "a PNG picture", ".jpg": "a JPEG picture", ".jpeg": "a JPEG picture",
}  # fmt: skip
"""What a file has to be by its name; a packed NIfTI file is `gzip-compressed`."""


def describe(start: bytes) -> tuple[str, str] | None:
    """What a file is by its first bytes, and what to do where it should be something else; None if that is unknown."""
    for mark, kind, repair in KINDS:
        if start.startswith(mark):
            return kind, repair
    if start.startswith(GZIP):
        return "gzip-compressed", "rename it to .nii.gz, or unpack it"
    if start[:4] in NIFTI_SIZES:
        return "a NIfTI file", "rename it to .nii"
    if start[128:132] == b"DICM":
        return "a DICOM file", "remove the ending of its name"
    if start[257:262] == b"ustar":
        return "a tar archive", "unpack it"
    if re.match(rb"\s*(<!doctype html|<html|<\?xml)", start, re.IGNORECASE):
        return "a web page, as of a download that failed", "download it again"
    if re.search(rb"/annex/objects/", start[:300]) and len(start) < START:
        return "a pointer of git-annex to a file that is not here", FETCH
    return None


def check_contents(path: Path, suffix: str) -> None:
    """Check that a file is there, is not empty, and does not begin as one of another kind than its name says.

    Args:
        path: the file.
        suffix: of its name, as `.nii.gz`.

    Raises:
        DataError: it is not so.
    """
    check_regular(path)
    try:
        with path.open("rb") as file:
            start = file.read(START)
    except OSError as error:
        raise read_error(path, error) from error
    if not start:
        raise DataError(f"{path}: is empty (0 bytes); copy it again from its origin")
    wanted = "gzip-compressed" if suffix == ".nii.gz" else WANTED[suffix]
    found = describe(start)
    if found is None or found[0] == wanted:
        return
    if found[1] == FETCH:
        raise DataError(f"{path}: is {found[0]}; {FETCH}")
    raise DataError(f"{path}: is {found[0]}, though its name ends in {suffix}; {found[1]}")
