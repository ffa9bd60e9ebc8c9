"""A segmentation as a DICOM-SEG object that points at the series it was made from."""

import hashlib
import io
import os
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Integer
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid

from jcl import __version__
from jcl.data.dicom.file import open_dicom
from jcl.data.dicom.header import read_header
from jcl.data.dicom.planes import text
from jcl.data.dicom.stack import Stack, sort_slices
from jcl.errors import DataError, UsageError
from jcl.files import write_error

__all__ = ["plain_name", "save_dataset", "series_number", "source_header", "volume_of_labels", "write_segmentation"]

SCHEME = "99JCL"
"""Of the codes of segments: class names are free words, which no public scheme knows."""

EXPECTED = (
    "PatientID", "PatientName", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "StudyID",
    "AccessionNumber", "ReferringPhysicianName",
)  # fmt: skip
"""Elements that have to be there, and may be empty; anonymising often removes them."""


def write_segmentation(
    path: Path,
    labels: Integer[np.ndarray, "z y x"],
    source_files: Sequence[Path],
    class_names: Sequence[str],
    *,
    description: str = "Segmentation by jcl",
) -> None:
    """Write labels on the grid of a series, one segment a class; the file gets its name when it is whole.

    Patient, study and frame of reference are those of the series. The UIDs follow from series and
    labels, so that the same segmentation written again is the same object, not a second one.

    Args:
        labels: 0 is background, k the class `class_names[k - 1]`; slices as `read_series` has them.
        source_files: of the series, in any order.

    Raises:
        UsageError: highdicom is not installed.
        DataError: the series cannot be used, or lacks a UID.
        WriteError: the file cannot be written.
        ValueError: the labels have another shape, or a value without a class name.
    """
    try:
        import highdicom
    except ImportError as error:
        raise UsageError("DICOM-SEG needs highdicom; install it: pip install 'jcl-seg[dicom-seg]'") from error
    volume = volume_of_labels(labels, source_files, class_names)
    # Frames in the order in which the files have them: of several files that of the volume, in one file its own.
    files = list(dict.fromkeys(part.header.path for part in volume.slices))
    rank = {file: number for number, file in enumerate(files)}
    order = sorted(range(len(labels)), key=lambda at: (rank[volume.slices[at].header.path], volume.slices[at].frame))
    sources = [source_header(file) for file in files]
    pixels = np.ascontiguousarray(labels[order], np.uint8 if len(class_names) < 256 else np.uint16)
    digest = hashlib.sha256(pixels.tobytes()).hexdigest()
    entropy = [text(sources[0], "SeriesInstanceUID"), digest, *class_names, __version__]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an empty segmentation, or names of patients that do not conform
            dataset = highdicom.seg.Segmentation(
                source_images=sources,
                pixel_array=pixels,
                segmentation_type=highdicom.seg.SegmentationTypeValues.BINARY,
                segment_descriptions=_segments(class_names),
                series_instance_uid=generate_uid(entropy_srcs=["series", *entropy]),
                series_number=min(100 * series_number(sources[0]) + 1, 2**31 - 1),
                sop_instance_uid=generate_uid(entropy_srcs=["instance", *entropy]),
                instance_number=1,
                manufacturer="jcl",
                manufacturer_model_name="jcl",
                software_versions=__version__,
                device_serial_number="1",
                series_description=description[:64],
            )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        reason = "its headers lack, or contradict, what DICOM-SEG repeats of them"
        raise DataError(f"{files[0]}: no DICOM-SEG can point at its series ({reason}); write NIfTI instead") from error
    save_dataset(path, dataset)


def volume_of_labels(
    labels: Integer[np.ndarray, "z y x"], source_files: Sequence[Path], class_names: Sequence[str]
) -> Stack:
    """The sorted slices of the series that labels are of.

    Raises:
        DataError: the series cannot be used.
        ValueError: the labels have another shape, or a value without a class name.
    """
    volume = sort_slices([read_header(file) for file in source_files])
    if labels.shape != volume.size[::-1]:
        raise ValueError(f"labels have the shape {labels.shape}; the series has {volume.size[::-1]}")
    if labels.min() < 0 or labels.max() > len(class_names):
        raise ValueError(
            f"labels have the values {labels.min()} to {labels.max()}; {len(class_names)} classes are named"
        )
    return volume


def source_header(path: Path) -> Dataset:
    """Header of a source file, with what a segmentation needs of it.

    Raises:
        DataError: it cannot be read, or lacks a UID.
    """
    try:
        with open_dicom(path) as file, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            dataset: Dataset = dcmread(file, stop_before_pixels=True, force=True)
    except Exception as error:  # what pydicom raises at a corrupt header can be of any type
        raise DataError(f"{path}: its header is corrupt (it cannot be read as DICOM); copy it again") from error
    for name in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "FrameOfReferenceUID"):
        if not text(dataset, name):
            raise DataError(f"{path}: has no {name}, which a segmentation has to point at; write NIfTI instead")
    for name in EXPECTED:
        if name not in dataset:
            setattr(dataset, name, "")
    return dataset


def series_number(dataset: Dataset) -> int:
    """Of the series; 0 where it has none."""
    found = text(dataset, "SeriesNumber")
    return int(found) if found.isascii() and found.isdigit() else 0


def plain_name(name: str, number: int) -> str:
    """A class's name as DICOM takes it: one line of 64 characters at most, without backslashes."""
    return " ".join(name.replace("\\", "/").split())[:64] or f"class {number}"


def _segments(class_names: Sequence[str]) -> list[Any]:
    from highdicom import AlgorithmIdentificationSequence
    from highdicom.seg import SegmentAlgorithmTypeValues, SegmentDescription
    from highdicom.sr import CodedConcept
    from pydicom.sr.codedict import codes

    algorithm = AlgorithmIdentificationSequence(
        name="jcl", family=codes.DCM.ArtificialIntelligence, version=__version__
    )
    segments: list[Any] = []
    for number, name in enumerate(class_names, 1):
        plain = plain_name(name, number)
        segments.append(
            SegmentDescription(
                segment_number=number,
                segment_label=plain,
                segmented_property_category=codes.SCT.AnatomicalStructure,
                segmented_property_type=CodedConcept(str(number), SCHEME, plain),
                algorithm_type=SegmentAlgorithmTypeValues.AUTOMATIC,
                algorithm_identification=algorithm,
            )
        )
    return segments


def save_dataset(path: Path, dataset: Dataset) -> None:
    """Write an object; the file gets its name when it is whole.

    Raises:
        WriteError: it cannot be written.
    """
    content = io.BytesIO()
    dataset.save_as(content, enforce_file_format=True)
    try:
        with tempfile.TemporaryDirectory(f".{os.getpid()}.tmp", ".jcl.", path.parent) as folder:
            part = Path(folder, path.name)
            part.write_bytes(content.getbuffer())
            part.replace(path)
    except OSError as error:
        raise write_error(path, error) from error
