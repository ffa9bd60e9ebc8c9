import json
from pathlib import Path

import pytest

from jcl.errors import DataError
from jcl.report.stats.origin import origin_of
from support.grids import benchmark, cell, grid


def finished(folder: Path, name: str, day: str, versions: dict[str, str]) -> Path:
    (folder / name / "run").mkdir(parents=True)
    done = {"finished": f"{day}T01:00:00+00:00", "seconds": 1800.0}
    (folder / name / "done.json").write_text(json.dumps(done))
    (folder / name / "run" / "run.json").write_text(json.dumps({"versions": versions}))
    return folder / name


def test_versions_days_and_hours_of_what_is_done(tmp_path: Path) -> None:
    first = finished(tmp_path, "a", "2026-02-02", {"jcl": "0.1.0", "torch": "2.13.0"})
    second = finished(tmp_path, "b", "2026-01-31", {"jcl": "0.2.0", "torch": "2.13.0"})
    cells = [cell(0, folder=first), cell(1, folder=second), cell(2, folder=first), cell(3, folder=tmp_path / "none")]
    origin = origin_of(benchmark(grid({("JCL", "M=1"): cells})))
    assert origin.versions == (("jcl", "0.1.0, 0.2.0"), ("torch", "2.13.0"))
    assert origin.days == ("2026-01-31", "2026-02-02")
    assert origin.hours == pytest.approx(1.0)


def test_a_damaged_record_is_named(tmp_path: Path) -> None:
    folder = finished(tmp_path, "a", "2026-02-02", {})
    (folder / "run" / "run.json").write_text("{")
    with pytest.raises(DataError, match=r"run\.json: not a JSON file"):
        origin_of(benchmark(grid({("JCL", "M=1"): [cell(0, folder=folder)]})))
