"""Small cases of each data set, in exactly the layout that it is distributed in.

In every volume structure number k (from 1) is a box of 8 x 8 pixels in 1 + k % 3 slices, and the image is k inside of
it: so voxels can be counted by hand, and whatever mixes up slices or axes shows in the intensities.
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from PIL import Image

from support.dicomfiles import write_series

SHAPE = (6, 32, 32)
BOX = 8
RAS = (-1.0, 0.0, 0.0, 0.0, -1.0, 0.0, 0.0, 0.0, 1.0)
"""Direction cosines of a NIfTI file without a turn, as SimpleITK gives them."""


def slices_of(number: int) -> int:
    """In how many slices structure `number` is."""
    return 1 + number % 3


def labels(structures: int, shape: tuple[int, int, int] = SHAPE) -> np.ndarray:
    """Numbers of the structures, from 1."""
    volume = np.zeros(shape, np.int16)
    for number in range(1, structures + 1):
        row, column = divmod(number - 1, 3)
        rows, columns = (slice(2 + 10 * place, 2 + 10 * place + BOX) for place in (row, column))
        volume[1 : 1 + slices_of(number), rows, columns] = number
    return volume


def save(path: Path, array: np.ndarray, spacing: Sequence[float], direction: Sequence[float] = RAS) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(tuple(spacing))
    if image.GetDimension() == 3:
        image.SetDirection(direction)
    sitk.WriteImage(image, str(path))


def in_values(volume: np.ndarray, values: Sequence[int]) -> np.ndarray:
    """Numbers of the structures as the values that label files have."""
    return np.array([0, *values], np.int16)[volume]


def write_pairs(
    folder: Path, names: Sequence[tuple[str, str]], values: Sequence[int], spacing: Sequence[float]
) -> None:
    """An image and its label for each pair of paths below the folder."""
    numbers = labels(len(values))
    for image, label in names:
        save(folder / image, 100 * numbers, spacing)
        save(folder / label, in_values(numbers, values), spacing)


def chd(folder: Path) -> None:
    # 9 is one of the larger values that are background
    names = [(f"ct_{k}_image.nii.gz", f"ct_{k}_label.nii.gz") for k in (1001, 1002, 1128)]
    write_pairs(folder, names, (1, 2, 3, 4, 5, 6, 7), (0.5, 0.5, 2.5))
    extra = sitk.ReadImage(str(folder / names[0][1]))
    extra[0, 0, 0] = 9
    sitk.WriteImage(extra, str(folder / names[0][1]))


def mmwhs(folder: Path, kinds: Sequence[str] = ("ct", "mr")) -> None:
    names = [
        (f"{kind}_train/{kind}_train_{k}_image.nii.gz", f"{kind}_train/{kind}_train_{k}_label.nii.gz")
        for kind in kinds
        for k in (1001, 1002, 1020)
    ]
    write_pairs(folder, names, (500, 600, 420, 550, 205, 820, 850), (0.5, 0.5, 2.5))


def hvsmr(folder: Path) -> None:
    forms = [("axial_full", 0), ("axial_full", 1), ("axial_full", 9), ("axial_crop", 0), ("sa_crop", 1)]
    names = [(f"training_{form}_pat{k}.nii.gz", f"training_{form}_pat{k}-label.nii.gz") for form, k in forms]
    write_pairs(folder, names, (1, 2), (0.35, 0.35, 0.9))


def acdc(folder: Path) -> None:
    stems = [f"patient{k:03d}/patient{k:03d}_frame{t:02d}" for k in (1, 2, 100) for t in (1, 12)]
    write_pairs(folder, [(f"{stem}.nii.gz", f"{stem}_gt.nii.gz") for stem in stems], (1, 2, 3), (0.5, 0.5, 10))
    (folder / "patient001" / "Info.cfg").write_text("ED: 1\n")


def brats2018(folder: Path) -> None:
    numbers = labels(3)
    for grade, case in (("HGG", "Brats18_A_1"), ("HGG", "Brats18_B_1"), ("LGG", "Brats18_C_1")):
        for gain, sequence in enumerate(("t1", "t1ce", "t2", "flair"), start=1):
            save(folder / grade / case / f"{case}_{sequence}.nii.gz", 100 * gain * numbers, (0.5, 0.5, 1.0))
        save(folder / grade / case / f"{case}_seg.nii.gz", in_values(numbers, (1, 2, 4)), (0.5, 0.5, 1.0))


def kits2019(folder: Path) -> None:
    names = [(f"case_{k:05d}/imaging.nii.gz", f"case_{k:05d}/segmentation.nii.gz") for k in (0, 1, 209)]
    write_pairs(folder, names, (1, 2), (0.5, 0.5, 3.0))


def chaos(folder: Path) -> None:
    """File numbers run with the position in one patient, and against it in the others."""
    numbers = labels(4)
    for patient, rising in ((1, True), (2, False), (39, False)):
        series = folder / "MR" / str(patient) / "T2SPIR"
        files = write_series(series / "DICOM_anon", 100 * numbers, series=str(patient), step=8, PixelSpacing=[0.5, 0.5])
        (series / "Ground").mkdir()
        for place, (file, number) in enumerate(zip(files if rising else files[::-1], range(6), strict=True), start=1):
            file.rename(file.with_name(f"IMG-0004-{place:05d}.dcm"))
            picture = in_values(numbers[number if rising else 5 - number], (63, 126, 189, 252)).astype(np.uint8)
            sitk.WriteImage(sitk.GetImageFromArray(picture), str(series / "Ground" / f"IMG-0004-{place:05d}.png"))


def msd(folder: Path, case: str, structures: Sequence[str], count: int = 3) -> None:
    numbers = labels(len(structures))
    for k in range(count):
        save(folder / "imagesTr" / f"{case}_{k + 1:03d}.nii.gz", 100 * numbers, (1.0, 1.0, 1.5))
        save(folder / "labelsTr" / f"{case}_{k + 1:03d}.nii.gz", numbers, (1.0, 1.0, 1.5))
        (folder / "imagesTr" / f"._{case}_{k + 1:03d}.nii.gz").write_bytes(b"left by macOS")
    named = {"0": "background", **{str(k): name for k, name in enumerate(structures, start=1)}}
    content = {"name": case, "modality": {"0": "MRI"}, "labels": named}
    (folder / "dataset.json").write_text(json.dumps(content))


def isic2018(folder: Path) -> None:
    """Photographs in colour, of two sizes; the lesion is a box of 40 x 40 pixels."""
    for k, (height, width) in enumerate(((128, 96), (96, 128), (128, 128))):
        lesion = np.zeros((height, width), np.uint8)
        lesion[16:56, 24:64] = 255
        colours = np.stack([lesion // 2 + 60, lesion // 3 + 40, 200 - lesion // 2], axis=-1)
        for kind, name, array in (("Input", "{}.jpg", colours), ("GroundTruth", "{}_segmentation.png", lesion)):
            path = folder / f"ISIC2018_Task1_Training_{kind}" / name.format(f"ISIC_{k:07d}")
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(array).save(path, **({"quality": 95} if kind == "Input" else {}))


WRITERS: dict[str, Callable[[Path], None]] = {
    "chd": chd,
    "mmwhs": mmwhs,
    "mmwhs_ct": mmwhs,
    "mmwhs_mr": mmwhs,
    "hvsmr": hvsmr,
    "acdc": acdc,
    "brats2018": brats2018,
    "kits2019": kits2019,
    "chaos": chaos,
    "msd": lambda folder: msd(folder, "liver", ("liver", "tumour")),
    "msd_heart": lambda folder: msd(folder, "la", ("left atrium",)),
    "msd_hippocampus": lambda folder: msd(folder, "hippocampus", ("Anterior", "Posterior")),
    "msd_spleen": lambda folder: msd(folder, "spleen", ("spleen",)),
    "isic2018": isic2018,
}
