"""A header that claims too much is refused by its first bytes."""

import gzip
import struct
from pathlib import Path

import pytest

from jcl.serve.claims import check_claim
from jcl.serve.refusal import Refusal
from support.serving import save_scan


def header(*sides: int, bits: int = 16, order: str = "<") -> bytes:
    content = bytearray(352)
    struct.pack_into(f"{order}i", content, 0, 348)
    struct.pack_into(f"{order}8h", content, 40, len(sides), *sides, *[1] * (7 - len(sides)))
    struct.pack_into(f"{order}2h", content, 70, 4, bits)
    return bytes(content)


@pytest.mark.parametrize("order", ["<", ">"])
def test_a_bomb_is_refused_by_its_header(tmp_path: Path, order: str) -> None:
    """Forty kilobytes of a gzip that says 2000 MB; what follows the header is not unpacked."""
    bomb = tmp_path / "bomb.nii.gz"
    bomb.write_bytes(gzip.compress(header(1000, 1000, 1000, order=order) + bytes(40_000_000)))
    assert bomb.stat().st_size < 50_000
    with pytest.raises(Refusal, match="2000 MB by its header; 1000 MB are allowed") as refused:
        check_claim(bomb, ".nii.gz", 1e9)
    assert refused.value.status == 413
    check_claim(bomb, ".nii.gz", 3e9)


def test_a_sound_scan_passes_and_what_is_none_is_left_to_the_reader(tmp_path: Path) -> None:
    check_claim(save_scan(tmp_path / "a.nii.gz"), ".nii.gz", 2000)
    with pytest.raises(Refusal):
        check_claim(save_scan(tmp_path / "a.nii"), ".nii", 1900)
    for name, content in {"b.nii.gz": b"no gzip", "c.nii": b"short", "d.nii.gz": b""}.items():
        (tmp_path / name).write_bytes(content)
        check_claim(tmp_path / name, ".nii.gz" if name.endswith(".gz") else ".nii", 1)
    check_claim(tmp_path / "none.nrrd", ".nrrd", 1)
