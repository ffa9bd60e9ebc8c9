"""A zip is unpacked under suspicion."""

import stat
import struct
import zipfile
from pathlib import Path

import pytest

from jcl.serve import unpacking
from jcl.serve.refusal import Refusal
from jcl.serve.unpacking import unpack

MOST = 50_000_000


def packed(path: Path, files: dict[str, bytes], kind: int = 0) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in files.items():
            entry = zipfile.ZipInfo(name)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = (kind | 0o644) << 16
            file.writestr(entry, content)
    return path


def refused(archive: Path, most: float = MOST) -> Refusal:
    with pytest.raises(Refusal) as found:
        unpack(archive, archive.parent / "out", most)
    return found.value


def test_files_come_out_as_they_went_in(tmp_path: Path) -> None:
    files = {"a/1.dcm": b"one", "a\\2.dcm": b"two", "b": bytes(9_000_000)}
    unpack(packed(tmp_path / "x.zip", files), tmp_path / "out", MOST)
    out = tmp_path / "out"
    found = {each.relative_to(out).as_posix(): each.read_bytes() for each in out.rglob("*") if each.is_file()}
    assert found == {"a/1.dcm": b"one", "a/2.dcm": b"two", "b": bytes(9_000_000)}


@pytest.mark.parametrize("name", ["../x", "a/../../x", "/etc/x", "C:/x", "..\\x", "a/..", "\\\\host\\x"])
def test_no_name_leads_out(tmp_path: Path, name: str) -> None:
    assert refused(packed(tmp_path / "x.zip", {name: b"x"})).status == 400
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR])
def test_links_and_devices_are_refused(tmp_path: Path, kind: int) -> None:
    error = refused(packed(tmp_path / "x.zip", {"a": b"/etc/passwd"}, kind))
    assert error.status == 400
    assert "link" in error.message
    assert not (tmp_path / "out" / "a").exists()


def test_bombs_are_noticed_while_they_are_unpacked(tmp_path: Path) -> None:
    ratio = packed(tmp_path / "r.zip", {"a": bytes(40_000_000)})
    assert ratio.stat().st_size < 60_000
    error = refused(ratio)
    assert (error.status, "200 times" in error.message) == (413, True)
    assert sum(each.stat().st_size for each in (tmp_path / "out").iterdir()) <= 11_000_000
    many = {str(number): bytes(5_000_000) for number in range(8)}
    (tmp_path / "second").mkdir()
    error = refused(packed(tmp_path / "second" / "x.zip", many), 20e6)
    assert "more than 20 MB" in error.message
    assert sum(each.stat().st_size for each in (tmp_path / "second" / "out").iterdir()) <= 20_000_000


def test_a_size_that_is_a_lie_is_not_believed(tmp_path: Path) -> None:
    path = packed(tmp_path / "x.zip", {"a": bytes(3_000_000)})
    content = bytearray(path.read_bytes())
    at = content.index(b"PK\x01\x02")
    struct.pack_into("<I", content, at + 24, 10)  # unpacked bytes, in the directory
    path.write_bytes(content)
    assert refused(path, 1e6).status in (400, 413)


def test_too_many_files_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unpacking, "MOST_FILES", 5)
    error = refused(packed(tmp_path / "x.zip", {str(number): b"x" for number in range(6)}))
    assert (error.status, "6 files" in error.message) == (413, True)


@pytest.mark.parametrize("content", [b"", b"no zip", b"PK\x05\x06" + bytes(18)])
def test_what_is_no_zip_or_empty_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.zip").write_bytes(content)
    assert refused(tmp_path / "x.zip").status == 400


def test_damaged_encrypted_and_doubled_ones_are_refused(tmp_path: Path) -> None:
    path = packed(tmp_path / "x.zip", {"a": bytes(range(256)) * 40})
    content = bytearray(path.read_bytes())
    content[60] ^= 255
    path.write_bytes(content)
    assert refused(path).status == 400
    (tmp_path / "e").mkdir()
    path = packed(tmp_path / "e" / "x.zip", {"a": b"x"})
    content = bytearray(path.read_bytes())
    content[content.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(content)
    assert "password" in refused(path).message
    (tmp_path / "d").mkdir()
    with zipfile.ZipFile(tmp_path / "d" / "x.zip", "w") as file:
        file.writestr("a", b"1")
        with pytest.warns(UserWarning, match="Duplicate"):
            file.writestr("a", b"2")
    assert "twice" in refused(tmp_path / "d" / "x.zip").message
