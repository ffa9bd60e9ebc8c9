"""Folders that look like a data set: files without content where a layout has them."""

import json
from pathlib import Path


def lay_out(folder: Path, *names: str) -> Path:
    """Empty files below a folder."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def write_msd(folder: Path, **content: object) -> Path:
    """Two cases in the Decathlon's layout, one of them with a label; `content` is what dataset.json says."""
    lay_out(folder, "imagesTr/a_1.nii.gz", "imagesTr/b_2.nii.gz", "labelsTr/a_1.nii.gz", "imagesTr/._a_1.nii.gz")
    (folder / "dataset.json").write_text(json.dumps(content))
    return folder
