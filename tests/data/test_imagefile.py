"""Damaged, lying and hostile image files: each is a named error, before a reader can be misled or harmed."""

import gzip
import os
import re
import resource
import struct
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from PIL import Image

from jcl.data.imagefile import readable
from jcl.data.volumes import read_image
from jcl.errors import DataError
from jcl.files import WriteError, write_error
from support.effort import LONG

PACKED = [".nii.gz", ".nrrd", ".mha", ".mhd", ".png"]


def save(path: Path, *, packed: bool = True) -> tuple[Path, Path]:
    """A file, and the one that holds its voxels."""
    array = np.random.default_rng(0).integers(0, 200, (6, 20, 22))
    image = sitk.GetImageFromArray(array[0].astype(np.uint8) if path.suffix == ".png" else array.astype(np.int16))
    sitk.WriteImage(image, str(path), useCompression=packed)
    return path, path if path.suffix != ".mhd" else path.with_suffix(".zraw" if packed else ".raw")


def refusal(path: Path) -> str | None:
    try:
        read_image([path])
    except DataError as error:
        message = str(error)
    else:
        return None
    assert str(path.with_suffix("")).removesuffix(".nii") in message
    assert "\n" not in message
    return message


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("suffix", [*PACKED, ".nii"])
def test_every_truncation_is_noticed(tmp_path: Path, suffix: str, packed: bool) -> None:
    path, data = save(tmp_path / f"a{suffix}", packed=packed)
    content = data.read_bytes()
    assert refusal(path) is None
    for length in (0, 1, 5, 100, 347, 351, len(content) // 2, len(content) - 9, len(content) - 4, len(content) - 1):
        data.write_bytes(content[:length])
        assert refusal(path) is not None, length


@pytest.mark.parametrize("suffix", PACKED)
def test_every_flipped_byte_of_packed_voxels_is_noticed(tmp_path: Path, suffix: str) -> None:
    path, data = save(tmp_path / f"a{suffix}")
    content = data.read_bytes()
    random = np.random.default_rng(1)
    starts = {".nii.gz": 10, ".png": 0, ".mhd": 0}
    start = starts.get(suffix) or max(content.find(b"\x1f\x8b"), content.find(b"LOCAL\n") + 6)
    # The flag byte of a gzip header inside a .nrrd may turn text into a file name; the voxels stay what they were.
    start += 10 if suffix == ".nrrd" else 0
    for at in random.integers(start, len(content), 150):
        damaged = bytearray(content)
        damaged[at] ^= 1 << int(random.integers(8))
        data.write_bytes(damaged)
        assert refusal(path) is not None, at


def test_names_that_lie(tmp_path: Path) -> None:
    text = "case,label\n1,2\n" * 60
    for suffix, words in {
        ".nii.gz": "not gzip-compressed, though its name ends in .gz",
        ".nii": "not a NIfTI file",
        ".nrrd": "not a NRRD file|its header has no end",
        ".mha": "which no .mha file has",
        ".mhd": "which no .mhd file has",
        ".png": "not a PNG file",
    }.items():
        path = tmp_path / f"a{suffix}"
        path.write_text(text)
        assert re.search(words, refusal(path) or ""), suffix
    (tmp_path / "b.nii.gz").write_bytes(gzip.compress(text.encode()))
    assert "not a NIfTI file" in (refusal(tmp_path / "b.nii.gz") or "")
    assert "no such file" in (refusal(tmp_path / "none.nii.gz") or "")
    assert "no such file" in (refusal(tmp_path / "none.mha") or "")


def header(array: np.ndarray, **changes: tuple[str, int, float]) -> bytes:
    """A NIfTI file with values of its header overwritten."""
    content = bytearray(nibabel.Nifti1Image(array, np.eye(4)).to_bytes())
    for kind, at, value in changes.values():
        struct.pack_into(kind, content, at, value)
    return bytes(content)


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf")])
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_spacing_of_a_nifti(tmp_path: Path, value: float, suffix: str) -> None:
    """SimpleITK takes each of these for 1."""
    content = header(np.arange(60, dtype=np.int16).reshape(3, 4, 5), spacing=("<f", 84, value))
    path = tmp_path / f"a{suffix}"
    path.write_bytes(gzip.compress(content) if suffix == ".nii.gz" else content)
    assert "has to be above 0 mm: correct the file's header" in (refusal(path) or "")


@pytest.mark.parametrize("value", ["0", "-1", "nan", "inf", "x"])
def test_spacing_of_metaimage_and_nrrd(tmp_path: Path, value: str) -> None:
    path, _ = save(tmp_path / "a.mha", packed=False)
    path.write_bytes(path.read_bytes().replace(b"ElementSpacing = 1 1 1", f"ElementSpacing = 1 {value} 1".encode()))
    assert refusal(path)
    path, _ = save(tmp_path / "a.nrrd", packed=False)
    content = path.read_bytes().replace(b"space: left-posterior-superior\n", b"")
    content = content.replace(b"space origin: (0,0,0)\n", b"")
    content = content.replace(b"space directions: (1,0,0) (0,1,0) (0,0,1)", f"spacings: 1 {value} 1".encode())
    path.write_bytes(content)
    assert refusal(path)


@pytest.mark.parametrize(
    "changes",
    [
        {"rank": ("<h", 40, 0)},
        {"rank": ("<h", 40, 9)},
        {"size": ("<h", 42, -3)},
        {"size": ("<h", 42, 0)},
        {"size": ("<h", 42, 32000)},
        {"sizes": ("<h", 42, 32000), "more": ("<h", 44, 32000)},
        {"bits": ("<h", 72, 0)},
        {"offset": ("<f", 108, float("nan"))},
        {"offset": ("<f", 108, -9.0)},
        {"offset": ("<f", 108, 1e9)},
        {"slope": ("<f", 112, float("nan"))},
        {"intercept": ("<f", 116, float("inf"))},
        {"affine": ("<f", 292, float("nan"))},
        {"code": ("<h", 252, 1), "quaternion": ("<f", 260, float("nan"))},
        {"kind": ("<h", 70, 1)},
        {"kind": ("<h", 70, 999)},
    ],
)
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_headers_that_cannot_be(tmp_path: Path, changes: dict[str, tuple[str, int, float]], suffix: str) -> None:
    content = header(np.arange(60, dtype=np.int16).reshape(3, 4, 5), **changes)
    path = tmp_path / f"a{suffix}"
    path.write_bytes(gzip.compress(content) if suffix == ".nii.gz" else content)
    assert refusal(path)


@pytest.mark.parametrize("order", ["<", ">"])
def test_both_byte_orders_of_nifti(tmp_path: Path, order: str) -> None:
    array = np.arange(60, dtype=np.int16).reshape(3, 4, 5)
    image = nibabel.Nifti1Image(array, np.eye(4), nibabel.Nifti1Image(array, np.eye(4)).header.as_byteswapped(order))
    path = tmp_path / "a.nii"
    path.write_bytes(image.to_bytes())
    np.testing.assert_array_equal(np.sort(read_image([path]).array.ravel()), np.arange(60))
    path.write_bytes(image.to_bytes()[:-1])
    assert "truncated" in (refusal(path) or "")
    image = nibabel.Nifti2Image(array, np.eye(4), nibabel.Nifti2Image(array, np.eye(4)).header.as_byteswapped(order))
    path.write_bytes(image.to_bytes())
    assert "version 2 cannot be read; convert" in (refusal(path) or "")


def test_more_bytes_than_claimed_are_checked_but_not_written(tmp_path: Path) -> None:
    content = header(np.arange(60, dtype=np.int16).reshape(3, 4, 5))
    path = tmp_path / "a.nii.gz"
    path.write_bytes(gzip.compress(content) + gzip.compress(bytes(30_000_000)))
    with readable(path) as file:
        assert file.stat().st_size == len(content)
    assert not file.exists()
    damaged = bytearray(path.read_bytes())
    damaged[-6] ^= 1
    path.write_bytes(damaged)
    assert "corrupt" in (refusal(path) or "")


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace(b"DimSize = 22 20 6", b"DimSize = 22000 20000 6000"),
        lambda text: text.replace(b"DimSize = 22 20 6", b"DimSize = 1290 1290 1290"),
        lambda text: text.replace(b"DimSize = 22 20 6", b"DimSize = 22 20 6\nDimSize = 2200 2000 600"),
        lambda text: text.replace(b"DimSize = 22 20 6", b"DimSize = 22 -20 6"),
        lambda text: text.replace(b"DimSize = 22 20 6\n", b""),
        lambda text: text.replace(b"sizes: 22 20 6", b"sizes: 22000 20000 6000"),
        lambda text: text.replace(b"sizes: 22 20 6", b"sizes: 22 20 0"),
        lambda text: text.replace(b"sizes: 22 20 6\n", b""),
    ],
)
@pytest.mark.parametrize("packed", [True, False])
def test_absurd_sizes_are_refused_before_memory_is_taken(
    tmp_path: Path, change: Callable[[bytes], bytes], packed: bool
) -> None:
    for suffix in (".mha", ".nrrd"):
        path, _ = save(tmp_path / f"a{suffix}", packed=packed)
        before = path.read_bytes()
        if change(before) != before:
            path.write_bytes(change(before))
            before_peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            assert refusal(path)
            assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_peak < 200_000  # KiB


def test_voxels_of_a_header_elsewhere_are_not_read(tmp_path: Path) -> None:
    secret = tmp_path / "secret.raw"
    secret.write_bytes(bytes(range(240)) * 22)
    folder = tmp_path / "source"
    folder.mkdir()
    path, data = save(folder / "a.mhd", packed=False)
    text = path.read_text()
    for name in ("../secret.raw", str(secret), "sub/../../secret.raw"):
        path.write_text(text.replace("ElementDataFile = a.raw", f"ElementDataFile = {name}"))
        assert "a single file beside it is needed" in (refusal(path) or "")
    path.write_text(text)
    data.unlink()
    assert "missing; it holds the voxels of a.mhd" in (refusal(path) or "")
    nrrd, _ = save(folder / "b.nrrd", packed=False)
    nrrd.write_bytes(nrrd.read_bytes().replace(b"encoding: raw\n", b"encoding: raw\ndata file: ../secret.raw\n"))
    assert "another file" in (refusal(nrrd) or "")


def test_a_png_that_claims_too_much(tmp_path: Path) -> None:
    path, _ = save(tmp_path / "a.png")
    content = bytearray(path.read_bytes())
    struct.pack_into(">II", content, 16, 60000, 60000)
    struct.pack_into(">I", content, 29, zlib.crc32(content[12:29]))
    path.write_bytes(content)
    assert refusal(path)


def test_a_jpeg_that_is_cut_or_claims_too_much(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    noise = np.random.default_rng(0).integers(0, 255, (40, 50, 3), np.uint8)
    Image.fromarray(noise).save(path, exif=b"Exif\0\0" + b"\xff\xd9" * 9)  # a preview brings an end mark of its own
    content = path.read_bytes()
    assert read_image([path], channels=3).array.shape == (3, 1, 40, 50)
    for length in range(1, len(content), 7):
        path.write_bytes(content[:length])
        assert "JPEG" in (said := refusal(path) or "") or "truncated" in said or "no size" in said, length
    place = content.index(b"\xff\xc0") + 5
    path.write_bytes(content[:place] + struct.pack(">HH", 65000, 65000) + content[place + 4 :])
    assert "claims" in (refusal(path) or "")


def test_a_full_disk_is_no_fault_of_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A real limit on the size of files, in a process of its own; and a temporary folder that is not there."""
    array = np.random.default_rng(0).integers(0, 9999, (40, 64, 64)).astype(np.int16)
    path = tmp_path / "a.nii.gz"
    sitk.WriteImage(sitk.GetImageFromArray(array), str(path))
    code = (
        "import resource, sys\nfrom pathlib import Path\nfrom jcl.data.imagefile import readable\n"
        "from jcl.files import WriteError\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
        "try:\n    with readable(Path(sys.argv[1])): pass\n"
        "except WriteError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    assert re.search(r"volume\.nii: cannot be written \(File too large\); free some space", done.stdout)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "none"))
    with pytest.raises(WriteError, match="cannot be written"), readable(path):
        pass


def test_what_cannot_be_written_is_named() -> None:
    full = write_error(Path("x"), OSError(28, "No space left on device"))
    assert str(full) == "x: cannot be written (No space left on device); free some space and run the same command again"
    assert str(write_error(Path("x"), OSError(13, "Permission denied"))) == "x: cannot be written (Permission denied)"


FUZZ = """
import resource, sys
import numpy as np
from pathlib import Path
from jcl.data.volumes import read_image
from jcl.errors import DataError
resource.setrlimit(resource.RLIMIT_AS, (12 << 30, 12 << 30))
folder, seed, count = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
random = np.random.default_rng(seed)
before = sorted(folder.parent.iterdir())
outcomes = [0, 0]
for path in sorted(folder.glob("seed*")):
    content = path.read_bytes()
    reach = min(len(content), 600)
    target = folder / ("mutant" + "".join(path.suffixes))
    for number in range(count):
        mutant = bytearray(content)
        for _ in range(int(random.integers(1, 6))):
            at = int(random.integers(min(reach, len(mutant))))
            kind = int(random.integers(4))
            if kind == 0:
                mutant[at] = int(random.integers(256))
            elif kind == 1:
                mutant[at:at + 2] = random.bytes(2)
            elif kind == 2:
                del mutant[at:at + int(random.integers(1, 9))]
            else:
                mutant[at:at] = random.bytes(int(random.integers(1, 9)))
        target.write_bytes(mutant)
        try:
            read_image([target])
            outcomes[0] += 1
        except DataError as error:
            assert "\\n" not in str(error), error
            outcomes[1] += 1
    target.unlink()
assert sorted(folder.parent.iterdir()) == before
assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < 3_000_000
print(*outcomes)
"""


def fuzz(tmp_path: Path, count: int, seed: int) -> None:
    folder = tmp_path / "fuzz"
    folder.mkdir()
    for suffix in (".nii", ".nrrd", ".mha"):
        save(folder / f"seed{suffix}", packed=False)
    save(folder / "seed.png")
    for suffix in (".nrrd", ".mha"):
        save(folder / f"seed2{suffix}")
    done = subprocess.run(
        [sys.executable, "-c", FUZZ, str(folder), str(seed), str(count)],
        capture_output=True, text=True, env={**os.environ, "TMPDIR": str(tmp_path)}, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    read, refused = map(int, done.stdout.split())
    assert read + refused == 6 * count
    assert refused > count


def test_mutated_headers_do_no_harm(tmp_path: Path) -> None:
    fuzz(tmp_path, 2000 if LONG else 100, seed=0)
