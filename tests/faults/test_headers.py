"""Hostile headers of NRRD, MetaImage and NIfTI: no crash, no hang, bounded memory, and no other file is read.

DICOM headers have a test of their own, `tests/data/dicom/test_fuzz.py`.
"""

import gzip
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from jcl.data.imagefile import readable, voxel_file
from jcl.data.volumes import read_image
from jcl.errors import DataError

SCRIPT = r"""
import faulthandler, resource, sys, time
from pathlib import Path
import numpy as np
from jcl.data.grids import read_grid
from jcl.errors import DataError

faulthandler.enable()
_, hard = resource.getrlimit(resource.RLIMIT_AS)
resource.setrlimit(resource.RLIMIT_AS, (4 << 30, hard))
seed, end, first, last = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
content, target = seed.read_bytes(), seed.with_name("x" + "".join(seed.suffixes))
packed = seed.suffix == ".gz"
if packed:
    import gzip
    content = gzip.decompress(content)
SECRET = str(seed.parent.parent / "secret.raw").encode()
WORDS = [
    b"\r", b"\n", b"\r\n", b"\n\n", b"\0", b" ", b"\t", b":", b": ", b":=", b"=", b" = ", b" : ", b"#", b"%", b"-1",
    b"0", b"1e9", b"99999", b"2147483647", b"9223372036854775808", b"nan", b"LIST", b"LOCAL", b"local",
    b"../secret.raw",
    SECRET,
    b"data file: ../secret.raw\n", b"datafile: ../secret.raw\n", b"Data File: ../secret.raw\n",
    b"\rdata file: ../secret.raw\r",
    b"data file: ../secret%d.raw 1 9 1\n", b"data file: LIST\n../secret.raw\n", b"data file := ../secret.raw\n",
    b"ElementDataFile = ../secret.raw\n", b"ElementDataFile : ../secret.raw\n", b"\rElementDataFile = ../secret.raw\r",
    b"ElementDataFile = LIST\n../secret.raw\n", b"ElementDataFile = ../secret%d.raw 1 9 1\n", b"HeaderSize = -1\n",
    b"ElementNumberOfChannels = 400000\n", b"CompressedDataSize = 4000000000\n", b"CompressedData = True\n",
    b"BinaryData = False\n", b"NDims = 9\n", b"block size: 1000000000\n", b"type: block\n", b"line skip: 9\n",
    b"byte skip: -1\n", b"encoding: hex\n", b"encoding: ascii\n", b"encoding: bzip2\n", b"space: scanner-xyz\n",
]
read = refused = 0
slowest = 0.0
for number in range(first, last):
    random = np.random.default_rng(number)
    changed = bytearray(content)
    for _ in range(0 if number == first else int(random.integers(1, 4))):
        at = int(random.integers(0, min(end, len(changed))))
        kind = random.random()
        if kind < 0.4:
            changed[at] = int(random.choice([0, 255, random.integers(256), changed[at] ^ 1 << int(random.integers(8))]))
        elif kind < 0.5:
            del changed[at : at + int(random.integers(1, 16))]
        else:
            lines = [0, *(spot + 1 for spot in range(min(end, len(changed))) if changed[spot : spot + 1] == b"\n")]
            at = int(random.choice(lines)) if random.random() < 0.7 else at
            word = WORDS[int(random.integers(len(WORDS)))]
            changed[at : at + (0 if random.random() < 0.7 else len(word))] = word
    target.write_bytes(gzip.compress(changed, 1) if packed else changed)
    print(number, file=sys.stderr, flush=True)
    before = time.monotonic()
    try:
        array = read_grid(target).array
        assert array.size < 1 << 20 and not (array.view(np.uint8) == 0x5A).mean() > 0.5, number
        read += 1
    except DataError as error:
        assert number > first, error
        assert "\n" not in str(error) and "x." in str(error), error
        refused += 1
    slowest = max(slowest, time.monotonic() - before)
# not ru_maxrss: it begins with that of the process that started this one
peak = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM")) // 1024
print(read, refused, f"{slowest:.1f}", peak)
"""

SEEDS = ("a.nrrd", "raw.nrrd", "a.mha", "raw.mha", "raw.mhd", "a.nii", "a.nii.gz")


def mutated(folder: Path, name: str, first: int, last: int) -> tuple[int, int]:
    """Of so many changed headers, how many were read and how many refused."""
    inside = folder / "in"
    inside.mkdir()
    array = np.random.default_rng(0).integers(0, 80, (4, 12, 10)).astype(np.int16)
    path = inside / name
    sitk.WriteImage(sitk.GetImageFromArray(array), str(path), useCompression=not name.startswith("raw"))
    (folder / "secret.raw").write_bytes(b"\x5a" * 200_000)
    content = path.read_bytes()
    end = {".nrrd": content.find(b"\n\n") + 2, ".mha": content.find(b"LOCAL\n") + 6}.get(path.suffix, 348)
    end = len(content) if path.suffix == ".mhd" else end
    command = [sys.executable, "-c", SCRIPT, str(path), str(end), str(first), str(last)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1500)
    assert done.returncode == 0, done.stderr[-2000:]
    read, refused, slowest, peak = map(float, done.stdout.split())
    assert read + refused == last - first
    assert slowest < 20
    assert peak < 800  # MB, of which libraries take some 300
    assert not {each.name for each in inside.iterdir()} - {name, f"x{''.join(path.suffixes)}", "raw.raw", "a.raw"}
    return int(read), int(refused)


@pytest.mark.parametrize("name", SEEDS)
def test_changed_headers(tmp_path: Path, name: str):
    read, refused = mutated(tmp_path, name, 0, 150)
    assert read >= 1
    assert refused >= 50


@pytest.mark.slow
@pytest.mark.parametrize("name", SEEDS)
def test_thousands_of_changed_headers(tmp_path: Path, name: str):
    read, refused = mutated(tmp_path, name, 1000, 4000)
    assert read >= 20
    assert refused >= 1000


def saved(path: Path, *, packed: bool = False) -> bytes:
    array = np.random.default_rng(0).integers(0, 80, (4, 12, 10)).astype(np.int16)
    sitk.WriteImage(sitk.GetImageFromArray(array), str(path), useCompression=packed)
    return path.read_bytes()


def refusal(path: Path) -> str | None:
    try:
        read_image([path])
    except DataError as error:
        message = str(error)
    else:
        return None
    assert "\n" not in message
    return message


@pytest.mark.parametrize(
    "line",
    [
        "data file: ../secret.raw", "Data File: ../secret.raw", "datafile: ../secret.raw", "data file: LIST",
        "data file: secret%03d.raw 1 9 1", "DATAFILE: a", "data file:../secret.raw", " data file: ../secret.raw",
        "data  file: ../secret.raw", "content: x\rdata file: ../secret.raw", "data file:\t../secret.raw", "unknown: 3",
        "sizes: 10 12 5", "Sizes: 1000 12 4", "byte skip: -1", "line skip: 3", "type: block", "encoding: zrl",
        "no field",
        "dimension: 4", "type: float", "sizes: 1_0 12 4",
    ],
)  # fmt: skip
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_lines_that_a_nrrd_must_not_have(tmp_path: Path, line: str, end: str):
    path = tmp_path / "a.nrrd"
    content = saved(path)
    path.write_bytes(content.replace(b"encoding: ", f"{line}{end}encoding: ".encode()))
    assert refusal(path)


@pytest.mark.parametrize(
    "line", ["# data file: ../x", "key:=data file: ../x", "key:= sizes: 9 9 9", "content: a: b := c"]
)
def test_comments_and_keys_of_a_nrrd_say_nothing(tmp_path: Path, line: str):
    path = tmp_path / "a.nrrd"
    content = saved(path)
    path.write_bytes(content.replace(b"encoding: ", f"{line}\nencoding: ".encode()))
    assert refusal(path) is None
    path.write_bytes(
        content[: content.find(b"\n\n")].replace(b"\n", b"\r\n") + b"\r\n\r\n" + content.split(b"\n\n", 1)[1]
    )
    assert refusal(path) is None


@pytest.mark.parametrize(
    "line",
    [
        "ElementDataFile = LIST", "ElementDataFile = LIST 2", "ElementDataFile = LISTa.raw",
        "ElementDataFile = a%d.raw 1 4 1",
        "ElementDataFile = ../a.raw", "ElementDataFile = sub\\a.raw", "ElementDataFile : ../a.raw", "ElementDataFile =",
        "elementdatafile = a.raw", "x = 1\rElementDataFile = /etc/passwd", "ElementDataFile:/etc/passwd = a.raw",
        "no key",
        "ElementNumberOfChannels = 4000", "DimSize = 10 12 5", "HeaderSize = 5", "CompressedDataSize = 99999999999",
        "CompressedData = Maybe", "ObjectType = Scene", "NDims = 4", "ElementType = MET_STRING", "dimsize = 10 12 4",
        "k" * 300 + " = 1", "\fElementDataFile = a.raw",
    ],
)  # fmt: skip
def test_lines_that_a_metaimage_must_not_have(tmp_path: Path, line: str):
    path = tmp_path / "a.mha"
    content = saved(path)
    path.write_bytes(content.replace(b"DimSize", f"{line}\nDimSize".encode()))
    assert refusal(path)


def test_other_keys_of_a_metaimage_say_nothing(tmp_path: Path):
    path = tmp_path / "a.mha"
    lines = b"Comment = a = b: c\nDICOM_0020|0011 = 2\nSeq_Frame0000_Status = OK\n"
    path.write_bytes(saved(path).replace(b"DimSize", lines + b"DimSize"))
    assert refusal(path) is None


def test_a_name_that_is_not_ascii_of_voxels_beside_a_header(tmp_path: Path):
    path = tmp_path / "pä患.mhd"
    saved(path)
    assert refusal(path) is None
    assert voxel_file(path) == tmp_path / "pä患.raw"


def test_what_is_not_utf8_in_a_path_does_not_end_the_process(tmp_path: Path):
    path = tmp_path / "a.mha"
    saved(path)
    other = path.rename(tmp_path / "p\udce4.mha")
    assert re.search("its path is not text in UTF-8", refusal(other) or "")


def test_members_of_a_gzip_file(tmp_path: Path):
    path = tmp_path / "a.nii"
    content = saved(path)
    packed = tmp_path / "b.nii.gz"
    packed.write_bytes(b"".join(gzip.compress(content[at : at + 100]) for at in range(0, len(content), 100)))
    with readable(packed):
        pass
