"""A folder that scans arrive in: which files have come to rest, and which scans were done before.

What was done stands in `watched.json` in the folder of the results, which is written whole after each scan, when all of
its results are there. A process that is killed before that does this scan again, into the same files.
"""

import contextlib
import hashlib
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, cast

from jcl.data.folders import walk
from jcl.data.leftout import LeftOut
from jcl.data.sources import SliceFiles, files_of
from jcl.errors import DataError
from jcl.files import read_json, real_path, write_json
from jcl.inference.scans import Scan

__all__ = ["RECORD", "Arrivals", "Done", "Ledger"]

RECORD = "watched.json"

FORMAT = 1


@dataclass
class Arrivals:
    """The files below a folder, and since when each is as it is.

    Args:
        folder: that scans arrive in.
        skip: the folder of the results, which may lie in it.
        settle: seconds without a change after which a file has come to rest.
    """

    folder: Path
    skip: Path
    settle: float
    marks: dict[Path, tuple[int, int]] = field(default_factory=dict[Path, tuple[int, int]])
    since: dict[Path, float] = field(default_factory=dict[Path, float])

    def look(self) -> bool:
        """Look again; whether a file is new, gone or changed, or has come to rest, since the last look."""
        now, rested = time.monotonic(), self._rested
        found = dict(self._files())
        for path, mark in found.items():
            if self.marks.get(path) != mark:
                self.since[path] = now
        changed = found != self.marks
        self.marks = found
        self.since = {path: self.since[path] for path in found}
        self._rested = {path for path, since in self.since.items() if now - since >= self.settle}
        return changed or self._rested != rested

    def some_rest(self) -> bool:
        """Whether any file has come to rest."""
        return bool(self._rested)

    def rests(self, scan: Scan) -> bool:
        """Whether all files of a scan have come to rest; of a DICOM series all that lie in its folders.

        One that is half there is not known to be of the series yet.
        """
        files = files_of_scan(scan)
        if any(isinstance(image, SliceFiles) for image in scan.images):
            folders = {path.parent for path in files}
            files = [path for path in self.marks if path.parent in folders]
        return all(path in self._rested for path in files)

    def is_as_seen(self, scan: Scan) -> bool:
        """Whether the files of a scan still are as at the last look."""
        try:
            return all(self.marks.get(path) == _mark(path) for path in files_of_scan(scan))
        except OSError:
            return False

    def __post_init__(self) -> None:
        self._rested: set[Path] = set()

    def _files(self) -> Iterator[tuple[Path, tuple[int, int]]]:
        results = real_path(self.skip)
        for path in walk(self.folder, LeftOut()):
            if results in real_path(path).parents:
                continue
            with contextlib.suppress(OSError):  # gone again
                yield path, _mark(path)


@dataclass(frozen=True)
class Done:
    """What became of a scan.

    Attributes:
        status: `done` or `failed`.
        digest: SHA-256 over its files.
        files: path below the watched folder -> size and time of the last change (ns).
        reason: why it failed.
    """

    status: str
    digest: str
    files: dict[str, list[int]]
    reason: str | None = None


class Ledger:
    """What became of the scans so far, by their names.

    Args:
        out: the folder of the results.

    Raises:
        DataError: its record is damaged, or of another format.
    """

    def __init__(self, out: Path) -> None:
        self.path = out / RECORD
        self.scans: dict[str, Done] = {}
        if not self.path.is_file():
            return
        content: object = read_json(self.path)
        known = cast("dict[str, Any]", content) if isinstance(content, dict) else {}
        if known.get("format") != FORMAT:
            raise DataError(f"{self.path}: of format {known.get('format')}; this jcl reads format {FORMAT}")
        self.scans = {name: Done(**entry) for name, entry in known["scans"].items()}

    def is_done(self, scan: Scan, arrivals: Arrivals) -> bool:
        """Whether the scan, as it is now, was done or has failed before; a copy of it alone is no change.

        Raises:
            DataError: a file cannot be read.
        """
        before, marks = self.scans.get(scan.name), _marks(scan, arrivals)
        if before is not None and before.files == marks:
            return True
        series = isinstance(scan.images[0], SliceFiles)  # named otherwise once another one lies beside it
        known = [before] if before is not None else list(self.scans.values()) if series else []
        if not known or (digest := digest_of(scan)) not in [done.digest for done in known]:
            return False
        same = next(done for done in known if done.digest == digest)
        self.scans[scan.name] = Done(same.status, digest, marks, same.reason)
        return True

    def note(self, scan: Scan, arrivals: Arrivals, reason: str | None = None) -> None:
        """Write down that a scan is done, or why it failed.

        Raises:
            WriteError: the record cannot be written.
        """
        try:
            digest = digest_of(scan)
        except DataError:  # one that cannot be read at all
            digest = ""
        status = "done" if reason is None else "failed"
        self.scans[scan.name] = Done(status, digest, _marks(scan, arrivals), reason)
        scans = {name: asdict(done) for name, done in sorted(self.scans.items())}
        write_json(self.path, {"format": FORMAT, "scans": scans}, seal=True)


def files_of_scan(scan: Scan) -> list[Path]:
    """All files of a scan, in a fixed order."""
    return sorted({path for image in scan.images for path in files_of(image)})


def digest_of(scan: Scan) -> str:
    """SHA-256 over the contents of a scan's files, in the order of their names.

    Raises:
        DataError: one cannot be read.
    """
    whole = hashlib.sha256()
    for path in files_of_scan(scan):
        try:
            with path.open("rb") as file:
                whole.update(hashlib.file_digest(file, "sha256").digest())
        except OSError as error:
            raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    return whole.hexdigest()


def _mark(path: Path) -> tuple[int, int]:
    state = path.stat()
    return state.st_size, state.st_mtime_ns


def _marks(scan: Scan, arrivals: Arrivals) -> dict[str, list[int]]:
    return {
        path.relative_to(arrivals.folder).as_posix(): list(arrivals.marks[path])
        for path in files_of_scan(scan)
        if path in arrivals.marks
    }
