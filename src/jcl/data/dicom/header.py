"""The header of one DICOM file, read by pydicom (in Python, so that a hostile one cannot crash the process).

Nothing is taken on trust: what rows, columns, bits and frames claim has to be there as pixel data.
"""

import io
import struct
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, cast

from pydicom.dataset import Dataset
from pydicom.filereader import read_partial
from pydicom.tag import BaseTag
from pydicom.uid import UID

from jcl.data.dicom.file import DEFLATED, MARK, Bounded, Opened, first_bytes, may_be_dicom, open_dicom
from jcl.data.dicom.planes import Plane, read_planes, text
from jcl.data.imagefile import MAX_VOXELS
from jcl.errors import DataError
from jcl.files import read_error

__all__ = ["COMPRESSED", "RLE", "Header", "is_dicom", "read_header"]

RLE = "1.2.840.10008.1.2.5"
NATIVE = ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2", DEFLATED)
COMPRESSED = {
    "1.2.840.10008.1.2.4.50": "JPEG",
    "1.2.840.10008.1.2.4.51": "JPEG",
    "1.2.840.10008.1.2.4.57": "JPEG",
    "1.2.840.10008.1.2.4.70": "JPEG",
    "1.2.840.10008.1.2.4.80": "JPEG-LS",
    "1.2.840.10008.1.2.4.81": "JPEG-LS",
    "1.2.840.10008.1.2.4.90": "JPEG 2000",
    "1.2.840.10008.1.2.4.91": "JPEG 2000",
}
"""Transfer syntaxes that a codec has to decode, and their families."""

SECONDARY = "1.2.840.10008.5.1.4.1.1.7."
"""Classes of secondary captures, with a dot at the end."""

CAPTURES = (
    "SCREEN SAVE", "SCREENSAVE", "SCREEN CAPTURE", "SCREENSHOT", "DOSE REPORT", "DOSE INFO", "DOSE RECORD",
    "PATIENT PROTOCOL", "SOM5 PROT", "CSA REPORT", "EXAM PROTOCOL", "SUMMARY REPORT",
)  # fmt: skip
"""What scanners write into type or description of pictures of their screens and of their reports."""

PIXEL_DATA = (0x7FE00008, 0x7FE00009, 0x7FE00010)
UNDEFINED = 0xFFFFFFFF
ITEM = b"\xfe\xff\x00\xe0"
END_OF_ITEMS = b"\xfe\xff\xdd\xe0\0\0\0\0"

TAGS: list[BaseTag | int] = [
    0x00080005, 0x00080008, 0x00080016, 0x00080018, 0x00080032, 0x00080060, 0x0008103E,
    0x00100010, 0x00100020,
    0x00180050, 0x00180081, 0x00180082, 0x00180086, 0x00180088, 0x00181060, 0x00181164, 0x00186011, 0x00189087,
    0x00189089, 0x0019100C,
    0x0020000D, 0x0020000E, 0x00200011, 0x00200012, 0x00200032, 0x00200037, 0x00200100,
    0x00280002, 0x00280004, 0x00280006, 0x00280008, 0x00280010, 0x00280011, 0x00280030, 0x00280100, 0x00280101,
    0x00280102, 0x00280103, 0x00281052, 0x00281053, 0x00182010, 0x00283000,
    0x52009229, 0x52009230,
]  # fmt: skip
"""All that is read of a file; the others are stepped over."""


@dataclass(frozen=True)
class Header:
    """What a file says of itself.

    Attributes:
        kind: "image", or what else it is ("segmentation", "report", ...).
        study, series, instance: UIDs; empty if missing.
        patient: PatientID; empty if missing.
        person: PatientName where there is no PatientID: to tell persons apart, and never kept or shown.
        syntax: UID of the transfer syntax.
        number: of the series; empty if missing.
        samples: values per pixel; 3 for colour.
        allocated, stored, high_bit: bits of a value, as DICOM has them.
        frames: images in the file.
        localizer: whether it is a planning image, not one of a volume.
        secondary: whether it is a secondary capture without a place in the patient: a picture of a screen or a page.
        planes: one a frame, or empty if the file cannot be used.
        offset, length: of the value of its pixel data, in the stream of `open_dicom`; bytes.
        little: whether values are little-endian.
        problem: why it cannot be used, one line with the file's name that says what to do.
    """

    path: Path
    kind: str = "image"
    study: str = ""
    series: str = ""
    instance: str = ""
    patient: str = ""
    person: str = field(default="", repr=False)
    modality: str = ""
    description: str = ""
    number: str = ""
    syntax: str = ""
    rows: int = 0
    columns: int = 0
    samples: int = 1
    photometric: str = ""
    planar: bool = False
    allocated: int = 0
    stored: int = 0
    high_bit: int = 0
    signed: bool = False
    frames: int = 1
    localizer: bool = False
    secondary: bool = False
    planes: tuple[Plane, ...] = ()
    offset: int = 0
    length: int = 0
    little: bool = True
    problem: str | None = None

    @property
    def frame_bytes(self) -> int:
        """Bytes of one decoded frame."""
        return self.rows * self.columns * self.samples * self.allocated // 8


def is_dicom(path: Path) -> bool:
    """Whether a file is DICOM: by its mark, or, in files of old without one, by the class that its header names."""
    if not may_be_dicom(path):
        return False
    if first_bytes(path)[128:] == MARK:
        return True
    header = read_header(path)
    return bool(header.series or header.instance)


def read_header(path: Path) -> Header:
    """Header of a file; what is wrong with it is its `problem`, never an exception.

    Pixel data are not read, only whether they are there.
    """
    try:
        with open_dicom(path) as file:
            size = file.seek(0, io.SEEK_END)
            file.seek(0)
            # Values that do not conform make warnings; those that matter are checked here.
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return _read(path, file, size)
    except DataError as error:
        return Header(path, problem=str(error))
    except OSError as error:
        return Header(path, problem=str(read_error(path, error)))


def _read(path: Path, file: Opened, size: int) -> Header:
    stream = Bounded(file, size)
    try:
        dataset = read_partial(cast("BinaryIO", stream), _at_pixel_data, force=True, specific_tags=TAGS)
    except Exception as error:  # what pydicom raises at a corrupt header can be of any type
        raise DataError(f"{path}: its header is corrupt (it cannot be read as DICOM); copy it again") from error
    meta = dataset.file_meta
    sop_class = text(dataset, "SOPClassUID") or text(meta, "MediaStorageSOPClassUID")
    if not sop_class and "Rows" not in dataset:
        raise DataError(f"{path}: its header is corrupt (it has no SOPClassUID); copy it again from its origin")
    common: dict[str, Any] = {
        "kind": "screen capture or dose report" if _is_capture(dataset) else _kind(sop_class, "Rows" in dataset),
        "secondary": f"{sop_class}.".startswith(SECONDARY) and not _is_placed(dataset),
        "study": text(dataset, "StudyInstanceUID"),
        "series": text(dataset, "SeriesInstanceUID"),
        "instance": text(dataset, "SOPInstanceUID"),
        "patient": (patient := text(dataset, "PatientID")),
        "person": "" if patient else text(dataset, "PatientName"),
        "modality": text(dataset, "Modality"),
        "description": text(dataset, "SeriesDescription"),
        "number": text(dataset, "SeriesNumber"),
        "syntax": text(meta, "TransferSyntaxUID") or NATIVE[0],
        "localizer": "LOCALIZER" in text(dataset, "ImageType").upper().split("\\"),
    }
    if common["kind"] != "image":
        return Header(path, **common)
    implicit, little = (value is not False for value in dataset.original_encoding)
    common["little"] = little
    tag, common["offset"], common["length"] = _pixel_data(stream, implicit, little)
    common |= _pixel_format(dataset)
    header = Header(path, **common)
    problem = _wrong_format(header, tag) or _wrong_length(header, stream, size)
    planes = read_planes(dataset, header.frames, (header.rows, header.columns))
    if isinstance(planes, str):
        return Header(path, **common, problem=f"{path}: {problem or planes}")
    return Header(path, **common, planes=planes, problem=f"{path}: {problem}" if problem else None)


def _whole(dataset: Dataset, name: str, default: int) -> int:
    """A whole number; -1, which no check lets pass, if there is something else."""
    value = text(dataset, name)
    try:
        return int(float(value)) if value else default
    except (ValueError, OverflowError):
        return -1


def _pixel_format(dataset: Dataset) -> dict[str, Any]:
    allocated = _whole(dataset, "BitsAllocated", 0)
    stored = _whole(dataset, "BitsStored", allocated)
    return {
        "rows": _whole(dataset, "Rows", 0),
        "columns": _whole(dataset, "Columns", 0),
        "samples": _whole(dataset, "SamplesPerPixel", 1),
        "photometric": text(dataset, "PhotometricInterpretation").upper() or "MONOCHROME2",
        "planar": _whole(dataset, "PlanarConfiguration", 0) == 1,
        "allocated": allocated,
        "stored": stored,
        "high_bit": _whole(dataset, "HighBit", stored - 1),
        "signed": _whole(dataset, "PixelRepresentation", 0) == 1,
        "frames": _whole(dataset, "NumberOfFrames", 1),
    }


def _at_pixel_data(tag: BaseTag, _vr: str | None, _length: int) -> bool:
    return tag >= PIXEL_DATA[0]


def _pixel_data(stream: Bounded, implicit: bool, little: bool) -> tuple[int, int, int]:
    """Tag of the element at which reading stopped, and place and length of its value (bytes); zeros if none."""
    order = "<" if little else ">"
    head = stream.read(12)
    if len(head) < 8:
        return 0, 0, 0
    tag = (struct.unpack_from(order + "H", head)[0] << 16) + struct.unpack_from(order + "H", head, 2)[0]
    long = not implicit and head[4:6] in (b"OB", b"OW", b"OF", b"OD", b"UN")
    length = struct.unpack_from(order + "I", head + bytes(4), 8 if long else 4)[0]
    return tag, stream.tell() - len(head) + (12 if long else 8), length


def _wrong_format(header: Header, tag: int) -> str | None:
    rows, columns, frames = header.rows, header.columns, header.frames
    if tag in PIXEL_DATA[:2]:
        return "its pixel data are of floating point, which is not supported; convert it to NIfTI"
    if tag != PIXEL_DATA[2]:
        return "has no pixel data; leave it out, or copy it again from its origin"
    if rows < 1 or columns < 1 or frames < 1:
        return f"its header claims {rows} x {columns} pixels in {frames} frames; leave it out"
    if rows * columns * frames * max(1, header.samples) > MAX_VOXELS:
        return f"its header claims {rows} x {columns} x {frames} voxels; at most {MAX_VOXELS:.3g} are supported"
    if header.syntax not in (*NATIVE, RLE, *COMPRESSED):
        name = UID(header.syntax).name
        return f"its transfer syntax is not supported ({name}); decompress it, as with `gdcmconv --raw`"
    bits = (header.allocated, header.stored, header.high_bit)
    if header.allocated not in (8, 16, 32) or not 1 <= header.stored <= header.high_bit + 1 <= header.allocated:
        return f"bits allocated, bits stored and high bit are {bits}, which is not supported; convert it to NIfTI"
    if header.allocated == 8 and not header.little:
        return "its bytes are big-endian, which is not supported for 8 bits; convert it to little-endian"
    if header.samples not in (1, 3):
        return f"has {header.samples} samples per pixel; 1 (grey) or 3 (colour) are supported"
    known = ("MONOCHROME1", "MONOCHROME2") if header.samples == 1 else ("RGB", "YBR_FULL")
    if header.syntax in COMPRESSED and header.samples == 3:
        return "has compressed colours, which is not supported; decompress it, as with `gdcmconv --raw`"
    if header.photometric not in known or (header.samples == 3 and header.allocated != 8):
        return f"its colours ({header.photometric}, {header.allocated} bits) are not supported; convert it to RGB"
    return None


def _wrong_length(header: Header, stream: Bounded, size: int) -> str | None:
    """What the pixel data lack; compressed ones have to come to their end mark."""
    there = size - header.offset
    if header.syntax in NATIVE:
        needed = header.frame_bytes * header.frames
        if header.length == UNDEFINED:
            return "its pixel data are compressed, but its transfer syntax says that they are not; correct the header"
        if there < min(header.length, max(needed, 1)):
            return f"truncated; its pixel data need {needed} bytes, {max(there, 0)} are there; copy it again"
        if header.length < needed:
            return f"its header claims {needed} bytes of pixel data, but they have {header.length}; replace it"
        return None
    if header.length != UNDEFINED:
        return "its pixel data are not compressed, but its transfer syntax says that they are; correct the header"
    items = _count_items(stream, header.offset)
    if items is None:
        return "truncated or corrupt; its compressed pixel data have no end; copy it again from its origin"
    if items - 1 < header.frames:  # the first is a table of offsets
        return f"its header claims {header.frames} frames, but {max(0, items - 1)} are there; copy it again"
    # Nothing packs so well but an empty image, and those are small.
    needed = header.frame_bytes * header.frames
    if needed > 1 << 26 and needed > 10_000 * there:
        return f"truncated or corrupt; its header claims {needed} bytes, packed into {there}"
    return None


def _count_items(stream: Bounded, offset: int) -> int | None:
    """Items of encapsulated pixel data, or None if there is no end mark after them."""
    stream.seek(offset)
    items = 0
    try:
        while (mark := stream.read(8))[:4] == ITEM and len(mark) == 8:
            stream.seek(stream.tell() + struct.unpack_from("<I", mark, 4)[0])
            items += 1
    except ValueError:  # more items than any file has
        return None
    return items if mark == END_OF_ITEMS else None


def _is_placed(dataset: Dataset) -> bool:
    return "ImagePositionPatient" in dataset or "PerFrameFunctionalGroupsSequence" in dataset


def _is_capture(dataset: Dataset) -> bool:
    """Whether an image is one of a screen or a page by its type or its description, and has no place in the patient."""
    if "Rows" not in dataset or _is_placed(dataset):
        return False
    said = f"{text(dataset, 'ImageType')} {text(dataset, 'SeriesDescription')}".upper().replace("_", " ")
    return any(mark in said for mark in CAPTURES)


def _kind(sop_class: str, has_rows: bool) -> str:
    name = UID(sop_class).name if sop_class else ""
    for part, kind in (
        ("Segmentation", "segmentation"), ("Presentation State", "presentation state"), ("Structure Set", "RTSTRUCT"),
        (" SR ", "report"), ("Encapsulated", "document"), ("Directory", "DICOMDIR"), ("Registration", "registration"),
        ("Dose Storage", "RT dose"), ("Plan Storage", "RT plan"), ("Waveform", "waveform"),
    ):  # fmt: skip
        if part in f"{name} ":
            return kind
    if "Image Storage" in name or has_rows:
        return "image"
    return name.removesuffix(" Storage") or "other"
