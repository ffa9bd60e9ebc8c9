"""Files that were seen and are not used: each is counted by its kind, and those that look like scans are named."""

from collections.abc import Sequence
from pathlib import Path

from jcl.data.sources import stem
from jcl.errors import DataError

__all__ = ["LeftOut", "unreadable"]

TO_NIFTI = "convert it to .nii.gz"
ANALYZE = ("Analyze or two-file NIfTI", TO_NIFTI)
ARCHIVE = ("an archive", "unpack it")
ARRAY = ("an array without a geometry", "convert it to .nii.gz")
TO_PNG = "convert it to .png"
PARTIAL = ("a download that was not completed", "download it again")

UNREADABLE: dict[str, tuple[str, str]] = {
    ".nii.bz2": ("bzip2-compressed", "unpack it, or pack it as .nii.gz"),
    ".nii.xz": ("xz-compressed", "unpack it, or pack it as .nii.gz"),
    ".nii.zst": ("zstd-compressed", "unpack it, or pack it as .nii.gz"),
    ".nii.zip": ARCHIVE,
    ".nii.gzip": ("gzip-compressed under an unknown name", "rename it to .nii.gz"),
    ".img.gz": ANALYZE,
    ".hdr.gz": ANALYZE,
    ".img": ANALYZE,
    ".hdr": ANALYZE,
    ".nhdr": ("NRRD in two files", "convert it to .nrrd"),
    ".seg.nrrd.gz": ("gzip-compressed NRRD", "unpack it"),
    ".nrrd.gz": ("gzip-compressed NRRD", "unpack it"),
    ".mha.gz": ("gzip-compressed MetaImage", "unpack it"),
    ".mgz": ("FreeSurfer", "convert it to .nii.gz, as with mri_convert"),
    ".mgh": ("FreeSurfer", "convert it to .nii.gz, as with mri_convert"),
    ".mnc": ("MINC", TO_NIFTI),
    ".par": ("Philips PAR/REC", "convert it to .nii.gz, as with dcm2niix"),
    ".rec": ("Philips PAR/REC", "convert it to .nii.gz, as with dcm2niix"),
    ".gipl": ("GIPL", TO_NIFTI),
    ".vtk": ("VTK", TO_NIFTI),
    ".vti": ("VTK", TO_NIFTI),
    ".nd2": ("a microscope's format", TO_NIFTI),
    ".czi": ("a microscope's format", TO_NIFTI),
    ".svs": ("a slide scanner's format", TO_PNG),
    ".tif": ("TIFF", "convert it to .png or .nii.gz"),
    ".tiff": ("TIFF", "convert it to .png or .nii.gz"),
    ".bmp": ("BMP", TO_PNG),
    ".gif": ("GIF", TO_PNG),
    ".webp": ("WebP", TO_PNG),
    ".ppm": ("PPM", TO_PNG),
    ".pgm": ("PGM", TO_PNG),
    ".jp2": ("JPEG 2000", TO_PNG),
    ".jfif": ("JPEG under another name", "rename it to .jpg"),
    ".npy": ARRAY,
    ".npz": ARRAY,
    ".b2nd": ARRAY,
    ".h5": ARRAY,
    ".hdf5": ARRAY,
    ".mat": ARRAY,
    ".pt": ARRAY,
    ".raw": ARRAY,
    ".zip": ARCHIVE,
    ".tar": ARCHIVE,
    ".tar.gz": ARCHIVE,
    ".tgz": ARCHIVE,
    ".7z": ARCHIVE,
    ".rar": ARCHIVE,
    ".part": PARTIAL,
    ".crdownload": PARTIAL,
    ".download": PARTIAL,
    ".partial": PARTIAL,
    ".dcm": ("no DICOM, though it is named so", "copy it again from its origin"),
    ".ima": ("no DICOM, though it is named so", "copy it again from its origin"),
}
"""Endings of files that may hold scans or labels but are not read: what they are, and what to do."""

NAMED = 3
"""Files of a kind that are named; the others are counted."""


def unreadable(path: Path) -> tuple[str, str] | None:
    """What a file that may be a scan but cannot be read is by its name, and what to do; None for any other."""
    return UNREADABLE.get(_ending(path))


def _ending(path: Path) -> str:
    """The longest of the known endings that a file's name has."""
    name = path.name.lower()
    return max((ending for ending in UNREADABLE if name.endswith(ending)), key=len, default="")


class LeftOut:
    """The files below a folder that are not used, and why; filled by whatever walks the folder.

    Attributes:
        named: reason -> the files that are not used for it.
        counted: kind -> how many files of it are not used.
        remarks: lines on files that are used as their folders do not say.
    """

    def __init__(self) -> None:
        self.named: dict[str, list[Path]] = {}
        self.counted: dict[str, int] = {}
        self.remarks: list[str] = []

    def __len__(self) -> int:
        return sum(self.counted.values()) + sum(map(len, self.named.values()))

    def count(self, kind: str, number: int = 1) -> None:
        """Count files of a kind that nobody misses, by a plural: "hidden files"."""
        if number:
            self.counted[kind] = self.counted.get(kind, 0) + number

    def name(self, reason: str, path: Path) -> None:
        """Note a file that somebody may miss, with the reason and what to do."""
        self.named.setdefault(reason, []).append(path)

    def used(self, how: str, paths: Sequence[Path], source: Path) -> None:
        """Remark on files that are used in a way which not everybody expects."""
        self.remarks.append(f"{how}: {_some(paths, source)}")

    def unused(self, path: Path) -> None:
        """Note a file that is no scan by its name or its first bytes."""
        if path.suffix.lower() in (".raw", ".zraw") and path.with_suffix(".mhd").exists():
            return  # the voxels of that file, so it is used
        if found := unreadable(path):
            self.name(f"not readable: {found[0]}; {found[1]}", path)
        else:
            self.count(f"{path.suffix.lower()} files" if path.suffix else "files of an unknown kind")

    def lines(self, source: Path) -> list[str]:
        """What is said of them, a line each: those that may be missed by name, the others by number."""
        lines = [f"left out: {_some(paths, source)} ({reason})" for reason, paths in sorted(self.named.items())]
        if self.counted:
            shown = ", ".join(f"{number} {_singular(kind, number)}" for kind, number in sorted(self.counted.items()))
            lines.append(f"left out: {shown}")
        return [*self.remarks, *lines]

    def no_image(self, label: Path, source: Path) -> DataError:
        """The error of a label that has no image; names a file of the label's name that was left out."""
        name = stem(label).casefold()
        for reason, paths in sorted(self.named.items()):
            same = [path for path in paths if path.name[: -len(_ending(path)) or None].casefold() == name]
            if same:
                return DataError(f"{label}: the image of this label was left out: {_some(same, source)} ({reason})")
        return DataError(f"{label}: this label has no image; add the image or move the label away")

    def kinds(self) -> str:
        """What kinds of files there are, of one each."""
        return ", ".join(_singular(kind, 1) for kind in sorted(self.counted))

    def summary(self, source: Path) -> str:
        """The same as the end of a message: nothing where nothing was left out."""
        return f" ({'; '.join(self.lines(source))})" if len(self) else ""


def _some(paths: Sequence[Path], source: Path) -> str:
    shown = [path.relative_to(source).as_posix() if path.is_relative_to(source) else str(path) for path in paths]
    more = f" and {len(shown) - NAMED} more" if len(shown) > NAMED else ""
    return ", ".join(shown[:NAMED]) + more


def _singular(kind: str, number: int) -> str:
    if number != 1:
        return kind
    return kind.replace("files", "file").replace("folders", "folder").replace("labels", "label")
