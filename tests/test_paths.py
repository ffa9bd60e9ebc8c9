"""From scans to segmentations below folders with spaces and other alphabets, the scans read-only."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from jcl.cli.main import main
from support.scans import write_volumes


def jcl(*words: object) -> None:
    """In a process of its own, where names have to be encoded."""
    command = [sys.executable, "-m", "jcl", *map(str, words)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, (words[0], done.stderr)


def jcl_here(*words: object) -> None:
    assert main([str(word) for word in words]) == 0, words[0]


@pytest.mark.slow
def test_names_in_other_alphabets_and_folders_that_may_only_be_read(tmp_path: Path) -> None:
    base = tmp_path / "Größe 患者 données"
    scans = write_volumes(base / "my scans")
    for number, name in enumerate(("Jürgen 1", "患者 二", "paciente ñ")):
        for folder in ("images", "labels"):
            (scans / folder / f"p{number}.nii.gz").rename(scans / folder / f"{name}.nii.gz")
    for folder in (scans, scans / "images", scans / "labels"):
        folder.chmod(0o555)
    try:
        jcl("prepare", scans, "--out", base / "the store", "--labels", "1=ball", "--workers", 2)
        jcl_here("verify", base / "the store", "--source", scans, "--out", base / "a check")
        jcl_here(
            "pretrain",
            base / "the store",
            "--out",
            base / "pré",
            "--width",
            2,
            "--steps",
            2,
            "--workers",
            1,
            "--fold",
            0,
        )
        jcl_here("finetune", base / "the store", "--init", base / "pré", "--out", base / "fein", "--steps", 2)
        jcl_here("evaluate", base / "fein", "--out", base / "Ergebnis 1.json")
        jcl("predict", base / "fein", scans / "images", "--out", base / "segmentations à voir")
    finally:
        for folder in (scans, scans / "images", scans / "labels"):
            folder.chmod(0o755)
    written = {path.name for path in (base / "segmentations à voir").iterdir()}
    assert written == {path.name for path in (scans / "images").iterdir()}
    assert "患者 二.nii.gz" in written
