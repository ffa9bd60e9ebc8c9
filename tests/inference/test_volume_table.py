"""`volumes.json` and `volumes.csv`: merged over commands, and safe to open."""

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from jcl.data.geometry import Geometry
from jcl.errors import DataError
from jcl.files import read_json
from jcl.inference.doubt import Doubt
from jcl.inference.volume_table import entry_of, write_tables

GEOMETRY = Geometry(
    size=(4, 3, 2), spacing=(0.5, 2.0, 6.0), origin=(0, 0, 0), direction=tuple(np.eye(3).ravel()), suffix=".nii.gz",
    axes=(0, 1, 2), flips=(False, False, False),
)  # fmt: skip
DOUBTS = [Doubt(5, 0.25, 0.9), Doubt(0, None, None)]


def entry(folder: Path, name: str, names=("A", "B"), geometry: Geometry = GEOMETRY) -> dict:
    classes = np.zeros((2, 3, 4), np.uint8)
    classes.flat[:5] = 1
    (folder / f"{name}.nii.gz").touch()
    return entry_of(f"{name}.nii.gz", classes, geometry, names, DOUBTS)


def test_volumes_are_voxels_times_spacing(tmp_path: Path):
    found = entry(tmp_path, "a")
    assert found["structures"]["A"] == {"voxels": 5, "ml": 5 * 6 / 1000, "doubt": 0.25, "expected_dice": 0.9}
    assert found["structures"]["B"] == {"voxels": 0, "ml": 0, "doubt": None, "expected_dice": None}
    assert (found["doubt"], found["spacing"]) == (0.25, [0.5, 2.0, 6.0])


def test_a_picture_has_no_volume(tmp_path: Path):
    found = entry(tmp_path, "a", geometry=replace(GEOMETRY, picture=True))
    assert found["structures"]["A"]["ml"] is None
    assert found["spacing"] == [0.5, 2.0]


def test_earlier_scans_stay_while_their_results_do(tmp_path: Path):
    write_tables(tmp_path, {"b": entry(tmp_path, "b"), "gone": entry(tmp_path, "gone")})
    (tmp_path / "gone.nii.gz").unlink()
    write_tables(tmp_path, {"a": entry(tmp_path, "a")})
    assert list(read_json(tmp_path / "volumes.json")["scans"]) == ["a", "b"]
    rows = list(csv.DictReader((tmp_path / "volumes.csv").read_text().splitlines()))
    assert [(row["scan"], row["structure"], row["voxels"]) for row in rows] == [
        ("a", "A", "5"), ("a", "B", "0"), ("b", "A", "5"), ("b", "B", "0"),
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["=1+1", "+cmd", "-2", "@x", "\tx"])
def test_no_name_is_a_formula(tmp_path: Path, name: str):
    write_tables(tmp_path, {name: entry(tmp_path, "a", names=(f"{name}()", "B"))})
    for row in csv.reader((tmp_path / "volumes.csv").read_text().splitlines()):
        for cell in row:
            assert not cell.startswith(("=", "+", "@", "\t"))
            assert not cell.startswith("-") or float(cell)


@pytest.mark.parametrize("text", ['{"scans": []}', "{", '{"format": 9, "scans": {}}', "[1]"])
def test_another_table_is_not_overwritten(tmp_path: Path, text: str):
    (tmp_path / "volumes.json").write_text(text)
    with pytest.raises(DataError, match=r"volumes\.json"):
        write_tables(tmp_path, {"a": entry(tmp_path, "a")})
    assert (tmp_path / "volumes.json").read_text() == text
