"""A file that is not what its name says is named for what it is, in one line that says what to do."""

import os
import re
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from PIL import Image

from jcl.data.datasets import load_spec
from jcl.data.splits import read_split
from jcl.data.volumes import read_image
from jcl.errors import JclError
from jcl.files import read_json
from jcl.training.checkpoint import read_weights

ARRAY = np.random.default_rng(0).integers(0, 99, (4, 9, 8)).astype(np.int16)
JARGON = re.compile(
    r"(?i)traceback|errno|itk::|sitk|0x[0-9a-f]{6}|exception|zlib|Error -\d|deserializ|Headertoo|decode byte|codec"
    r"|Expecting |pickle\.|unpickl|KeyError|NoneType|object has no attribute"
)
"""What only those who know the libraries understand."""


def content(suffix: str, folder: Path) -> bytes:
    """A sound file of a format."""
    path = folder / f"sound{suffix}"
    sitk.WriteImage(
        sitk.GetImageFromArray(ARRAY if suffix in (".nii", ".nii.gz", ".nrrd", ".mha") else PICTURE), str(path)
    )
    return path.read_bytes()


PICTURE = ARRAY[0].astype(np.uint8)
SUFFIXES = [".nii.gz", ".nii", ".nrrd", ".mha", ".png", ".jpg"]


def error_of(path: Path) -> str:
    with pytest.raises(JclError) as caught:
        read_image([path])
    text = str(caught.value)
    assert text.startswith(f"{path}: ")
    assert "\n" not in text
    assert not JARGON.search(text.removeprefix(str(path))), text
    return text.removeprefix(f"{path}: ")


@pytest.mark.parametrize("suffix", [*SUFFIXES, ".mhd"])
def test_files_that_are_none(tmp_path: Path, suffix: str) -> None:
    """Empty files as in https://github.com/MIC-DKFZ/nnUNet/issues/382, folders, names of nothing, links to nothing."""
    path = tmp_path / f"x{suffix}"
    assert error_of(path) == "cannot be read (no such file); check its name"
    path.symlink_to("../.git/annex/objects/x")
    assert error_of(path).startswith(
        "cannot be read (a link to a file that is not there); fetch it, as with `git annex"
    )
    path.unlink()
    path.touch()
    assert error_of(path) == "is empty (0 bytes); copy it again from its origin"
    path.unlink()
    path.mkdir()
    assert error_of(path) == "cannot be read (it is a folder, where a file is needed); give the file"
    path.rmdir()
    os.mkfifo(path)
    assert error_of(path) == "is a pipe, a socket or a device, where a file is needed; leave it out"


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize(
    ("start", "words"),
    [
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:49\nsize 261136\n",
            "is a pointer of Git LFS to a file",
        ),
        (
            b"/annex/objects/MD5E-s26093786--c3fd01.nii.gz\n",
            "is a pointer of git-annex to a file that is not here; fetch",
        ),
        (b"<!DOCTYPE html><html><body>404</body></html>", "is a web page, as of a download that failed"),
        (b"PK\x03\x04 an archive", "is a ZIP archive, though its name ends in"),
        (bytes(128) + b"DICM" + bytes(200), "is a DICOM file, though its name ends in"),
        (b"\x89HDF\r\n\x1a\n" + bytes(100), "is an HDF5 file, though its name ends in"),
    ],
)
def test_files_that_stand_for_others(tmp_path: Path, suffix: str, start: bytes, words: str) -> None:
    """Pointers as in https://github.com/neheller/kits19/issues/5 and
    https://github.com/spine-generic/data-multi-subject/issues/78, where readers say "cannot work out file type".
    """
    path = tmp_path / f"x{suffix}"
    path.write_bytes(start)
    assert error_of(path).startswith(words)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("named", SUFFIXES)
def test_each_format_under_each_name(tmp_path: Path, suffix: str, named: str) -> None:
    """https://github.com/nipy/nibabel/issues/966, https://github.com/nipy/nibabel/issues/898."""
    path = tmp_path / f"x{named}"
    path.write_bytes(content(suffix, tmp_path))
    if suffix == named:
        read_image([path])
        return
    kind = {".nii.gz": "gzip-compressed", ".nii": "a NIfTI file", ".nrrd": "a NRRD file", ".mha": "a MetaImage file",
            ".png": "a PNG picture", ".jpg": "a JPEG picture"}[suffix]  # fmt: skip
    text = error_of(path)
    assert text.startswith(f"is {kind}, though its name ends in {named}; ")
    assert f"rename it to {suffix}" in text


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("share", [0.1, 0.5, 0.95])
def test_truncated_files_are_said_to_be_so(tmp_path: Path, suffix: str, share: float) -> None:
    path = tmp_path / f"x{suffix}"
    whole = content(suffix, tmp_path)
    path.write_bytes(whole[: int(len(whole) * share)])
    assert error_of(path)


def test_flipped_bytes_are_said_in_plain_words(tmp_path: Path) -> None:
    path, whole = tmp_path / "x.nii.gz", content(".nii.gz", tmp_path)
    for at in range(12, len(whole), 40):
        damaged = bytearray(whole)
        damaged[at] ^= 16
        path.write_bytes(damaged)
        assert error_of(path)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read any file")
def test_a_file_that_may_not_be_read(tmp_path: Path) -> None:
    path = tmp_path / "x.nii.gz"
    path.write_bytes(content(".nii.gz", tmp_path))
    path.chmod(0)
    assert error_of(path) == "cannot be read (permission denied); change its permissions"


def test_grey_with_transparency_is_named(tmp_path: Path) -> None:
    Image.fromarray(PICTURE).convert("LA").save(tmp_path / "x.png")
    assert error_of(tmp_path / "x.png") == "has an alpha channel (grey with transparency); save it without"


READERS = {
    "x.json": read_json,
    "split.json": read_split,
    "x.safetensors": read_weights,
    "x.toml": load_spec,
}


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize("damage", ["none", "folder", "empty", "bytes", "pointer"])
def test_other_files(tmp_path: Path, name: str, damage: str) -> None:
    """Pointers in the place of weights are "HeaderTooLarge" elsewhere:
    https://github.com/codefuse-ai/MFTCoder/issues/20, https://github.com/microsoft/OmniParser/issues/34.
    """
    path = tmp_path / name
    if damage == "folder":
        path.mkdir()
    elif damage != "none":
        pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:49\n"
        path.write_bytes({"empty": b"", "bytes": b"\x80\x81\xfe{", "pointer": pointer}[damage])
    if (name, damage) == ("x.toml", "empty"):
        assert load_spec(path).name == "x"  # no key has to be there
        return
    with pytest.raises(JclError) as caught:
        READERS[name](path)
    text = str(caught.value)
    assert text.startswith(f"{path}: ")
    assert "; " in text or name == "x.toml"
    assert not JARGON.search(text.removeprefix(str(path))), text


@pytest.mark.parametrize("pickled", [b"PK\x03\x04", b"\x80\x02}q\x00."])
def test_pickles_of_pytorch_are_named(tmp_path: Path, pickled: bytes) -> None:
    """https://github.com/safetensors/safetensors/issues/414."""
    (tmp_path / "x.safetensors").write_bytes(pickled)
    with pytest.raises(JclError, match="a pickle, which can run code when it is opened; convert it to safetensors"):
        read_weights(tmp_path / "x.safetensors")
