"""Every file seen ends as used, skipped with its reason, or left out by its kind; nothing done is never exit code 0."""

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from jcl.checks.findings import NOTE
from jcl.cli import main as cli
from jcl.config import PredictConfig, PrepareConfig, VerifyConfig
from jcl.data.store import Store
from jcl.errors import DataError
from jcl.stages.predict import predict
from jcl.stages.prepare import prepare
from jcl.stages.verify import verify
from support.dicomfiles import image, save, voxels, write_series
from support.thresholds import make_recipe_of, threshold_network, write_run

RTSTRUCT = "1.2.840.10008.5.1.4.1.1.481.3"
RTDOSE = "1.2.840.10008.5.1.4.1.1.481.2"
REPORT = "1.2.840.10008.5.1.4.1.1.88.11"
SHAPE = (4, 24, 20)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run") / "run"
    return write_run(folder, threshold_network(0.5), make_recipe_of({1: "ball"}, padded=(32, 32)))


def scan(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(100, 20, SHAPE).astype(np.int16)


def mask() -> np.ndarray:
    array = np.zeros(SHAPE, np.uint8)
    array[1:3, 4:12, 5:15] = 1
    return array


def write(path: Path, array: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(sitk.GetImageFromArray(array), str(path))
    return path


def other_dicom(path: Path, sop_class: str) -> Path:
    dataset = image(voxels(1)[0], path.stem, SOPClassUID=sop_class)
    del dataset.PixelData, dataset.Rows
    return save(path, dataset)


def study(folder: Path) -> Path:
    """Two scans that can be used, and what lies beside such ones."""
    write_series(folder / "ct", series="ct")
    write(folder / "nifti" / "a.nii.gz", scan())
    for name, sop_class in {"rs": RTSTRUCT, "rd": RTDOSE, "sr": REPORT}.items():
        other_dicom(folder / "ct" / f"{name}.dcm", sop_class)
    for name in ("notes.txt", "old.img", "old.hdr", "nifti/a.json", "nifti/._a.nii.gz", "README"):
        (folder / name).write_text("x")
    return folder


ACCOUNT = [
    "left out: old.hdr, old.img (not readable: Analyze or two-file NIfTI; convert it to .nii.gz)",
    "left out: 1 .json file, 1 .txt file, 1 DICOM file (RT dose), 1 DICOM file (RTSTRUCT), 1 DICOM file (report), "
    "1 file of an unknown kind, 1 hidden file",
]


def test_prepare_accounts_for_every_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Readers that pass over files without a word: https://github.com/xiangruili/dicm2nii/issues/2,
    https://github.com/KathiraveluLab/Diomede/issues/94, https://github.com/fli-iam/shanoir-ng/issues/1421.
    """
    store = prepare(PrepareConfig(source=study(tmp_path / "in"), out=tmp_path / "store", workers=1))
    assert sorted(record.case for record in store.cases) == ["ct", "nifti_a"]
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("left out: ")]
    assert said == [
        "left out: ct/rs.dcm (RTSTRUCT of a series that is not here)",
        ACCOUNT[0],
        ACCOUNT[1].replace("1 DICOM file (RTSTRUCT), ", ""),
    ]


def test_predict_accounts_for_every_file(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = study(tmp_path / "in")
    write(source / "labelsTs" / "a.nii.gz", mask())
    write(source / "nifti" / "a_seg.nii.gz", mask())
    assert len(predict(PredictConfig(run=run, source=source, out=source / "results", precision="float32"))) == 2
    assert len(predict(PredictConfig(run=run, source=source, out=source / "results", precision="float32"))) == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines[-2] == ACCOUNT[0]
    for part in ("1 labels", "1 labels beside their scans", "2 files in the folder of the results", "1 hidden file"):
        assert part.replace("1 labels", "1 label") in lines[-1]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("notes.txt", r"notes\.txt: not a scan \(\.txt file\); give an image"),
        ("x.img", r"x\.img: not a scan that can be read: Analyze or two-file NIfTI; convert it to \.nii\.gz"),
        ("x.tif", r"x\.tif: not a scan that can be read: TIFF; convert it to \.png or \.nii\.gz"),
        ("rs.dcm", r"rs\.dcm: not a scan \(DICOM file \(RTSTRUCT\)\)"),
        ("rd.dcm", r"rd\.dcm: not a scan \(DICOM file \(RT dose\)\)"),
        ("empty.nii.gz", r"empty\.nii\.gz: is empty \(0 bytes\)"),
        ("nowhere", "nowhere: no such file or folder; check its name"),
        ("hollow", r"hollow: no images .* found$"),
        ("texts", r"texts: no images .* found \(left out: 1 \.txt file\)$"),
        ("labelsTs", "labelsTs: a folder of labels by its name"),
        ("masked", r"masked: no images .* found \(left out: 1 label\)$"),
    ],
)
def test_predict_on_what_is_no_scan_says_why(
    run: Path, tmp_path: Path, name: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """nnU-Net finds "0 cases in the source folder" and is done (https://github.com/MIC-DKFZ/nnUNet/issues/2402), or is
    done at once (https://github.com/MIC-DKFZ/nnUNet/issues/159, https://github.com/MIC-DKFZ/nnUNet/issues/2253).
    """
    for file in ("notes.txt", "x.img", "x.tif", "texts/a.txt"):
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).write_text("x")
    other_dicom(tmp_path / "rs.dcm", RTSTRUCT)
    other_dicom(tmp_path / "rd.dcm", RTDOSE)
    (tmp_path / "empty.nii.gz").touch()
    (tmp_path / "hollow").mkdir()
    write(tmp_path / "labelsTs" / "a.nii.gz", mask())
    write(tmp_path / "masked" / "masks" / "a.nii.gz", mask())
    with pytest.raises(DataError, match=words):
        predict(PredictConfig(run=run, source=tmp_path / name, out=tmp_path / "out", precision="float32"))
    assert cli.main(["predict", str(run), str(tmp_path / name), "--out", str(tmp_path / "out")]) == 3
    assert capsys.readouterr().err.count("\n") <= 2
    assert not list((tmp_path / "out").glob("*"))


def test_labels_among_scans_are_skipped_by_their_voxels(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / "in" / "a.nii.gz", scan())
    write(tmp_path / "in" / "b.nii.gz", mask())
    with pytest.raises(DataError, match="1 of 2 scans could not be segmented"):
        predict(PredictConfig(run=run, source=tmp_path / "in", out=tmp_path / "out", precision="float32"))
    assert (
        "b.nii.gz: not a scan but labels, by its few whole values and the grid of a.nii.gz" in capsys.readouterr().err
    )
    store = prepare(PrepareConfig(source=tmp_path / "in", out=tmp_path / "store", workers=1))
    assert [(record.case, record.labelled) for record in store.cases] == [("a", False)]
    assert store.skipped[0].reason.startswith("b.nii.gz: not a scan but labels")


def test_a_folder_without_a_scan_makes_no_store(tmp_path: Path) -> None:
    """All files were left out by dcm2niix too: https://github.com/rordenlab/dcm2niix/issues/440."""
    for name in ("notes.txt", "x.img"):
        (tmp_path / "in" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "in" / name).write_text("x")
    with pytest.raises(DataError, match=r"in: no image found .*\(left out: x\.img \(.*\); left out: 1 \.txt file\)"):
        prepare(PrepareConfig(source=tmp_path / "in", out=tmp_path / "store", workers=1))
    assert not (tmp_path / "store").exists()


def test_verify_names_scans_that_are_in_no_case(tmp_path: Path) -> None:
    source = tmp_path / "in"
    for number in range(2):
        write(source / "images" / f"p{number}.nii.gz", scan(number))
    store = prepare(PrepareConfig(source=source, out=tmp_path / "store", workers=1))
    assert not verify(VerifyConfig(path=store.path, source=source)).findings
    write(source / "images" / "p2.nii.gz", scan(2))
    (found,) = verify(VerifyConfig(path=store.path, source=source)).findings
    assert (found.level, found.kind) == (NOTE, "source")
    assert "1 image files are in no case, as those of 0 skipped cases: images/p2.nii.gz" in found.text


def test_the_same_names_in_other_forms(run: Path, tmp_path: Path) -> None:
    """Folders of roles in capitals, in prepare and in predict."""
    source = tmp_path / "in"
    write(source / "Images" / "a.nii.gz", scan())
    write(source / "LABELS" / "A.nii.gz", mask())
    store: Store = prepare(PrepareConfig(source=source, out=tmp_path / "store", workers=1))
    assert [(record.case, record.labelled) for record in store.cases] == [("a", True)]
    written = predict(PredictConfig(run=run, source=source, out=tmp_path / "out", precision="float32"))
    assert [path.name for path in written] == ["a.nii.gz"]
