"""The commands of docs/ten_minutes.md, as they stand there but for the number of steps, on the scans they are of."""

import re
import shlex
from pathlib import Path

import pytest

from jcl import models
from jcl.cli.main import main
from jcl.files import read_json
from jcl.training import technique
from support.documents import ROOT

pytestmark = [pytest.mark.realdata, pytest.mark.slow]


def test_the_page_can_be_followed(realdata: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys):
    page = (ROOT / "docs" / "ten_minutes.md").read_text(encoding="utf-8")
    lines = [line.removeprefix("$ ") for line in page.splitlines() if line.startswith("$ jcl ")]
    assert [line.split()[1] for line in lines] == ["prepare", "finetune", "evaluate", "predict"]
    monkeypatch.setattr(technique, "FEWEST_STEPS", 3)  # as the page's own number suffices
    monkeypatch.chdir(tmp_path)
    Path("Task04_Hippocampus").symlink_to(realdata / "hippocampus")
    for line in lines:
        fewer = re.sub(r"--steps \d+", "--steps 3", line)
        if "new-scans" in line:
            Path("new-scans").mkdir()
            for patient in read_json(Path("fine/split.json"))["test"][:2]:
                name = f"{patient}.nii.gz"
                Path("new-scans", name).symlink_to(realdata / "hippocampus" / "imagesTr" / name)
        assert main(shlex.split(fewer)[1:]) == 0, (line, capsys.readouterr().err)
    said = capsys.readouterr()
    for shown in ("208 cases", "7379 slices of 64 x 64 pixels", "5861 slices of 166 patients", "42 test cases"):
        assert shown in page
        assert shown in said.out + said.err
    run = read_json(Path("fine/run.json"))
    assert run["init"]["digest"] == models.sheet("hippocampus")["sha256"]
    assert "97.7% of the parameters" in run["init"]["report"]
    assert len(list(Path("segmentations").glob("*.nii.gz"))) == 2
    assert len(list(Path("segmentations/overview").glob("*.png"))) == 2


def test_the_weights_have_seen_nobody_whom_fold_0_tests(realdata: Path, tmp_path: Path, capsys):
    prepare = ("prepare", str(realdata / "hippocampus"), "--dataset", "msd_hippocampus", "--size", "64")
    assert main([*prepare, "--out", str(tmp_path / "store")]) == 0
    fine = ("finetune", str(tmp_path / "store"), "--init", "hippocampus", "--patients", "2", "--steps", "1")
    assert main([*fine, "--fold", "1", "--out", str(tmp_path / "other")]) == 2
    assert "--allow-seen" in capsys.readouterr().err
