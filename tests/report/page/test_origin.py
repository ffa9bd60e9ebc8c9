import json
from pathlib import Path

import pytest

from grids import benchmark, cell, grid
from jcl.errors import DataError
from jcl.report.page.origin import origin_of


def finished(folder: Path, name: str, day: str, host: str, versions: dict[str, str]) -> Path:
    (folder / name / "run").mkdir(parents=True)
    done = {"host": host, "finished": f"{day}T01:00:00+00:00", "seconds": 1800.0}
    (folder / name / "done.json").write_text(json.dumps(done))
    (folder / name / "run" / "run.json").write_text(json.dumps({"versions": versions}))
    return folder / name


def test_versions_machines_days_and_hours_of_what_is_done(tmp_path: Path) -> None:
    first = finished(tmp_path, "a", "2026-02-02", "box", {"jcl": "0.1.0", "torch": "2.13.0"})
    second = finished(tmp_path, "b", "2026-01-31", "node7", {"jcl": "0.2.0", "torch": "2.13.0"})
    cells = [cell(0, folder=first), cell(1, folder=second), cell(2, folder=first), cell(3, folder=tmp_path / "none")]
    origin = origin_of(benchmark(grid({("JCL", "M=1"): cells})))
    assert origin.versions == (("jcl", "0.1.0, 0.2.0"), ("torch", "2.13.0"))
    assert origin.hosts == ("box", "node7")
    assert origin.days == ("2026-01-31", "2026-02-02")
    assert origin.hours == pytest.approx(1.0)


def test_nothing_done() -> None:
    origin = origin_of(benchmark(grid({("JCL", "M=1"): [cell(0)]})))
    assert (origin.versions, origin.days, origin.hours) == ((), (), 0.0)


def test_a_damaged_record_is_named(tmp_path: Path) -> None:
    folder = finished(tmp_path, "a", "2026-02-02", "box", {})
    (folder / "run" / "run.json").write_text("{")
    with pytest.raises(DataError, match=r"run\.json: not a JSON file"):
        origin_of(benchmark(grid({("JCL", "M=1"): [cell(0, folder=folder)]})))
