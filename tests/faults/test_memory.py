"""Small files that claim, or unpack to, much: refused by their headers, before memory is taken."""

import gzip
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from PIL import Image

from jcl.cli.main import main
from jcl.data.imagefile.budget import VARIABLE, check_memory, scan_memory
from jcl.data.volumes import read_image
from jcl.errors import DataError, UsageError
from jcl.parallel.machine import memory_limit
from support.dicomfiles import write_series

READ = r"""
import resource, sys
from pathlib import Path
from jcl.data.volumes import read_image
from jcl.errors import DataError
from jcl.training.checkpoint import read_weights
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for name in sys.argv[1:]:
    path = Path(name)
    try:
        read_weights(path) if path.suffix == ".safetensors" else read_image([path])
        print("read", name)
    except DataError as error:
        assert "\n" not in str(error)
        print("refused", error)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


def nifti(size: tuple[int, int, int], kind: int = 4, bits: int = 16) -> bytearray:
    header = bytearray(352)
    struct.pack_into("<i", header, 0, 348)
    struct.pack_into("<4h", header, 40, 3, *size)
    struct.pack_into("<2h", header, 70, kind, bits)
    struct.pack_into("<4f", header, 76, 1, 1, 1, 1)
    struct.pack_into("<3f", header, 108, 352, 1, 0)
    header[344:348] = b"n+1\0"
    return header


def bombs(folder: Path) -> list[Path]:
    """Files of at most some MB that claim gigabytes; each has as many bytes as its format needs to be believed."""
    made: dict[str, bytes] = {}
    zeros = zlib.compress(bytes(1 << 20), 9)
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    packed = packer.compress(bytes(nifti((1100, 1100, 1000))))
    packed += b"".join(packer.compress(bytes(1 << 20)) for _ in range(64)) + packer.flush()
    made["a.nii.gz"] = packed + bytes(3 << 20)
    made["b.nii"] = bytes(nifti((1290, 1290, 1290), 64, 64)) + bytes(1000)
    made["members.nii.gz"] = b"".join(gzip.compress(part) for part in (bytes(nifti((900, 900, 900))), bytes(1 << 20)))
    meta = "ObjectType = Image\nNDims = 3\nDimSize = {}\n{}ElementType = {}\nElementDataFile = LOCAL\n"
    made["a.mha"] = meta.format("8 8 8", "ElementNumberOfChannels = 400000\n", "MET_DOUBLE").encode()
    made["b.mha"] = meta.format("1200 1200 1200", "CompressedData = True\n", "MET_DOUBLE").encode() + zeros
    sized = "CompressedData = True\nCompressedDataSize = 4000000000\n"
    made["c.mha"] = meta.format("60 60 60", sized, "MET_SHORT").encode() + zeros
    nrrd = "NRRD0004\ntype: {}\ndimension: 3\nsizes: {}\nendian: little\nencoding: {}\n{}\n"
    made["a.nrrd"] = nrrd.format("double", "1200 1200 1200", "gzip", "").encode() + gzip.compress(bytes(1 << 20))
    made["b.nrrd"] = nrrd.format("block", "8 8 8", "raw", "block size: 6000000\n").encode() + bytes(600)
    made["c.nrrd"] = nrrd.format("short", "900 900 900", "ascii", "").encode() + b"1 " * 1000
    Image.fromarray(np.zeros((64, 64), np.uint8)).save(folder / "p.png")
    picture = bytearray((folder / "p.png").read_bytes())
    struct.pack_into(">2I", picture, 16, 40000, 40000)
    struct.pack_into(">I", picture, 29, zlib.crc32(picture[12:29]))
    made["a.png"] = bytes(picture)
    Image.fromarray(np.zeros((64, 64), np.uint8)).save(folder / "p.jpg")
    photo = bytearray((folder / "p.jpg").read_bytes())
    struct.pack_into(">2H", photo, photo.find(b"\xff\xc0") + 5, 65000, 33000)
    made["a.jpg"] = bytes(photo)
    made["a.safetensors"] = struct.pack("<Q", 1 << 40) + b"{" + bytes(1000)
    text = b'{"a":{"dtype":"F32","shape":[1000000000],"data_offsets":[0,4000000000]}}'
    made["b.safetensors"] = struct.pack("<Q", len(text)) + text
    for name, content in made.items():
        (folder / name).write_bytes(content)
    return [folder / name for name in made]


def test_bombs_are_refused_by_their_headers(tmp_path: Path):
    paths = bombs(tmp_path)
    done = subprocess.run([sys.executable, "-c", READ, *map(str, paths)], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    *lines, taken = done.stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["refused"] * len(paths), lines
    assert len(paths) == 13
    assert int(taken) < 100  # MB


def test_one_scan_takes_no_more_than_is_allowed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    array = np.random.default_rng(0).integers(0, 200, (16, 128, 128)).astype(np.int16)
    needed = array.size * 14
    for suffix in (".nii", ".nii.gz", ".nrrd", ".mha", ".mhd"):
        path = tmp_path / f"a{suffix}"
        sitk.WriteImage(sitk.GetImageFromArray(array), str(path))
        monkeypatch.setenv(VARIABLE, str(1.01 * needed / 1e9))
        assert read_image([path]).array.shape == (1, 16, 128, 128)
        monkeypatch.setenv(VARIABLE, "0.002")
        with pytest.raises(
            DataError, match=r"needs 4 MB of memory .* the 2 MB .* leave it out, or set JCL_MEMORY_GB=1"
        ):
            read_image([path])
    for suffix, value in ((".png", "0.0000001"), (".jpg", "0.0000001")):
        path = tmp_path / f"p{suffix}"
        Image.fromarray(array[0].astype(np.uint8)).save(path)
        monkeypatch.setenv(VARIABLE, value)
        with pytest.raises(DataError, match="of memory by its header"):
            read_image([path])


def test_a_series_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    write_series(tmp_path / "in" / "anna")
    monkeypatch.setenv(VARIABLE, "0.000001")
    assert main(["prepare", str(tmp_path / "in"), "--out", str(tmp_path / "store"), "--workers", "1"]) == 3
    assert "of memory by its header, more than the" in capsys.readouterr().err


def test_what_is_allowed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.delenv(VARIABLE, raising=False)
    limit = memory_limit()
    assert scan_memory() == (None if limit is None else limit // 2)
    for wrong in ("much", "0", "-1", "nan", "inf"):
        monkeypatch.setenv(VARIABLE, wrong)
        with pytest.raises(UsageError, match=r"JCL_MEMORY_GB is .*; it has to be a number of GB above 0"):
            scan_memory()
    monkeypatch.setenv(VARIABLE, "3")
    assert scan_memory() == 3_000_000_000
    check_memory(tmp_path, 2e8, 2)
    with pytest.raises(DataError, match="set JCL_MEMORY_GB=5"):
        check_memory(tmp_path, 3e8, 2)
