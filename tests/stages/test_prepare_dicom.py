"""DICOM studies through prepare and predict: what is skipped, and where the results lie."""

from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk

from jcl.config import PredictConfig, PrepareConfig
from jcl.data.datasets import load_spec, resolve
from jcl.data.store import Store
from jcl.errors import UsageError
from jcl.stages.predict import predict
from jcl.stages.prepare import prepare
from support.dicomfiles import voxels, write_series
from support.thresholds import make_recipe_of, threshold_network, write_run


def run(source: Path, out: Path, **options: object) -> Store:
    return prepare(PrepareConfig(source=source, out=out, workers=1, **options))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def studies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tree as an archive exports it: good series, two in one folder, a damaged one, and what is no scan."""
    source = tmp_path_factory.mktemp("studies") / "archive"
    write_series(source / "anna" / "t1", voxels(seed=1), series="anna", PatientID="A")
    write_series(source / "anna" / "t2", voxels(seed=2), series="anna2", PatientID="A")
    write_series(source / "ben", voxels(seed=3), series="ben1", PatientID="B", SeriesNumber=4, name="x{}")
    write_series(source / "ben", voxels(seed=4), series="ben2", PatientID="B", SeriesNumber=7, name="y{}")
    missing = write_series(source / "carl", voxels(7), series="carl", PatientID="C")
    missing[3].unlink()
    (source / "anna" / "report.txt").write_text("not an image")
    return source


def test_series_are_cases_and_patients_those_of_the_files(studies: Path, tmp_path: Path) -> None:
    store = run(studies, tmp_path / "store")
    found = {record.case: record.patient for record in store.cases}
    assert found == {"anna_t1": "A", "anna_t2": "A", "ben_4": "B", "ben_7": "B"}
    (refused,) = store.skipped
    assert (refused.case, refused.patient) == ("carl", "C")
    assert "carl" in refused.reason
    assert str(studies) not in refused.reason


@pytest.fixture(scope="module")
def contrasts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two patients, each with two series in one folder whose descriptions differ."""
    source = tmp_path_factory.mktemp("contrasts") / "archive"
    for number, patient in enumerate("AB"):
        for other, description in enumerate(("T1 axial", "T2 axial")):
            write_series(
                source / patient, voxels(seed=2 * number + other), series=f"{patient}{other}", PatientID=patient,
                SeriesDescription=description, SeriesNumber=other + 1, name=f"{other}-{{}}",
            )  # fmt: skip
    return source


def test_series_are_chosen_by_their_description(contrasts: Path, tmp_path: Path, capsys) -> None:
    store = run(contrasts, tmp_path / "store", series="t2")
    assert [record.case for record in store.cases] == ["A", "B"]
    assert "left out: 2 DICOM series with another description" in capsys.readouterr().err
    with pytest.raises(UsageError, match=r"made with other options \(series: 't2' there, None now\)"):
        run(contrasts, tmp_path / "store")
    both = run(contrasts, tmp_path / "both")
    assert [record.case for record in both.cases] == ["A_1", "A_2", "B_1", "B_2"]
    said = "DICOM series by description: T1 axial (2), T2 axial (2); --series takes some of them"
    assert said in capsys.readouterr().err


def test_series_are_chosen_in_folders_alone(contrasts: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"series: .* dataset\.json or patterns say what is taken"):
        resolve(load_spec("acdc"), contrasts, series="T1")
    with pytest.raises(UsageError, match="unterminated subpattern"):
        run(contrasts, tmp_path / "store", series="(")


def test_scans_to_segment_are_chosen_by_their_description(contrasts: Path, tmp_path: Path) -> None:
    network = write_run(tmp_path / "run", threshold_network(0.5), make_recipe_of({1: "a"}))
    written = predict(PredictConfig(run=network, source=contrasts, out=tmp_path / "out", series="T1"))
    assert [path.name for path in written] == ["A_1.nii.gz", "B_1.nii.gz"]


def test_voxels_and_spacing_are_those_of_the_series(studies: Path, tmp_path: Path) -> None:
    store = run(studies, tmp_path / "store")
    case = [record.case for record in store.cases].index("ben_7")
    record = store.cases[case]
    assert record.spacing == pytest.approx((2.5, 0.8, 0.7))
    rows, columns = store.content(case)
    stored = np.stack([store.image(case, number)[0, rows, columns] for number in range(record.slices)])
    array = voxels(seed=4).astype(np.float32)
    low, high = np.percentile(array, (1, 99))
    np.testing.assert_allclose(stored, ((array - low) / (high - low)).clip(0, 1), atol=2 / 4095)


def test_every_file_of_a_series_is_vouched_for(studies: Path, tmp_path: Path) -> None:
    store = run(studies, tmp_path / "store")
    record = next(record for record in store.cases if record.case == "anna_t1")
    assert [Path(path).name for path, _ in record.source["images"]] == [f"{k}.dcm" for k in range(1, 6)]
    assert len({digest for _, digest in record.source["images"]}) == 5


def test_labels_of_a_series_are_files_with_its_name(tmp_path: Path) -> None:
    source = tmp_path / "scans"
    files = write_series(source / "images" / "site 2" / "dora", voxels(6), series="dora")
    image = sitk.ReadImage([str(file) for file in files])
    box = np.zeros(image.GetSize()[::-1], np.uint8)
    box[1:3, 2:6, 3:8] = 1
    label = sitk.GetImageFromArray(box)
    label.CopyInformation(image)
    (source / "labels" / "site 2").mkdir(parents=True)
    # as converters leave it: the same voxels, rows in the other order
    sitk.WriteImage(sitk.Flip(label, (False, True, False)), str(source / "labels" / "site 2" / "dora.nii.gz"))
    store = run(source, tmp_path / "store", labels="1=box")
    assert store.cases[0].case == "site 2_dora"
    assert store.counted(0) == {"box": 2 * 4 * 5}
    truth = np.stack([store.label(0, number)[store.content(0)] for number in range(6)])
    np.testing.assert_array_equal(truth, box)


def test_a_file_that_is_cut_after_the_scan_sets_its_case_aside(tmp_path: Path) -> None:
    files = write_series(tmp_path / "scans" / "a", voxels(5), series="a")
    write_series(tmp_path / "scans" / "b", voxels(5), series="b")
    dataset = pydicom.dcmread(files[2])
    dataset.PixelData = dataset.PixelData[:100]
    dataset.save_as(files[2])
    store = run(tmp_path / "scans", tmp_path / "store")
    assert [record.case for record in store.cases] == ["b"]
    assert "a/3.dcm" in store.skipped[0].reason


def test_two_series_where_a_data_set_has_one_set_their_case_aside(tmp_path: Path) -> None:
    for patient in ("1", "2"):
        write_series(tmp_path / "MR" / patient / "T2SPIR" / "DICOM_anon", voxels(5), series=patient)
    write_series(tmp_path / "MR" / "2" / "T2SPIR" / "DICOM_anon", voxels(5), series="other", name="again{}.dcm")
    store = run(tmp_path, tmp_path / "store", dataset="chaos")
    assert [record.case for record in store.cases] == ["1"]
    assert (
        store.skipped[0].reason == "MR/2/T2SPIR/DICOM_anon: its DICOM files hold 2 series, where one series is needed"
    )
