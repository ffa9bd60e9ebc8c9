"""Small scans that several tests write."""

import shutil
from collections.abc import Collection
from pathlib import Path

import numpy as np
import SimpleITK as sitk


def write_volumes(folder: Path, *, patients: int = 6, labelled: int = 6, slices: int = 6, size: int = 32) -> Path:
    """Volumes with a bright ball in noise; its place and radius differ between patients."""
    (folder / "images").mkdir(parents=True)
    (folder / "labels").mkdir()
    depth, row, column = np.mgrid[:slices, :size, :size]
    for number in range(patients):
        random = np.random.default_rng(number)
        centre, radius = random.uniform(12, 20, size=2), random.uniform(5, 8)
        distance = np.hypot(row - centre[0], column - centre[1]) + 2 * abs(depth - slices / 2)
        ball = distance < radius
        image = sitk.GetImageFromArray((100 * ball + random.normal(0, 10, ball.shape)).astype(np.int16))
        label = sitk.GetImageFromArray(ball.astype(np.uint8))
        for volume in (image, label):
            volume.SetSpacing((1.0, 1.0, 4.0))
        sitk.WriteImage(image, str(folder / "images" / f"p{number}.nii.gz"))
        if number < labelled:
            sitk.WriteImage(label, str(folder / "labels" / f"p{number}.nii.gz"))
    return folder


def with_labels_alone_of(patients: Collection[str], store: Path, out: Path) -> Path:
    """A copy of a store, in which the labels of all others cannot be read."""
    shutil.copytree(store, out)
    for case in (out / "cases").iterdir():
        if case.name not in patients:
            (case / "labels.slices").write_bytes(b"nothing")
    return out
