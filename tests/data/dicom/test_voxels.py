"""Voxels of DICOM files: each way to store them gives the values that SimpleITK and pydicom find, or one line."""

import io
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pydicom
import pytest
import SimpleITK as sitk
from pydicom.dataset import Dataset
from pydicom.uid import RLELossless

from jcl.data.dicom.series import find_series
from jcl.data.dicom.voxels import read_series
from jcl.errors import DataError
from support.dicomcoders import BASELINE, JPEG_2000, JPEG_LS, LOSSLESS, baseline, packed, through_itk
from support.dicomfiles import compress, deflated, enhanced, image, save, voxels, write_series


def by_itk(path: Path) -> np.ndarray:
    return sitk.GetArrayFromImage(sitk.ReadImage(str(path), imageIO="GDCMImageIO"))[0]


@pytest.mark.parametrize("syntax", ["deflated", RLELossless, LOSSLESS, JPEG_LS, JPEG_2000])
@pytest.mark.parametrize("kind", [np.int16, np.uint16])
def test_compressed_slices_have_the_values_of_native_ones(tmp_path: Path, syntax: str, kind: type) -> None:
    array = (voxels(3) + (0 if kind is np.int16 else 2000)).astype(kind)
    scale = {"RescaleSlope": 2, "RescaleIntercept": -7}
    for number, pixels in enumerate(array):
        dataset = image(pixels, f"{number}", ImagePositionPatient=[0, 0, number], **scale)
        save(tmp_path / f"{number}", packed(syntax, dataset, tmp_path))
    (series,) = find_series(tmp_path)
    assert series.problem is None
    found, _ = read_series(series.files)
    np.testing.assert_array_equal(found, 2.0 * array - 7)
    if syntax != JPEG_LS:  # SimpleITK takes its signed values for unsigned ones
        np.testing.assert_array_equal(found, np.stack([by_itk(path) for path in series.files]))


def test_lossy_jpeg_has_the_values_that_another_decoder_finds(tmp_path: Path) -> None:
    pixels = (voxels(1, 48, 56)[0] // 8 + 100).clip(0, 255).astype(np.uint8)
    path = save(tmp_path / "1", compress(image(pixels, "1"), BASELINE, baseline))
    found, _ = read_series([path])
    other = np.asarray(PIL.Image.open(io.BytesIO(baseline(pixels))))
    assert np.abs(found[0] - other).max() <= 1
    np.testing.assert_array_equal(found[0], by_itk(path))


@pytest.mark.parametrize("kind", [np.uint8, np.int8, np.uint16, np.int16, np.uint32, np.int32])
def test_all_kinds_of_native_values(tmp_path: Path, kind: type) -> None:
    pixels = np.random.default_rng(0).integers(-50, 50, (12, 15)).astype(kind)  # wraps around where unsigned
    if kind is np.uint32:
        pixels >>= 9  # what float32 can hold
    path = save(tmp_path / "1", image(pixels, "1"))
    found, _ = read_series([path])
    np.testing.assert_array_equal(found[0], pixels)
    np.testing.assert_array_equal(found[0], by_itk(path))


def test_each_slice_has_its_own_scale(tmp_path: Path) -> None:
    """As in PET; SimpleITK reads each file by itself."""

    def change(number: int, dataset: Dataset) -> None:
        dataset.RescaleSlope, dataset.RescaleIntercept = f"{0.37 * (number + 1):.6f}", 2 * number

    files = write_series(tmp_path, change=change)
    found, _ = read_series(files)
    expected = [sitk.GetArrayFromImage(sitk.ReadImage(str(path)))[0] for path in files]
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    np.testing.assert_allclose(found[4], voxels()[4] * 1.85 + 8, rtol=1e-6)


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("high", [11, 14])
def test_bits_beside_the_stored_ones_are_no_part_of_the_value(tmp_path: Path, signed: bool, high: int) -> None:
    values = np.random.default_rng(0).integers(-2048, 2048, (12, 16)) if signed else np.arange(192).reshape(12, 16)
    shift = high - 11
    overlay = np.random.default_rng(1).integers(0, 2, values.shape) << 15
    stored = ((values & 0xFFF) << shift | overlay | ((1 << shift) - 1)).astype(np.uint16)
    tags = {"BitsStored": 12, "HighBit": high, "PixelRepresentation": int(signed)}
    found, _ = read_series([save(tmp_path / "1", image(stored, "1", **tags))])
    np.testing.assert_array_equal(found[0], values)


def test_padding_stays_and_monochrome1_is_turned(tmp_path: Path) -> None:
    pixels = voxels(1)[0]
    pixels[:3] = -2000
    path = save(tmp_path / "1", image(pixels, "1", PixelPaddingValue=-2000, RescaleSlope=1, RescaleIntercept=-1024))
    np.testing.assert_array_equal(read_series([path])[0][0], pixels - 1024.0)
    path = save(tmp_path / "1", image(pixels, "1", PhotometricInterpretation="MONOCHROME1"))
    np.testing.assert_array_equal(read_series([path])[0][0], -1.0 - pixels)
    bright = np.array([[0, 4095], [1, 100]], np.uint16)
    tags = {"BitsStored": 12, "HighBit": 11, "PhotometricInterpretation": "MONOCHROME1"}
    path = save(tmp_path / "1", image(bright, "1", **tags))
    np.testing.assert_array_equal(read_series([path])[0][0], [[4095, 0], [4094, 3995]])


@pytest.mark.parametrize(("planar", "rle"), [(0, False), (1, False), (0, True)])
@pytest.mark.parametrize("space", ["RGB", "YBR_FULL"])
def test_colours_need_three_channels(tmp_path: Path, planar: int, rle: bool, space: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (12, 16, 3)).astype(np.uint8)
    tags: dict[str, Any] = {"PlanarConfiguration": planar, "PhotometricInterpretation": space}
    if planar:
        tags["PixelData"] = np.moveaxis(pixels, -1, 0).tobytes()
    dataset = image(pixels, "1", **tags)
    if rle:
        dataset.compress(RLELossless, encoding_plugin="pydicom")
    path = save(tmp_path / "1", dataset)
    with pytest.raises(DataError, match=r"1: a colour image \(3 channels\), but 1 wanted"):
        read_series([path])
    found, grid = read_series([path], channels=3)
    assert found.shape == (3, 1, 12, 16)
    assert grid.size == (16, 12, 1)
    rgb = np.moveaxis(found[:, 0], 0, -1)
    if space == "RGB":
        np.testing.assert_array_equal(rgb, pixels)
    else:
        y, blue, red = np.moveaxis(pixels.astype(float), -1, 0) - np.array([0, 128, 128])[:, None, None]
        expected = np.stack([y + 1.402 * red, y - 0.344136 * blue - 0.714136 * red, y + 1.772 * blue], axis=-1)
        assert np.abs(rgb - expected.clip(0, 255)).max() <= 1
    with pytest.raises(DataError, match=r"grey image"):
        read_series([save(tmp_path / "2", image(pixels[..., 0].copy(), "2"))], channels=3)


def test_frames_of_a_compressed_file_are_decoded_in_its_order(tmp_path: Path) -> None:
    array, order = voxels(4), [2, 0, 3, 1]
    dataset = enhanced(array, order=order)
    frames = [through_itk("JPEG2000", array[at], tmp_path) for at in order]
    dataset.PixelData = pydicom.encaps.encapsulate(frames)
    dataset["PixelData"].VR, dataset["PixelData"].is_undefined_length = "OB", True
    dataset.file_meta.TransferSyntaxUID = JPEG_2000
    scale = np.arange(4)[:, None, None]
    found, _ = read_series([save(tmp_path / "1", dataset)])
    np.testing.assert_array_equal(found, array * (1.0 + scale) - scale)


def test_a_series_may_mix_native_and_compressed_files(tmp_path: Path) -> None:
    array = voxels(4)
    files = [
        save(tmp_path / f"{at}", packed(syntax, image(array[at], f"{at}", ImagePositionPatient=[0, 0, at]), tmp_path))
        for at, syntax in enumerate(("deflated", JPEG_2000, RLELossless, LOSSLESS))
    ]
    np.testing.assert_array_equal(read_series(files)[0], array)


@pytest.mark.parametrize("syntax", ["deflated", RLELossless, LOSSLESS, JPEG_LS, JPEG_2000])
def test_truncated_compressed_files_are_told(tmp_path: Path, syntax: str) -> None:
    path = save(tmp_path / "1.dcm", packed(syntax, image(voxels(1)[0], "1"), tmp_path))
    content = path.read_bytes()
    for length in (len(content) - 1, len(content) - 8, len(content) - 60, len(content) - 200):
        path.write_bytes(content[:length])
        (series,) = find_series(tmp_path)
        assert series.problem is not None, length
        assert "1.dcm: truncated" in series.problem
        with pytest.raises(DataError, match=r"1.dcm: truncated"):
            read_series([path])


@pytest.mark.parametrize("syntax", [LOSSLESS, JPEG_LS, JPEG_2000])
def test_data_that_claim_another_size_are_refused_before_they_are_decoded(tmp_path: Path, syntax: str) -> None:
    dataset = packed(syntax, image(voxels(1)[0], "1"), tmp_path)
    dataset.Rows = 11
    with pytest.raises(DataError, match=r"12 x 16 pixels of 1 samples instead of 11 x 16"):
        read_series([save(tmp_path / "1", dataset)])


def test_a_decoder_that_crashes_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(tmp_path / "1", packed(LOSSLESS, image(voxels(1)[0], "1"), tmp_path))
    script = tmp_path / "crash.py"
    script.write_text("import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)\n")
    monkeypatch.setattr("jcl.data.dicom.decode.__file__", str(script))
    with pytest.raises(DataError, match=r"1: its JPEG data cannot be decoded \(the decoder crashed"):
        read_series([path])
    script.write_text("import time\ntime.sleep(100)\n")
    monkeypatch.setattr("jcl.data.dicom.codec.START_SECONDS", 0.2)
    monkeypatch.setattr("jcl.data.dicom.codec.FRAME_SECONDS", 0)
    with pytest.raises(DataError, match=r"too much time"):
        read_series([path])


@pytest.mark.slow
def test_what_expands_without_end_takes_no_memory(tmp_path: Path) -> None:
    """A deflated file of some MB that holds 2 GB."""
    path = save(tmp_path / "1.dcm", deflated(image(voxels(1)[0], "1")))
    content = path.read_bytes()
    start = 144 + int.from_bytes(content[140:144], "little")
    packer = zlib.compressobj(level=1, wbits=-15)
    with path.open("wb") as file:
        file.write(content[:start] + packer.compress(zlib.decompress(content[start:], -15)))
        for _ in range(2 << 10):
            file.write(packer.compress(bytes(1 << 20)))
        file.write(packer.flush())
    code = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30));"
        "from pathlib import Path; from jcl.data.dicom.header import read_header;"
        "print(read_header(Path(sys.argv[1])).problem, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    )
    found = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    assert "more than 536870912 bytes deflated" in found.stdout
    assert int(found.stdout.split()[-1]) < 2 << 20
