"""Where the figures of a report come from: versions of the programs, and dates of the trainings."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jcl.benchmark.folder import DONE, RUN
from jcl.files import read_json
from jcl.report.stats.results import Benchmark

__all__ = ["Origin", "origin_of"]


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Name and versions of each program, and the first and last day on which a training ended."""

    versions: tuple[tuple[str, str], ...]
    days: tuple[str, ...]
    hours: float


def origin_of(benchmark: Benchmark) -> Origin:
    """What the finished trainings recorded.

    Raises:
        DataError: a record cannot be read.
    """
    versions: dict[str, set[str]] = {}
    days: set[str] = set()
    seconds = 0.0
    for folder in _finished(benchmark):
        done: dict[str, Any] = read_json(folder / DONE)
        days.add(str(done["finished"])[:10])
        seconds += float(done["seconds"])
        if (folder / RUN / "run.json").is_file():
            for name, version in read_json(folder / RUN / "run.json").get("versions", {}).items():
                versions.setdefault(name, set()).add(str(version))
    return Origin(
        versions=tuple((name, ", ".join(sorted(found))) for name, found in versions.items()),
        days=tuple(dict.fromkeys((min(days), max(days)))) if days else (),
        hours=seconds / 3600,
    )


def _finished(benchmark: Benchmark) -> Iterator[Path]:
    """Folders of the trainings that are shown, each once."""
    runs = [*benchmark.pretrainings]
    cells = [cell for grid in benchmark.tables for found in grid.cells.values() for cell in found]
    folders = dict.fromkeys(run.folder for run in (*runs, *cells))
    return (folder for folder in folders if (folder / DONE).is_file())
