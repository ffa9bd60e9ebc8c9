"""A segmentation as an RTSTRUCT: contours around the voxels of each class, on the slices of a series."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import contourpy
import numpy as np
from jaxtyping import Float, Integer
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ImplicitVRLittleEndian, RTStructureSetStorage, generate_uid

from jcl import __version__
from jcl.data.dicom.planes import text
from jcl.data.dicom.segmentation import plain_name, save_dataset, series_number, source_header, volume_of_labels
from jcl.data.dicom.stack import Stack
from jcl.errors import DataError

__all__ = ["write_structure_set"]

COLOURS = ((230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66), (0, 114, 178), (213, 94, 0), (204, 121, 167))
"""Of Okabe and Ito, for people with any colour vision; they begin anew after the last."""


def write_structure_set(
    path: Path, labels: Integer[np.ndarray, "z y x"], source_files: Sequence[Path], class_names: Sequence[str]
) -> None:
    """Write labels on the grid of a series as closed contours, one region a class; a hole is a contour inside another.

    Contours run half-way between the centres of voxels inside and outside, so that who fills them by the centres of
    voxels, with holes by exclusive or, has the same voxels again. The UIDs follow from series and labels.

    Args:
        path: the file; it gets its name when it is whole.
        labels: 0 is background, k the class `class_names[k - 1]`; slices as `read_series` has them.
        source_files: of the series, in any order.
        class_names: of the regions.

    Raises:
        DataError: the series cannot be used, or lacks a UID.
        WriteError: the file cannot be written.
        ValueError: the labels have another shape, or a value without a class name.
    """
    volume = volume_of_labels(labels, source_files, class_names)
    sources = {part.header.path: source_header(part.header.path) for part in volume.slices}
    first, images = sources[volume.slices[0].header.path], _references(volume, sources)
    digest = hashlib.sha256(np.ascontiguousarray(labels, np.int32).tobytes()).hexdigest()
    entropy = ["RTSTRUCT", text(first, "SeriesInstanceUID"), digest, *class_names, __version__]
    dataset = _without_regions(first, images, entropy)
    for number, name in enumerate(class_names, 1):
        _add_region(dataset, number, plain_name(name, number))
        dataset.ROIContourSequence[-1].ContourSequence = [
            _contour(points, image)
            for at, (plane, image) in enumerate(zip(labels == number, images, strict=True))
            for points in _outlines(plane, at, volume)
        ]
    save_dataset(path, dataset)


def _without_regions(first: Dataset, images: Sequence[Dataset], entropy: Sequence[str]) -> Dataset:
    """The object as it is before there is a region: patient, study and frame of reference are those of the series."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    # The points of one contour may take more than the 65,534 bytes that a value with an explicit type can have.
    dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    for name in (
        "SpecificCharacterSet", "PatientID", "PatientName", "PatientBirthDate", "PatientSex", "StudyInstanceUID",
        "StudyDate", "StudyTime", "StudyID", "AccessionNumber", "ReferringPhysicianName", "FrameOfReferenceUID",
    ):  # fmt: skip
        if name in first:
            dataset[name] = first[name]
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = RTStructureSetStorage
    uid = generate_uid(entropy_srcs=["instance", *entropy])
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = uid
    dataset.SeriesInstanceUID = generate_uid(entropy_srcs=["series", *entropy])
    dataset.Modality, dataset.OperatorsName, dataset.PositionReferenceIndicator = "RTSTRUCT", "", ""
    dataset.SeriesNumber = min(100 * series_number(first) + 2, 2**31 - 1)
    dataset.Manufacturer, dataset.ManufacturerModelName, dataset.SoftwareVersions = "jcl", "jcl", __version__
    dataset.StructureSetLabel, dataset.SeriesDescription = "jcl", "Segmentation by jcl"
    # Of the study, since the object has to be the same when it is written again.
    dataset.StructureSetDate, dataset.StructureSetTime = first.get("StudyDate", ""), first.get("StudyTime", "")
    dataset.ApprovalStatus = "UNAPPROVED"
    series = Dataset()
    series.SeriesInstanceUID = first.SeriesInstanceUID
    series.ContourImageSequence = list(images)
    study = Dataset()
    study.ReferencedSOPClassUID, study.ReferencedSOPInstanceUID = "1.2.840.10008.3.1.2.3.1", first.StudyInstanceUID
    study.RTReferencedSeriesSequence = [series]
    frame = Dataset()
    frame.FrameOfReferenceUID, frame.RTReferencedStudySequence = first.FrameOfReferenceUID, [study]
    dataset.ReferencedFrameOfReferenceSequence = [frame]
    dataset.StructureSetROISequence, dataset.ROIContourSequence, dataset.RTROIObservationsSequence = [], [], []
    return dataset


def _add_region(dataset: Dataset, number: int, name: str) -> None:
    region = Dataset()
    region.ROINumber, region.ROIName, region.ROIGenerationAlgorithm = number, name, "AUTOMATIC"
    region.ReferencedFrameOfReferenceUID = dataset.FrameOfReferenceUID
    dataset.StructureSetROISequence.append(region)
    contours = Dataset()
    contours.ReferencedROINumber, contours.ROIDisplayColor = number, list(COLOURS[(number - 1) % len(COLOURS)])
    dataset.ROIContourSequence.append(contours)
    observation = Dataset()
    observation.ObservationNumber = observation.ReferencedROINumber = number
    observation.RTROIInterpretedType, observation.ROIInterpreter = "", ""
    dataset.RTROIObservationsSequence.append(observation)


def _contour(points: Float[np.ndarray, "n 3"], image: Dataset) -> Dataset:
    contour = Dataset()
    contour.ContourImageSequence = [image]
    contour.ContourGeometricType, contour.NumberOfContourPoints = "CLOSED_PLANAR", len(points)
    contour.ContourData = [f"{value:.4f}"[:16] for value in points.ravel()]
    return contour


def _references(volume: Stack, sources: Mapping[Path, Dataset]) -> list[Dataset]:
    """To the image of each slice."""
    items: list[Dataset] = []
    for part in volume.slices:
        source, item = sources[part.header.path], Dataset()
        if "SOPClassUID" not in source:
            raise DataError(f"{part.header.path}: has no SOPClassUID, which a segmentation has to point at")
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = source.SOPClassUID, source.SOPInstanceUID
        if part.header.frames > 1:
            item.ReferencedFrameNumber = part.frame + 1
        items.append(item)
    return items


def _outlines(plane: np.ndarray, at: int, volume: Stack) -> Iterator[Float[np.ndarray, "n 3"]]:
    """Contours (mm, LPS) around the pixels of one slice; the last point, which is the first, is left out."""
    if not plane.any():
        return
    own = np.reshape(volume.direction, (3, 3)) * volume.spacing
    framed = np.pad(plane.astype(np.float64), 1)
    for line in contourpy.contour_generator(z=framed, line_type=contourpy.LineType.Separate).lines(0.5):
        pixels = np.asarray(line, float)[:-1] - 1
        yield np.column_stack([pixels, np.full(len(pixels), at)]) @ own.T + volume.origin
