"""What an image is read from: one file, or a file a slice."""

from dataclasses import dataclass
from pathlib import Path

__all__ = [
    "SUFFIXES",
    "LabelSource",
    "SliceFiles",
    "Source",
    "Structures",
    "files_of",
    "result_suffix",
    "stem",
    "suffix_of",
]

SUFFIXES = (".nii.gz", ".nii", ".nrrd", ".mha", ".mhd", ".png", ".jpg", ".jpeg")
"""File name endings that are taken for images. DICOM files often have none, and are known by their first bytes."""


@dataclass(frozen=True)
class SliceFiles:
    """Files that are the slices of one volume, in order along its normal: a DICOM series, or the labels of one.

    Attributes:
        folder: what messages name.
    """

    folder: Path
    files: tuple[Path, ...]

    def __str__(self) -> str:
        return str(self.folder)


@dataclass(frozen=True)
class Structures:
    """Labels, each by its name: a DICOM-SEG object, an RTSTRUCT, a segmentation of 3D Slicer, or a folder of masks.

    Attributes:
        path: the file, or the folder.
        masks: the files in the folder, one a structure, which is named as its file.
    """

    path: Path
    masks: tuple[Path, ...] = ()

    def __str__(self) -> str:
        return str(self.path)


Source = Path | SliceFiles
"""A file, or a file a slice."""

LabelSource = Source | Structures
"""The same, or a file of named structures."""


def files_of(source: LabelSource) -> tuple[Path, ...]:
    """The file or files of an image."""
    if isinstance(source, Structures):
        return source.masks or (source.path,)
    return source.files if isinstance(source, SliceFiles) else (source,)


def suffix_of(path: Path) -> str:
    """The image suffix of a file's name, in lower case; empty where it has none of them."""
    name = path.name.lower()
    return next((suffix for suffix in SUFFIXES if name.endswith(suffix)), "")


def stem(path: Path) -> str:
    """A file's name without its image suffix."""
    return path.name[: len(path.name) - len(suffix_of(path))]


def result_suffix(source: Source) -> str:
    """Suffix of the file that a segmentation of this image is written to.

    It is the image's own, but for JPEG, which would change label values, and for a stack.
    """
    if isinstance(source, SliceFiles):
        return ".nii.gz"
    return ".png" if suffix_of(source) in (".jpg", ".jpeg") else suffix_of(source)
