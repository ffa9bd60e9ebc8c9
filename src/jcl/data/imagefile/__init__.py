"""Image files are checked here, byte by byte where needed, before SimpleITK may read them.

Readers accept most single-byte flips and many truncations of compressed files without a word, take
a wrong spacing for 1, and allocate whatever a header claims. So: a .nii.gz is unpacked by us, with
its checksum and length verified; headers of .nrrd and .mha are parsed by rules, line by line, and their
compressed part is run through its checksum; and no file may claim more voxels than its bytes can
hold, or than one scan may take memory for (`budget`).
"""

import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from jcl.data.imagefile.budget import check_memory
from jcl.data.imagefile.claims import MAX_VOXELS, check_square
from jcl.data.imagefile.contents import check_contents
from jcl.data.imagefile.metaimage import check_meta, voxel_file
from jcl.data.imagefile.nifti import (
    NIFTI_BYTES,
    check_nifti,
    plain_voxels,
    read_nifti,
    unpack_nifti,
    without_place,
)
from jcl.data.imagefile.nifti_label import write_nifti_label, write_nifti_map
from jcl.data.imagefile.nifti_place import NiftiPlace, nifti_place
from jcl.data.imagefile.nrrd import check_nrrd
from jcl.data.imagefile.pictures import check_jpeg, check_png, palette_indices
from jcl.data.imagefile.slicer import Segment, has_named_segments, named_segments
from jcl.files import read_error, write_error

__all__ = [
    "MAX_VOXELS",
    "NIFTI_BYTES",
    "NiftiPlace",
    "Segment",
    "check_memory",
    "check_square",
    "has_named_segments",
    "named_segments",
    "nifti_place",
    "palette_indices",
    "plain_voxels",
    "read_nifti",
    "readable",
    "voxel_file",
    "without_place",
    "write_nifti_label",
    "write_nifti_map",
    "written",
]


@contextmanager
def readable(path: Path) -> Generator[Path]:
    """A path at which SimpleITK may read the image; a .nii.gz is unpacked to a temporary file for as long.

    Raises:
        DataError: the file is missing, truncated, corrupt, not what its name says, or its header
            claims more voxels than it holds or a spacing that is not above 0.
        WriteError: there is no room for the temporary file.
    """
    if not path.name.lower().endswith(".nii.gz"):
        _check(path)
        yield path
        return
    with written(unpack_nifti(path)) as unpacked:
        yield unpacked


@contextmanager
def written(content: UInt8[np.ndarray, " n"]) -> Generator[Path]:
    """A temporary .nii with this content.

    Raises:
        WriteError: there is no room for it.
    """
    try:
        folder = tempfile.TemporaryDirectory(prefix="jcl-", ignore_cleanup_errors=True)
    except OSError as error:
        raise write_error(Path(tempfile.gettempdir()), error) from error
    with folder as name:
        path = Path(name, "volume.nii")
        try:
            path.write_bytes(content.data)
        except OSError as error:
            raise write_error(path, error) from error
        yield path


def _check(path: Path) -> None:
    checks = {
        ".nii": check_nifti, ".nrrd": check_nrrd, ".mha": check_meta, ".mhd": check_meta, ".png": check_png,
        ".jpg": check_jpeg, ".jpeg": check_jpeg,
    }  # fmt: skip
    check_contents(path, path.suffix.lower())
    try:
        if check := checks.get(path.suffix.lower()):
            check(path)
    except OSError as error:
        raise read_error(path, error) from error
