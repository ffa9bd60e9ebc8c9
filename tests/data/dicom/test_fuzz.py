"""Hostile DICOM files: whatever bytes are changed, there is a result or a DataError, in bounded time and memory."""

import os
import subprocess
import sys
from pathlib import Path

import pydicom
import pytest
from pydicom.uid import RLELossless

from support.dicomcoders import BASELINE, JPEG_2000, JPEG_LS, LOSSLESS, packed
from support.dicomfiles import deflated, enhanced, image, save, voxels
from support.effort import LONG

SCRIPT = r"""
import faulthandler, resource, shutil, sys, time
from pathlib import Path
import numpy as np
from jcl.data.dicom.series import search_series
from jcl.data.dicom.voxels import read_series
from jcl.errors import DataError

faulthandler.enable()
resource.setrlimit(resource.RLIMIT_AS, (8 << 30, 8 << 30))
seed, folder, work = Path(sys.argv[1]), None, Path(sys.argv[2])
content = seed.read_bytes()
pixels = int(sys.argv[3])
first, last = int(sys.argv[4]), int(sys.argv[5])
read = refused = 0
slowest = 0.0
work.mkdir()
inside = work / "in"
inside.mkdir()
for number in range(first, last):
    random = np.random.default_rng(number)
    changed = bytearray(content)
    start, end = (pixels, len(changed)) if random.random() < 0.5 else (132, min(len(changed), pixels + 8))
    for _ in range(int(random.integers(1, 4))):
        at = int(random.integers(start, end))
        changed[at] = int(random.choice([0, 255, random.integers(256), changed[at] ^ 1 << int(random.integers(8))]))
    kind = random.random()
    if number == first:
        changed = content  # which can be read, lest all be refused for another reason
    elif kind < 0.1:
        changed = changed[: int(random.integers(0, len(changed)))]
    elif kind < 0.15:
        at = int(random.integers(start, end))
        changed[at:at] = random.bytes(int(random.integers(1, 64)))
    elif kind < 0.2:
        at = int(random.integers(start, end))
        del changed[at : at + int(random.integers(1, 64))]
    (inside / "a").write_bytes(changed)
    before = time.monotonic()
    print(number, file=sys.stderr, flush=True)
    for series in search_series(inside).series:
        assert series.name and "\n" not in (series.problem or "")
        try:
            array, grid = read_series(series.files)
            assert series.problem is None and array.shape == grid.size[::-1]
            read += 1
        except DataError as error:
            assert number > first and "\n" not in str(error), error
            refused += 1
    slowest = max(slowest, time.monotonic() - before)
assert [path.name for path in work.rglob("*")] == ["in", "a"]
peak = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)) // 1024
print(f"{read} read, {refused} refused, slowest {slowest:.1f} s, peak {peak} MB")
assert slowest < 20
assert peak < 4000
"""

SYNTAXES = ["native", "implicit", "enhanced", "deflated", RLELossless, BASELINE, LOSSLESS, JPEG_LS, JPEG_2000]
DECODED = (BASELINE, LOSSLESS, JPEG_LS, JPEG_2000)


def sample(folder: Path, syntax: str) -> Path:
    array = voxels(3)
    if syntax == "enhanced":
        return save(folder / "seed", enhanced(array))
    pixels = array[0] if syntax != BASELINE else (array[0] // 8 + 100).clip(0, 255).astype("u1")
    dataset = image(pixels, "1", RescaleSlope=2, RescaleIntercept=-3, NumberOfFrames=1)
    if syntax == "implicit":
        dataset.file_meta.TransferSyntaxUID = pydicom.uid.ImplicitVRLittleEndian
    elif syntax == "deflated":
        dataset = deflated(dataset)
    elif syntax != "native":
        dataset = packed(syntax, dataset, folder)
    return save(folder / "seed", dataset)


def fuzz(tmp_path: Path, syntax: str, first: int, last: int) -> str:
    seed = sample(tmp_path, syntax)
    content = seed.read_bytes()
    pixels = max(content.rfind(b"\xe0\x7f\x10\x00"), 132) if syntax != "deflated" else 360
    command = [sys.executable, "-c", SCRIPT, str(seed), str(tmp_path / "work"), str(pixels), str(first), str(last)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=280, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_changed_bytes_never_crash(tmp_path: Path, syntax: str) -> None:
    """A file that is decoded is read by a process of its own, which takes longer."""
    few, many = (8, 100) if syntax in DECODED else (60, 600)
    print(fuzz(tmp_path, syntax, 0, many if LONG else few))
