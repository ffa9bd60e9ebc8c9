"""Compressed pixel data of DICOM files: run-length coded ones are decoded here, others in a process of their own."""

import os
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
from jcl.data.dicom.codestream import Codestream, read_codestream, stored_values
from jcl.data.dicom.decode import FRAME
from jcl.data.dicom.file import Bounded, Opened
from jcl.data.dicom.header import COMPRESSED, Header
from jcl.data.notes import note
from jcl.errors import DataError
from jcl.files import write_error

__all__ = ["decode", "decode_rle", "encoded_frames"]

BASE_MEMORY = 3 << 30
FRAME_MEMORY = 32
"""Bytes that the decoding process may take: for its libraries, and for each byte of a frame."""

START_SECONDS, FRAME_SECONDS = 60, 5
DAMAGED = "they are damaged, or of a kind that is not supported"
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
    except Exception:  # what pydicom raises at a corrupt one can be of any type
        _refuse(header, DAMAGED)
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
    except Exception:  # what pydicom raises at a corrupt one can be of any type
        _refuse(header, DAMAGED)
    return array


def decode(frames: Iterable[tuple[Header, bytes]]) -> Generator[Integer[np.ndarray, "rows columns"]]:
    """Stored values of frames of JPEG, JPEG-LS or JPEG 2000, in turn.

    Only the data themselves reach the decoder, with the few facts that were checked here.

    Raises:
        DataError: a frame is damaged, claims another size than its header, or has values that its header's bits do not
            hold.
        WriteError: there is no room for the temporary files.
    """
    given: list[tuple[Header, Codestream]] = []
    folder = tempfile.TemporaryDirectory(prefix="jcl-", ignore_cleanup_errors=True)
    with folder as name:
        for header, frame in frames:
            stream = _checked(header, frame)
            path = Path(name, f"{len(given)}.dcm")
            try:
                _write_plain(path, header, stream, frame)
            except OSError as error:
                raise write_error(path, error) from error
            given.append((header, stream))
        said = False
        for (header, stream), values in zip(given, _decoded(name, [header for header, _ in given]), strict=True):
            try:
                stored, how = stored_values(header, stream, values)
            except ValueError as error:
                bits = "BitsStored or PixelRepresentation"
                raise DataError(f"{header.path}: {error}; correct its {bits}, or replace the file") from error
            if how and not said:  # of the first of a series, since the others are mostly alike
                note(f"{header.path}: {how}")
                said = True
            yield stored


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


def _write_plain(path: Path, header: Header, stream: Codestream, frame: bytes) -> None:
    """One frame as a grey image whose header has nothing but its size and bits, as the data have them."""
    dataset = Dataset()
    dataset.SOPClassUID, dataset.SOPInstanceUID = SecondaryCaptureImageStorage, generate_uid()
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.Rows, dataset.Columns = header.rows, header.columns
    dataset.BitsAllocated, dataset.BitsStored = 8 if stream.bits <= 8 else 16, stream.bits
    dataset.HighBit, dataset.PixelRepresentation = stream.bits - 1, int(stream.signed or False)
    dataset.PixelData = encapsulate([frame])
    dataset["PixelData"].VR = "OB"
    dataset["PixelData"].is_undefined_length = True
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = UID(header.syntax)
    dataset.save_as(path, enforce_file_format=True)


def _checked(header: Header, frame: bytes) -> Codestream:
    """The data say themselves how large the image is, and a decoder takes as much memory."""
    stream = read_codestream(header, frame)
    if stream is None:
        _refuse(header, "they do not begin as such data do")
    if (stream.rows, stream.columns, stream.samples) != (header.rows, header.columns, 1):
        size = f"{stream.rows} x {stream.columns} pixels of {stream.samples} samples"
        _refuse(header, f"{size} instead of {header.rows} x {header.columns} of 1")
    if not 1 <= stream.bits <= MOST_BITS:
        _refuse(header, f"{stream.bits} bits a pixel, at most {MOST_BITS} are supported")
    return stream


def _refuse(header: Header, reason: str) -> NoReturn:
    kind = COMPRESSED.get(header.syntax, "RLE")
    shown = " ".join(reason.split())[:160] or "damaged"
    raise DataError(f"{header.path}: its {kind} data cannot be decoded ({shown}); copy it again from its origin")
