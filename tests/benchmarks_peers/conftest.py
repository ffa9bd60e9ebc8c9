"""A small data set whose label values are not 1, 2, … and whose scans lie askew."""

import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

DIRECTION = (0.0, 0.6, 0.8, -1.0, 0.0, 0.0, 0.0, -0.8, 0.6)
SPACING, ORIGIN = (1.5, 1.25, 8.0), (-20.0, 31.0, 7.0)


def volumes(number: int) -> tuple[np.ndarray, np.ndarray]:
    """Image and label (4 slices, 24 rows, 20 columns) of a patient: two boxes, the second wherever it fits."""
    label = np.zeros((4, 24, 20), np.int16)
    label[1:3, 2:10, 2:10] = 200
    label[1:3, 12:20, number % 8 : number % 8 + 8] = 500
    noise = np.random.default_rng(number).normal(0, 10, label.shape)
    return (label + noise).astype(np.int16), label


def save(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(SPACING)
    image.SetOrigin(ORIGIN)
    image.SetDirection(DIRECTION)
    sitk.WriteImage(image, str(path))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Seven patients, the last of them without labels."""
    folder, training = tmp_path / "data", list[dict[str, str]]()
    for number in range(7):
        image, label = volumes(number)
        entry = {"image": f"./imagesTr/p{number}.nii.gz"}
        save(folder / entry["image"], image)
        if number < 6:
            entry["label"] = f"./labelsTr/p{number}.nii.gz"
            save(folder / entry["label"], label)
        training.append(entry)
    about = {
        "name": "Two boxes", "modality": {"0": "MRI"}, "labels": {"0": "background", "200": "left", "500": "right"},
        "training": training,
    }  # fmt: skip
    (folder / "dataset.json").write_text(json.dumps(about))
    return folder
