"""Generated DICOM series for tests, written with pydicom alone."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian, generate_uid

AXIAL = (1, 0, 0, 0, 1, 0)


def voxels(slices: int = 5, rows: int = 12, columns: int = 16, *, seed: int = 0) -> np.ndarray:
    """Smooth values with noise, int16."""
    z, y, x = np.mgrid[:slices, :rows, :columns]
    noise = np.random.default_rng(seed).normal(0, 5, z.shape)
    return (800 * np.sin(x / 5 + z) * np.cos(y / 4) + 100 * z + noise).astype(np.int16)


def image(pixels: np.ndarray, uid: str, **tags: Any) -> Dataset:
    """One image (rows, columns) or (rows, columns, 3); `tags` are set last, None leaves an element out."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = tags.pop("syntax", ExplicitVRLittleEndian)
    dataset.SOPClassUID, dataset.SOPInstanceUID = CTImageStorage, generate_uid(entropy_srcs=[uid])
    dataset.Modality, dataset.ImageType = "CT", ["ORIGINAL", "PRIMARY", "AXIAL"]
    dataset.PatientName, dataset.PatientID = "Doe^Jane", "P1"
    dataset.StudyInstanceUID = generate_uid(entropy_srcs=["study"])
    dataset.SeriesInstanceUID = generate_uid(entropy_srcs=["series"])
    dataset.FrameOfReferenceUID = generate_uid(entropy_srcs=["frame"])
    dataset.SeriesNumber, dataset.SeriesDescription, dataset.SliceThickness = 3, "Abdomen", 1
    dataset.ImagePositionPatient, dataset.ImageOrientationPatient = [-10, 20, 5], list(AXIAL)
    dataset.PixelSpacing = [0.8, 0.7]
    dataset.SamplesPerPixel = 1 if pixels.ndim == 2 else 3
    dataset.PhotometricInterpretation = "MONOCHROME2" if pixels.ndim == 2 else "RGB"
    if pixels.ndim == 3:
        dataset.PlanarConfiguration = 0
    bits = 8 * pixels.dtype.itemsize
    dataset.Rows, dataset.Columns = pixels.shape[:2]
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = bits, bits, bits - 1
    dataset.PixelRepresentation = int(pixels.dtype.kind == "i")
    data = pixels.tobytes()
    dataset.add_new("PixelData", "OB" if bits == 8 else "OW", data + b"\0" * (len(data) % 2))
    for name, value in tags.items():
        if value is None:
            del dataset[name]
        else:
            setattr(dataset, name, value)
    return dataset


def save(path: Path, dataset: Dataset) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(path, enforce_file_format=True)
    return path


def write_series(
    folder: Path,
    array: np.ndarray | None = None,
    *,
    name: str = "{}.dcm",
    step: float = 2.5,
    change: Callable[[int, Dataset], None] | None = None,
    **tags: Any,
) -> list[Path]:
    """A series, one slice a file, from the lowest slice on; slices are named from 1 on.

    Args:
        change: is given each slice's number and dataset before it is written.
        tags: of every slice; `series` (a word) makes the UIDs.
    """
    array = voxels() if array is None else array
    word = tags.pop("series", "a")
    files: list[Path] = []
    for number, pixels in enumerate(array):
        dataset = image(pixels, f"{word}{number}", **tags)
        dataset.SeriesInstanceUID = generate_uid(entropy_srcs=[word])
        dataset.InstanceNumber = number + 1
        if (
            "ImagePositionPatient" in dataset
            and "ImagePositionPatient" not in tags
            and len(dataset.get("ImageOrientationPatient", [])) == 6
        ):
            x, y, z = dataset.ImagePositionPatient
            normal = np.cross(*np.reshape(dataset.ImageOrientationPatient, (2, 3)))
            dataset.ImagePositionPatient = [*np.round(np.array([x, y, z], float) + number * step * normal, 6)]
        if change:
            change(number, dataset)
        files.append(save(folder / name.format(number + 1), dataset))
    return files


def compress(dataset: Dataset, syntax: str, encode: Callable[[np.ndarray], bytes]) -> Dataset:
    """The dataset with its pixels encoded."""
    data = encode(dataset.pixel_array)
    dataset.PixelData = pydicom.encaps.encapsulate([data])
    dataset["PixelData"].VR = "OB"
    dataset["PixelData"].is_undefined_length = True
    dataset.file_meta.TransferSyntaxUID = syntax
    return dataset


def deflated(dataset: Dataset) -> Dataset:
    dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    return dataset


def enhanced(array: np.ndarray, *, step: float = 2.5, order: list[int] | None = None) -> Dataset:
    """All slices in one file (Enhanced CT), in the order of `order`."""
    order = list(range(len(array))) if order is None else order
    dataset = image(array[0], "enhanced")
    dataset.SOPClassUID = "1.2.840.10008.5.1.4.1.1.2.1"
    dataset.NumberOfFrames = len(order)
    dataset.PixelData = array[order].tobytes()
    for name in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness"):
        del dataset[name]

    def item(**tags: Any) -> Dataset:
        part = Dataset()
        for name, value in tags.items():
            setattr(part, name, value)
        return part

    shared = item(
        PixelMeasuresSequence=[item(PixelSpacing=[0.8, 0.7], SliceThickness=1)],
        PlaneOrientationSequence=[item(ImageOrientationPatient=list(AXIAL))],
    )
    dataset.SharedFunctionalGroupsSequence = [shared]
    dataset.PerFrameFunctionalGroupsSequence = [
        item(
            PlanePositionSequence=[item(ImagePositionPatient=[-10, 20, 5 + step * at])],
            PixelValueTransformationSequence=[item(RescaleSlope=1 + at, RescaleIntercept=-at, RescaleType="US")],
        )
        for at in order
    ]
    return dataset
