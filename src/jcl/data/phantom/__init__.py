"""A generated cardiac phantom: CT-like volumes with seven labelled structures, for the demo and for tests.

Every patient is drawn from latent variables (`Patient`): the size of body and chambers, the rotation
of the heart, the thickness of its wall, fat, and when the contrast agent passed. The volumes are
made up, but hard enough that one or two labelled patients do not suffice to segment the others.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Int16, UInt8
from scipy.ndimage import gaussian_filter

from jcl.data.phantom.heart import paint_heart
from jcl.data.phantom.patient import STRUCTURES, Patient, draw_patient
from jcl.data.phantom.shapes import Axes, Canvas, smooth_field
from jcl.data.phantom.torso import paint_torso

__all__ = ["STRUCTURES", "Patient", "Scan", "case_name", "draw_patient", "scan", "write_dataset"]

VEIN = (-40.0, 3.0)  # x, y of the superior vena cava, whose contrast agent throws streaks


@dataclass(frozen=True)
class Scan:
    """A volume, slices upwards, rows to the back, columns to the patient's left."""

    image: Int16[np.ndarray, "d h w"]
    """Hounsfield units."""
    label: UInt8[np.ndarray, "d h w"]
    """0 background, k + 1 the structure `STRUCTURES[k]`."""
    spacing: tuple[float, float, float]
    """Slice, row and column spacing in mm."""


def scan(patient: Patient, *, seed: int = 0, size: int = 128, slices: int = 32, field: float = 205.0) -> Scan:
    """Scan a patient: about `slices` slices of `size` x `size` pixels, from the diaphragm to the arch of the aorta.

    Field of view, slice thickness, sharpness and noise differ from scan to scan. The same patient
    and seed give the same volume. `field` is the side of an adult's field of view in mm, on average: 205 shows
    most of the chest, 160 the heart.

    Examples:
        >>> scan(draw_patient(0, 3), size=64, slices=24).image.shape[1:]
        (64, 64)
    """
    rng = np.random.default_rng([seed, patient.number, 1])
    axes, spacing = _field_of_view(patient, size, slices, field, rng)
    canvas = Canvas(np.empty(axes.shape, np.float32), np.zeros(axes.shape, np.uint8))
    paint_torso(canvas, axes, patient, rng)
    paint_heart(canvas, axes, patient, rng)
    image = _acquire(canvas.hu, axes, patient, rng)
    return Scan(np.rint(np.clip(image, -1024, 3000)).astype(np.int16), canvas.label, spacing)


def _field_of_view(
    patient: Patient, size: int, slices: int, field: float, rng: np.random.Generator
) -> tuple[Axes, tuple[float, float, float]]:
    """Positions of the voxels in the adult's millimetres, and the spacing in the patient's own."""
    width = field * patient.size**0.6 * rng.uniform(0.9, 1.1)
    pixel = round(width / size, 3)
    height = patient.size * rng.uniform(165, 190)
    thick = round(height / slices * float(rng.choice((0.85, 1.0, 1.15))), 2)
    count = max(2, round(height / thick))
    centre = np.array([22, 4, 2]) * patient.size + rng.normal(0, 5, 3)  # z, y, x
    z, y, x = (
        ((np.arange(n) - (n - 1) / 2) * step + at) / patient.size
        for n, step, at in zip((count, size, size), (thick, pixel, pixel), centre, strict=True)
    )
    axes = Axes(z.astype(np.float32), y.astype(np.float32), x.astype(np.float32))
    return axes, (thick, pixel, pixel)


def _acquire(
    hu: Float32[np.ndarray, "d h w"], axes: Axes, patient: Patient, rng: np.random.Generator
) -> Float32[np.ndarray, "d h w"]:
    """What the scanner makes of the tissue: blur, shading, streaks and noise."""
    sharp = rng.uniform(0.45, 0.75)
    noise = gaussian_filter(rng.standard_normal(hu.shape, dtype=np.float32), (0, 0.6, 0.6), truncate=2)
    image = gaussian_filter(hu, (0.45, sharp, sharp), truncate=3)
    image += noise * np.float32(patient.noise / noise.std())
    image += 12 * smooth_field(hu.shape, (3, 4, 4), rng)
    return image + _streaks(axes, max(patient.right - 150, 0.0), rng)


def _streaks(axes: Axes, strength: float, rng: np.random.Generator) -> Float32[np.ndarray, "d h w"]:
    """Rays around the superior vena cava, in the slices above the right atrium."""
    x, y = axes.x[None, :] - VEIN[0], axes.y[:, None] - VEIN[1]
    angle, radius = np.arctan2(y, x), np.hypot(x, y)
    rays = sum(np.cos(k * angle + rng.uniform(0, 2 * np.pi)) for k in (7, 11, 16))
    fade = np.exp(-radius / 35) * np.clip(radius / 12, 0, 1)
    height = np.clip((axes.z - 10) / 40, 0, 1) * rng.normal(1, 0.4, len(axes.z))
    return (0.12 * strength * height[:, None, None] * rays * fade).astype(np.float32)


def case_name(number: int) -> str:
    """Name of a patient's case in a data set."""
    return f"phantom_{number:03d}"


def write_dataset(
    folder: Path,
    *,
    labelled: Sequence[int],
    unlabelled: Sequence[int],
    seed: int = 0,
    size: int = 128,
    slices: int = 32,
    field: float = 205.0,
    spread: float = 1.0,
) -> None:
    """Write patients as a data set in the layout of the Medical Segmentation Decathlon.

    Images are `imagesTr/phantom_NNN.nii.gz`; only the patients of `labelled` have a file in `labelsTr`.

    Args:
        folder: made where missing; files of the same names are replaced.
        labelled: numbers of the patients with labels.
        unlabelled: numbers of those without.
        seed: of the population; the same number and seed are the same patient.
        size: pixels a side.
        slices: slices of a scan, near enough.
        field: as for `scan`.
        spread: as for `draw_patient`.
    """
    training: list[dict[str, str]] = []
    for part in ("imagesTr", "labelsTr"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    for number in sorted({*labelled, *unlabelled}):
        made = scan(draw_patient(seed, number, spread=spread), seed=seed, size=size, slices=slices, field=field)
        entry = {"image": f"./imagesTr/{case_name(number)}.nii.gz"}
        _write(folder / entry["image"], made.image, made.spacing)
        if number in labelled:
            entry["label"] = f"./labelsTr/{case_name(number)}.nii.gz"
            _write(folder / entry["label"], made.label, made.spacing)
        training.append(entry)
    labels = {"0": "background", **{str(index + 1): name for index, name in enumerate(STRUCTURES)}}
    about = {"name": "Phantom", "description": "Generated cardiac CT; no patient's data", "licence": "CC0"}
    layout = {"tensorImageSize": "3D", "modality": {"0": "CT"}, "labels": labels}
    counts = {"numTraining": len(training), "numTest": 0, "training": training, "test": []}
    (folder / "dataset.json").write_text(json.dumps({**about, **layout, **counts}, indent=1) + "\n", encoding="utf-8")


def _write(
    path: Path, array: Int16[np.ndarray, "d h w"] | UInt8[np.ndarray, "d h w"], spacing: Sequence[float]
) -> None:
    import SimpleITK

    image = SimpleITK.GetImageFromArray(array)
    image.SetSpacing(tuple(reversed(spacing)))
    SimpleITK.WriteImage(image, str(path), useCompression=True)
