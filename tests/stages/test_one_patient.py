"""One labelled patient, in every command: there is no test part, and all else works."""

import json
from pathlib import Path

import pytest
import SimpleITK as sitk

from jcl.cli import main as cli
from jcl.data.splits import Split, read_split
from support.scans import write_volumes

FAST = ["--precision", "float32", "--kernels", "off", "--compile", "off"]


@pytest.fixture
def jcl(capsys):
    """Run a command; returns its exit code and what it printed."""

    def run(*words: str | Path) -> tuple[int, str]:
        code = cli.main([str(word) for word in words])
        said = capsys.readouterr()
        return code, said.out + said.err

    return run


def test_one_labelled_patient_from_scans_to_segmentations(jcl, tmp_path, monkeypatch):
    """Five folds are nnU-Net's, and `all` trains on every case:
    https://github.com/MIC-DKFZ/nnUNet/issues/193, https://github.com/MIC-DKFZ/nnUNet/issues/1153."""
    monkeypatch.chdir(tmp_path)
    write_volumes(Path("scans"), patients=3, labelled=1)
    write_volumes(Path("others"), patients=5, labelled=5)
    for path in [*Path("others").rglob("p*.nii.gz")]:
        path.rename(path.with_name(f"new{path.name}")) if path.name >= "p3" else path.unlink()
    assert jcl("prepare", "scans", "--labels", "1=ball", "--workers", "1", "--out", "store")[0] == 0
    assert jcl("prepare", "others", "--labels", "1=ball", "--workers", "1", "--out", "other-store")[0] == 0
    assert jcl("verify", "store")[0] == 0
    small = ["--steps", "1", "--batch-size", "4", *FAST]
    assert jcl("pretrain", "store", "--width", "2", "--out", "pre", *small)[0] == 0
    code, said = jcl("pretrain", "store", "--width", "2", "--out", "fold", "--fold", "0", *small)
    assert (code, "p0 is the only patient with labels" in said, "--fold none" in said) == (2, True, True)
    code, said = jcl("finetune", "store", "--init", "pre", "--out", "fine", *small)
    assert (code, "none is left to be tested" in said) == (0, True)
    assert json.loads(Path("fine/run.json").read_text())["settings"]["fold"] == "none"
    assert read_split(Path("fine/split.json")) == Split(("p0",))
    assert jcl("finetune", "store", "--init", "pre", "--out", "fine", "--resume", *small)[0] == 0
    code, said = jcl("evaluate", "fine", "--out", "own.json")
    assert (code, "there are no test patients" in said, "--store" in said) == (3, True, True)
    code, said = jcl("evaluate", "fine", "--store", "other-store", "--out", "others.json")
    assert (code, "2 test cases" in said) == (0, True)
    code, said = jcl("verify", "fine")
    assert (code, "1 train, 0 validation, 0 test" in said) == (0, True)
    assert jcl("predict", "fine", "others/images", "--out", "segmentations")[0] == 0
    assert len([*Path("segmentations").iterdir()]) == 2
    assert jcl("export", "fine", "--to", "hub", "--out", "as-hub", "--results", "others.json")[0] == 0


def test_training_images_under_other_names_are_told(jcl, tmp_path, monkeypatch):
    """One case in training and test under two names: https://github.com/UCSD-AI4H/COVID-CT/issues/11."""
    monkeypatch.chdir(tmp_path)
    write_volumes(Path("scans"), patients=2, labelled=2)
    jcl("prepare", "scans", "--labels", "1=ball", "--workers", "1", "--out", "store")
    jcl("finetune", "store", "--init", "none", "--width", "2", "--fold", "none", "--steps", "1", "--out", "fine", *FAST)
    for path in [*Path("scans").rglob("p*.nii.gz")]:
        path.rename(path.with_name(f"again_{path.name}"))
    jcl("prepare", "scans", "--labels", "1=ball", "--workers", "1", "--out", "again")
    code, said = jcl("evaluate", "fine", "--store", "again", "--out", "r.json")
    assert (code, "has images that fine was trained on (again_p0, again_p1), under other names" in said) == (0, True)
    image = sitk.ReadImage("scans/images/again_p1.nii.gz")
    sitk.WriteImage(image + 1, "scans/images/again_p1.nii.gz")
    Path("scans/images/again_p0.nii.gz").unlink()
    Path("scans/labels/again_p0.nii.gz").unlink()
    assert jcl("prepare", "scans", "--labels", "1=ball", "--workers", "1", "--out", "changed")[0] == 0
    code, said = jcl("evaluate", "fine", "--store", "changed", "--out", "r.json")
    assert (code, "trained on" in said) == (0, False)
