"""Compressed pixel data of DICOM files: run-length coded ones are decoded here, others in a process of their own."""

import os
import re
import struct
import subprocess
import sys
import tempfile
import threading
import warnings
from collections.abc import Generator, Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, NoReturn, cast

import numpy as np
from jaxtyping import Integer
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate, generate_frames
from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import UID, RLELossless, SecondaryCaptureImageStorage, generate_uid

from jcl.data.dicom import decode as decoder
from jcl.data.dicom.decode import FRAME
from jcl.data.dicom.file import Bounded, Opened
from jcl.data.dicom.header import COMPRESSED, Header
from jcl.data.imagefile import write_error
from jcl.errors import DataError

__all__ = ["decode", "decode_rle", "encoded_frames"]

BASE_MEMORY = 3 << 30
FRAME_MEMORY = 32
"""Bytes that the decoding process may take: for its libraries, and for each byte of a frame."""

START_SECONDS, FRAME_SECONDS = 60, 5
MOST_BITS = 16
"""JPEG data of more have been seen to crash the decoder."""


def encoded_frames(header: Header, file: Opened) -> list[bytes]:
    """The frames of an open file, still encoded.

    Raises:
        DataError: they are not there.
    """
    size = file.seek(0, os.SEEK_END)
    stream = cast("BinaryIO", Bounded(file, size, 4 * size))
    stream.seek(header.offset)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            frames = list(generate_frames(stream, number_of_frames=header.frames))
    except Exception as error:  # what pydicom raises at a corrupt one can be of any type
        _refuse(header, str(error))
    if len(frames) != header.frames:
        _refuse(header, f"{len(frames)} frames instead of {header.frames}")
    return frames


def decode_rle(header: Header, frame: bytes) -> Integer[np.ndarray, "..."]:
    """Stored values of a run-length coded frame: (rows, columns), of colours (rows, columns, 3).

    Raises:
        DataError: it is damaged.
    """
    if len(frame) > 4 * header.frame_bytes + 128:
        _refuse(header, "longer than not encoded")
    options: dict[str, Any] = {
        "number_of_frames": 1,
        "rows": header.rows,
        "columns": header.columns,
        "samples_per_pixel": header.samples,
        "bits_allocated": header.allocated,
        "bits_stored": header.stored,
        "pixel_representation": int(header.signed),
        "photometric_interpretation": header.photometric,
        "planar_configuration": int(header.planar),
        "pixel_keyword": "PixelData",
    }
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            array, _ = get_decoder(RLELossless).as_array(
                encapsulate([frame], has_bot=False), raw=True, decoding_plugin="pydicom", **options
            )
    except Exception as error:  # what pydicom raises at a corrupt one can be of any type
        _refuse(header, str(error))
    return array


def decode(frames: Iterable[tuple[Header, bytes]]) -> Generator[Integer[np.ndarray, "rows columns"]]:
    """Stored values of frames of JPEG, JPEG-LS or JPEG 2000, in turn.

    Only the data themselves reach the decoder, with the few facts that were checked here.

    Raises:
        DataError: a frame is damaged, or claims another size than its header.
        WriteError: there is no room for the temporary files.
    """
    headers: list[Header] = []
    folder = tempfile.TemporaryDirectory(prefix="jcl-", ignore_cleanup_errors=True)
    with folder as name:
        for header, frame in frames:
            _check_claim(header, frame)
            path = Path(name, f"{len(headers)}.dcm")
            try:
                _write_plain(path, header, frame)
            except OSError as error:
                raise write_error(path, error) from error
            headers.append(header)
        yield from _decoded(name, headers)


def _decoded(folder: str, headers: list[Header]) -> Iterator[Integer[np.ndarray, "rows columns"]]:
    if not headers:
        return
    memory = BASE_MEMORY + FRAME_MEMORY * max(header.frame_bytes for header in headers)
    # As a script: nothing of this package, nor PyTorch, is imported there.
    command = [sys.executable, "-P", str(Path(decoder.__file__)), folder, str(len(headers)), str(memory)]
    environment = {**os.environ, "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS": "1"}
    quiet = subprocess.DEVNULL
    with subprocess.Popen(command, stdin=quiet, stdout=subprocess.PIPE, stderr=quiet, env=environment) as process:
        watch = threading.Timer(START_SECONDS + FRAME_SECONDS * len(headers), process.kill)
        watch.start()
        try:
            stream = cast("BinaryIO", process.stdout)
            for header in headers:
                yield _receive(header, stream)
        finally:
            watch.cancel()
            process.kill()


def _receive(header: Header, stream: BinaryIO) -> Integer[np.ndarray, "rows columns"]:
    head = stream.read(FRAME.size)
    if len(head) < FRAME.size:
        _refuse(header, "the decoder crashed, or took too much time or memory")
    width, rows, columns, length = FRAME.unpack(head)
    body = stream.read(length)
    if width == 0:
        _refuse(header, body.decode(errors="replace"))
    if len(body) < length:
        _refuse(header, "the decoder crashed")
    if (rows, columns) != (header.rows, header.columns):
        _refuse(header, f"{rows} x {columns} pixels instead of {header.rows} x {header.columns}")
    return np.frombuffer(body, f"<i{width}").reshape(rows, columns)


def _write_plain(path: Path, header: Header, frame: bytes) -> None:
    """One frame as a grey image whose header has nothing but its size and bits."""
    dataset = Dataset()
    dataset.SOPClassUID, dataset.SOPInstanceUID = SecondaryCaptureImageStorage, generate_uid()
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.Rows, dataset.Columns = header.rows, header.columns
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = header.allocated, header.stored, header.stored - 1
    dataset.PixelRepresentation = int(header.signed)
    dataset.PixelData = encapsulate([frame])
    dataset["PixelData"].VR = "OB"
    dataset["PixelData"].is_undefined_length = True
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = UID(header.syntax)
    dataset.save_as(path, enforce_file_format=True)


def _check_claim(header: Header, frame: bytes) -> None:
    """The data say themselves how large the image is, and a decoder takes as much memory."""
    found = _size_jpeg2000(frame) if COMPRESSED[header.syntax] == "JPEG 2000" else _size_jpeg(frame)
    if found is None:
        _refuse(header, "they do not begin as such data do")
    rows, columns, bits, samples = found
    if (rows, columns, samples) != (header.rows, header.columns, 1):
        size = f"{rows} x {columns} pixels of {samples} samples"
        _refuse(header, f"{size} instead of {header.rows} x {header.columns} of 1")
    if not 1 <= bits <= MOST_BITS:
        _refuse(header, f"{bits} bits a pixel, at most {MOST_BITS} are supported")


def _size_jpeg2000(data: bytes) -> tuple[int, int, int, int] | None:
    """Rows, columns, bits and samples by the SIZ segment, which comes first."""
    at = data.find(b"\xff\x4f\xff\x51", 0, 4096)
    if at < 0 or len(data) < at + 43:
        return None
    right, bottom, left, top = struct.unpack_from(">4I", data, at + 8)
    samples, depth = struct.unpack_from(">HB", data, at + 40)
    return bottom - top, right - left, (depth & 127) + 1, samples


def _size_jpeg(data: bytes) -> tuple[int, int, int, int] | None:
    """Rows, columns, bits and samples by the frame's segment (SOF) of JPEG or JPEG-LS data."""
    at = 2 if data[:2] == b"\xff\xd8" else len(data)
    while at + 10 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF:  # filling
            at += 1
        elif re.match(rb"[\xc0-\xc3\xc5-\xc7\xc9-\xcb\xcd-\xcf\xf7]", bytes([marker])):
            bits, rows, columns, samples = struct.unpack_from(">BHHB", data, at + 4)
            return rows, columns, bits, samples
        else:
            at += 2 + struct.unpack_from(">H", data, at + 2)[0]
    return None


def _refuse(header: Header, reason: str) -> NoReturn:
    kind = COMPRESSED.get(header.syntax, "RLE")
    shown = " ".join(reason.split())[:160] or "damaged"
    raise DataError(f"{header.path}: its {kind} data cannot be decoded ({shown}); copy it again from its origin")
