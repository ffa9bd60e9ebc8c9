"""Names of files, classes and people: none commands a terminal, a page or a spreadsheet, and no person's is kept."""

import csv
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from jcl.cli.main import main
from jcl.data.dicom.series import find_series
from jcl.export.card import table_of
from jcl.report.formats.csv_tables import as_csv
from jcl.report.page.render import _environment  # pyright: ignore[reportPrivateUsage]
from jcl.text import csv_cell, markdown_text, printable
from support.dicomfiles import write_series

NASTY = "=1+1\x1b[2J\x1b]0;owned\x07<b>[red]x\u202e"
CONTROLS = ("\x1b", "\x07", "\x9b", "\u202e", "\r")
NAME = "Roe^Richard"

pytestmark = pytest.mark.skipif(os.name != "posix", reason="such names are POSIX's")


def save(path: Path, seed: int, *, label: bool = False) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    array = np.random.default_rng(seed).normal(100, 20, (4, 24, 20)).astype(np.int16)
    if label:
        array[:] = 0
        array[1:3, 4:12, 5:15] = 1
    plain = path.with_name("plain.nii.gz")
    sitk.WriteImage(sitk.GetImageFromArray(array), str(plain))
    plain.rename(path)


@pytest.mark.parametrize("text", [NASTY, "a\nb", "\x9b31m", "p\udce4", "\x00", "a\u2028b", "\x7f"])
def test_what_is_shown_is_one_line_without_commands(text: str):
    shown = printable(text)
    assert len(shown.splitlines()) == 1
    assert not any(letter in shown for letter in CONTROLS)
    assert shown.encode()
    assert printable(shown) == shown


def test_names_of_other_alphabets_stay_what_they_are():
    for name in ("Größe", "患者 1", "نمونه\u200cها", "p 1 – é", "👩\u200d⚕️"):
        assert printable(name) == name


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("=1+1", "'=1+1"), ("+x", "'+x"), ("-x", "'-x"), ("@x", "'@x"), ("\tx", "'\tx"), ("\rx", "'\rx"),
        ("-1.5", "-1.5"),
        ("+3", "+3"), ("1e-3", "1e-3"), (-2, -2), (None, None), ("anna", "anna"), ("a\x1b[2Jb", "a?[2Jb"),
        ("-nan", "-nan"),
    ],
)  # fmt: skip
def test_cells_of_a_spreadsheet(value: str | int | None, shown: str | int | None):
    assert csv_cell(value) == shown


def test_tables_and_pages():
    assert "<b>" not in markdown_text(NASTY)
    assert "\x1b" not in markdown_text(NASTY)
    assert as_csv([{NASTY: NASTY}]).splitlines()[1].lstrip('"').startswith("'=1+1?[2J")
    page = _environment().from_string("{{ name }}").render(name=NASTY)
    assert "<b>" not in page
    assert not any(letter in page for letter in CONTROLS)
    row = {"dice": 1.0, "jaccard": 1.0, "hd95": 1.0, "asd": 1.0}
    card = table_of({"mean": {**row, "classes": {"a|b\x1b": row}}, "unit": "case", "cases": 1})
    assert r"a\|b?" in card
    assert "\x1b" not in card


def test_names_of_files_and_classes_through_the_program(tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    source, store, check = (str(tmp_path / name) for name in ("in", "store", "check"))
    for seed, name in enumerate((f"{NASTY}.nii.gz", "-2.nii.gz", "@ben.nii.gz")):
        save(Path(source, "images", name), seed)
        save(Path(source, "labels", name), seed, label=True)
    Path(source, "images", f"{NASTY}.mgz").touch()
    Path(source, "images", f"bad{NASTY}.nii.gz").write_bytes(b"no scan")
    assert main(["prepare", source, "--out", store, "--workers", "1", "--labels", f"1={NASTY}"]) == 0
    main(["verify", store, "--source", source, "--out", check])
    main(["predict", store, f"{source}/{NASTY}", "--out", str(tmp_path / "out")])
    main([NASTY])
    shown = "".join(capfd.readouterr())
    assert not any(letter in shown for letter in CONTROLS)
    assert "no scan" not in shown
    assert "?[2J" in shown
    with Path(check, "cases.csv").open(encoding="utf-8", newline="") as file:
        head, *rows = csv.reader(file)
    cells = [cell for row in (head, *rows) for cell in row]
    assert len(rows) == 3
    assert not any("\x1b" in cell for cell in cells)
    assert not [cell for cell in cells if cell.startswith(("=", "@", "+"))]
    assert {row[0] for row in rows} == {"-2", "'@ben", f"'{csv_cell(NASTY)}".replace("''", "'")}


def test_a_persons_name_is_not_kept(tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    source, store = tmp_path / "in", tmp_path / "store"
    write_series(source / "a", series="1", PatientID="", PatientName=NAME)
    write_series(source / "b", series="2", PatientID=None, PatientName=NAME)
    write_series(source / "c", series="3", PatientID=None, PatientName="Doe^John")
    write_series(source / "d", series="4", PatientID="P7", PatientName=NAME)
    found = find_series(source)
    assert [series.patient for series in found] == ["a", "a", "c", "P7"]
    assert NAME not in repr(found)
    main(["prepare", str(source), "--out", str(store), "--workers", "1"])
    main(["verify", str(store), "--source", str(source), "--out", str(tmp_path / "check")])
    shown = "".join(capfd.readouterr())
    kept = [path for folder in (store, tmp_path / "check") for path in folder.rglob("*") if path.is_file()]
    assert len(kept) > 10
    for word in (b"Roe", b"Richard", b"Doe", b"John"):
        assert word not in shown.encode()
        assert not [path for path in kept if word in path.read_bytes() or word in os.fsencode(path.name)]


def test_a_persons_other_scans_that_come_later(tmp_path: Path):
    source, store = tmp_path / "in", tmp_path / "store"
    command = ["prepare", str(source), "--out", str(store), "--workers", "1"]
    write_series(source / "b", series="2", PatientID=None, PatientName=NAME)
    assert main(command) == 0
    write_series(source / "a", series="1", PatientID=None, PatientName=NAME)
    assert main(command) == 0
    from jcl.data.store import Store

    assert {record.case: record.patient for record in Store.open(store).cases} == {"a": "a", "b": "a"}


@pytest.mark.parametrize("suffix", [".nii.gz", ".mha"])
def test_a_locale_of_ascii_alone(tmp_path: Path, suffix: str):
    source = tmp_path / "scäns"
    source.mkdir()
    for number in range(2):
        array = np.random.default_rng(number).normal(100, 20, (4, 24, 20)).astype(np.int16)
        sitk.WriteImage(sitk.GetImageFromArray(array), str(source / f"pä{number}患{suffix}"))
    command = [sys.executable, "-m", "jcl", "prepare", str(source), "--out", str(tmp_path / "störe"), "--workers", "1"]
    environment = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0"}
    done = subprocess.run(command, env=environment, capture_output=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert b"2 cases" in done.stderr
    assert b"Traceback" not in done.stderr
