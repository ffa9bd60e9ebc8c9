"""A zip of a series, unpacked under suspicion: names, number, size and ratio are limited while it is unpacked."""

import stat
import zipfile
import zlib
from pathlib import Path, PurePosixPath

from jcl.serve.refusal import Refusal

__all__ = ["unpack"]

MOST_FILES = 20_000
MOST_RATIO = 200
"""Of unpacked to packed bytes, beyond which nothing is a scan: deflate gets to 1032."""

SMALL = 10_000_000
"""Bytes of which no ratio is asked: empty slices are packed well."""

CHUNK = 1 << 20


def unpack(archive: Path, folder: Path, most: float) -> None:
    """Unpack a zip into a folder, which is made.

    Args:
        archive: the zip.
        folder: where to.
        most: bytes that all of it may have.

    Raises:
        Refusal: it is no zip, damaged, encrypted, has links or names that lead out of the folder, or is too large.
    """
    folder.mkdir()
    try:
        with zipfile.ZipFile(archive) as file:
            entries = [each for each in file.infolist() if not each.is_dir()]
            if len(entries) > MOST_FILES:
                raise Refusal(413, f"{archive.name}: {len(entries)} files; {MOST_FILES} are allowed")
            left = most
            for each in entries:
                left -= _unpack_one(file, each, folder, left, most)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, UnicodeError, ValueError) as error:
        raise Refusal(400, f"{archive.name}: not a zip that can be read ({error})") from error
    if not any(folder.iterdir()):
        raise Refusal(400, f"{archive.name}: there is no file in it")


def _unpack_one(file: zipfile.ZipFile, entry: zipfile.ZipInfo, folder: Path, left: float, most: float) -> int:
    """Unpack a file; returns its bytes. What the archive says of its size is not believed."""
    kind = stat.S_IFMT(entry.external_attr >> 16)
    if kind and kind != stat.S_IFREG:
        raise Refusal(400, f"{entry.filename[:80]!r}: a link or a device in a zip; pack the files themselves")
    if entry.flag_bits & 1:
        raise Refusal(400, "an encrypted zip; pack it without a password")
    target = _target(entry.filename, folder)
    allowed = min(left, max(SMALL, MOST_RATIO * entry.compress_size))
    size = 0
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with file.open(entry) as source, target.open("xb") as out:
            while chunk := source.read(CHUNK):
                size += len(chunk)
                if size > left:
                    raise Refusal(413, f"more than {most / 1e6:.0f} MB when it is unpacked, which is not allowed")
                if size > allowed:
                    raise Refusal(413, f"{entry.filename[:80]!r}: over {MOST_RATIO} times as large as packed")
                out.write(chunk)
    except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
        raise Refusal(400, f"{entry.filename[:80]!r}: twice in the zip, or a file and a folder of one name") from error
    return size


def _target(name: str, folder: Path) -> Path:
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or not path.parts or ":" in path.parts[0] or "\0" in name:
        raise Refusal(400, f"{name[:80]!r}: a name in the zip that leads out of it")
    if any(len(part.encode()) > 255 for part in path.parts) or len(name) > 1000:
        raise Refusal(400, f"{name[:80]!r}…: too long a name in the zip")
    return folder.joinpath(*path.parts)
