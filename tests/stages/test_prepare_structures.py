"""Labels of DICOM series as DICOM-SEG and RTSTRUCT: found by the series that they name, numbered by their names."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from jcl.config import PrepareConfig
from jcl.data.dicom.segmentation import write_segmentation
from jcl.data.dicom.series import find_series
from jcl.data.dicom.structure_set import write_structure_set
from jcl.data.store import Store
from jcl.stages.prepare import prepare
from support.dicomfiles import voxels, write_series

AT = {"Liver": (slice(2, 5), slice(2, 6)), "spleen": (slice(6, 9), slice(9, 14)), "BODY": (slice(1, 11), slice(1, 15))}


def mask(*names: str) -> np.ndarray:
    """Label k where the k-th of the names is; later ones over earlier ones."""
    array = np.zeros((4, 12, 16), np.uint8)
    for number, name in enumerate(names, 1):
        array[1:3, *AT[name]] = number
    return array


def study(folder: Path, word: str) -> tuple[Path, ...]:
    write_series(folder, voxels(4, seed=len(word)), series=word, PatientID=word, PixelSpacing=[1, 1], step=1.0)
    (series,) = find_series(folder)
    return series.files


@pytest.fixture
def studies(tmp_path: Path) -> Path:
    """Patients with a DICOM-SEG, with an RTSTRUCT that numbers the same names differently, and without labels."""
    source = tmp_path / "studies"
    write_segmentation(
        study(source / "anna" / "ct", "a")[0].parents[1] / "seg.dcm", mask("spleen", "Liver"),
        find_series(source / "anna")[0].files, ("spleen", "Liver"),
    )  # fmt: skip
    (source / "labels").mkdir()
    write_structure_set(
        source / "labels" / "x.dcm", mask("BODY", "Liver", "spleen"), study(source / "ben" / "ct", "bb"),
        ("BODY", "LIVER ", "spleen"),
    )  # fmt: skip
    study(source / "carl" / "ct", "ccc")
    return source


def stored(store: Store, name: str) -> np.ndarray:
    """Class names where the labels of a case are."""
    number = next(n for n, record in enumerate(store.cases) if record.patient == name)
    labels = np.stack([store.label(number, at)[store.content(number)] for at in range(store.cases[number].slices)])
    return np.array(["", *store.class_names])[labels]


def named(*names: str) -> np.ndarray:
    return np.array(["", *names])[mask(*names)]


def test_structures_are_known_by_their_names(studies: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    config = PrepareConfig(source=studies, spacing=1.0, workers=1, out=tmp_path / "all")
    store = prepare(config)
    assert store.class_names == ("BODY", "Liver", "spleen")
    assert store.preparation["class_values"] == [1, 2, 3]
    np.testing.assert_array_equal(stored(store, "a"), named("spleen", "Liver"))
    np.testing.assert_array_equal(stored(store, "bb"), named("BODY", "Liver", "spleen"))
    assert [record.labelled for record in sorted(store.cases, key=lambda r: r.patient)] == [True, True, False]
    store = prepare(replace(config, out=tmp_path / "some", labels="7=spleen,3=liver"))
    assert (store.class_names, store.preparation["class_values"]) == (("spleen", "liver"), [7, 3])
    np.testing.assert_array_equal(stored(store, "bb"), _without_body())
    assert "x.dcm: left out, since --labels does not name them: BODY" in capsys.readouterr().err


def _without_body() -> np.ndarray:
    found = np.char.replace(named("BODY", "Liver", "spleen"), "BODY", "")
    return np.char.replace(found, "Liver", "liver")


def test_a_second_label_or_one_of_another_series(studies: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    first = studies / "anna" / "seg.dcm"
    (studies / "anna" / "again.dcm").write_bytes(first.read_bytes())
    other = study(tmp_path / "elsewhere", "dddd")
    write_structure_set(studies / "stray.dcm", mask("Liver"), other, ("Liver",))
    store = prepare(PrepareConfig(source=studies, out=tmp_path / "store", workers=1))
    (skipped,) = store.skipped
    assert skipped.patient == "a"
    assert "a second label of its series" in skipped.reason
    said = capsys.readouterr().err
    assert "stray.dcm (RTSTRUCT of a series that is not here)" in said
