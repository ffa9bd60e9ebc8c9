"""The heart and the great vessels of a patient."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float32
from scipy.spatial.transform import Rotation

from jcl.data.phantom.patient import STRUCTURES, Patient
from jcl.data.phantom.shapes import Axes, Canvas, Coordinates, ellipsoid, smooth_field, tube

__all__ = ["paint_heart"]

LABEL: Mapping[str, int] = {name: index + 1 for index, name in enumerate(STRUCTURES)}
FAT = -95.0
FRAME = np.array([[0.60, -0.62, -0.50], [-0.75, -0.65, -0.10], [0.26, -0.43, 0.86]])
"""The heart's own axes: u from the base of the left ventricle to its apex, s from it to the right ventricle, t up."""

# Each vessel is a course of points: x, y, z, radius, and how far the point follows the rotation of the heart.
Course = Sequence[Sequence[float | int]]
AORTA: Course = (
    (12, 5, 13, 14.5, 1), (3, -2, 30, 15, 1), (-12, -8, 52, 13.5, 0.6), (-17, -6, 74, 13, 0.2), (-8, 16, 94, 12.5, 0),
    (2, 44, 88, 12, 0), (6, 62, 62, 11.5, 0), (6, 67, 20, 11, 0), (2, 68, -40, 10.5, 0), (-2, 68, -120, 10, 0),
)  # fmt: skip
OUTFLOW: Course = ((4, -35, -2, 17, 1), (2, -33, 16, 14.5, 1), (0, -30, 29, 12, 1))
PULMONARY: Sequence[Course] = (
    ((0, -28, 36, 13, 1), (6, -20, 50, 13, 0.8), (9, -2, 62, 12.5, 0.5)),
    ((9, -2, 62, 12, 0.5), (26, 16, 66, 10.5, 0.2), (50, 30, 60, 8, 0), (72, 36, 50, 5.5, 0)),
    ((9, -2, 62, 11, 0.5), (-10, 14, 59, 10, 0.3), (-40, 18, 55, 9, 0), (-66, 24, 48, 6, 0)),
)
SUPERIOR_CAVA: Course = ((-38, 0, 24, 9.5, 1), (-41, 3, 60, 9, 0.5), (-38, 2, 130, 9, 0))
INFERIOR_CAVA: Course = ((-34, 8, -18, 12, 1), (-32, 18, -60, 12, 0.3), (-24, 30, -130, 12, 0))
PULMONARY_VEINS: Sequence[Course] = (
    ((22, 34, 28, 8, 1), (48, 40, 40, 7, 0.5), (74, 38, 52, 5, 0)),
    ((24, 42, 6, 8, 1), (52, 52, -1, 7, 0.5), (78, 56, -8, 5, 0)),
    ((-16, 34, 26, 8, 1), (-44, 36, 34, 7, 0.5), (-74, 32, 42, 5, 0)),
    ((-14, 42, 8, 8, 1), (-42, 54, 2, 7, 0.5), (-72, 58, -8, 5, 0)),
)
# Centre and semi-axes in x, y, z, before the heart is turned: the body of each atrium and its appendage.
ATRIA = {
    "RA": (((-36.0, -2.0, 0.0), (25.0, 27.0, 31.0)), ((-27.0, -27.0, 22.0), (13.0, 12.0, 11.0))),
    "LA": (((5.0, 29.0, 18.0), (33.0, 21.0, 25.0)), ((36.0, 1.0, 27.0), (11.0, 15.0, 10.0))),
}


@dataclass(frozen=True)
class Heart:
    """Where the voxels lie in a patient's heart, and the density of his blood."""

    axes: Axes
    patient: Patient
    turn: Float[np.ndarray, "3 3"]
    warped: Coordinates
    """x, y, z with the smooth displacement that makes every shape irregular."""
    level: Coordinates
    """The same with the rotation of the heart undone."""
    own: Coordinates
    """u, s, t: in the heart's own axes."""
    left: Float32[np.ndarray, "d h w"]
    """HU of the blood in the left heart; `right` in the right heart, where contrast agent and blood mix."""
    right: Float32[np.ndarray, "d h w"]

    def vessel(self, course: Course, ratio: float = 1.0, *, wall: float = 0.0) -> Bool[np.ndarray, "d h w"]:
        """Voxels of a vessel whose radii are `ratio` times those of the course, plus `wall` mm."""
        table = np.array(course, dtype=np.float64)
        points, follow = table[:, :3], table[:, 4:]
        points = follow * (points @ self.turn.T) + (1 - follow) * points
        reach = 4 * self.patient.warp
        return tube(self.warped, self.axes, points, (table[:, 3] * ratio + wall).tolist(), reach)


def paint_heart(canvas: Canvas, axes: Axes, patient: Patient, rng: np.random.Generator) -> None:
    """Paint the heart in its fat, with the seven labelled structures and the unlabelled veins."""
    heart = _place(axes, patient, rng)
    fat = patient.fat / 3
    canvas.paint(ellipsoid(heart.own, (20, -9, 0), (72 + fat, 60 + fat, 46 + fat)) < 1, FAT)
    canvas.paint(heart.vessel(AORTA, wall=2 + fat), FAT)
    for branch in (*PULMONARY, SUPERIOR_CAVA):
        canvas.paint(heart.vessel(branch, wall=2 + fat / 2), FAT)
    _paint_veins(canvas, heart)
    _paint_atrium(canvas, heart, "RA", heart.right)
    _paint_atrium(canvas, heart, "LA", heart.left)
    _paint_right_ventricle(canvas, heart)
    for branch in PULMONARY:
        canvas.paint(heart.vessel(branch, patient.chambers["PA"]), heart.right, LABEL["PA"])
    canvas.paint(heart.vessel(AORTA, patient.chambers["Ao"], wall=2.0), patient.muscle)
    canvas.paint(heart.vessel(AORTA, patient.chambers["Ao"]), heart.left, LABEL["Ao"])
    _paint_left_ventricle(canvas, heart, rng)


def _place(axes: Axes, patient: Patient, rng: np.random.Generator) -> Heart:
    shift = [np.float32(patient.warp) * smooth_field(axes.shape, (5, 6, 6), rng) for _ in range(3)]
    x, y, z = (
        at + np.clip(d, -4 * patient.warp, 4 * patient.warp) for at, d in zip(axes.coordinates, shift, strict=True)
    )
    turn = Rotation.from_euler("xyz", patient.turn, degrees=True).as_matrix()
    frame = FRAME / np.linalg.norm(FRAME, axis=1, keepdims=True)
    level = _rotate((x, y, z), turn.T)
    left = np.float32(patient.left) * (1 + np.float32(0.03) * smooth_field(axes.shape, (4, 5, 5), rng))
    right = np.float32(patient.right) * (1 + np.float32(0.12) * smooth_field(axes.shape, (5, 7, 7), rng))
    return Heart(axes, patient, turn, (x, y, z), level, _rotate(level, frame), left, right)


def _rotate(at: Coordinates, matrix: Float[np.ndarray, "3 3"]) -> Coordinates:
    a, b, c = (np.float32(row[0]) * at[0] + np.float32(row[1]) * at[1] + np.float32(row[2]) * at[2] for row in matrix)
    return a, b, c


def _paint_veins(canvas: Canvas, heart: Heart) -> None:
    """The veins carry the blood of the atria they enter but no label, as in the public data sets."""
    for vein in PULMONARY_VEINS:
        canvas.paint(heart.vessel(vein), heart.left)
    canvas.paint(heart.vessel(INFERIOR_CAVA), 60 + np.float32(0.4) * heart.right)
    dense = np.float32(1.5) if heart.patient.right > 170 else np.float32(1.0)
    canvas.paint(heart.vessel(SUPERIOR_CAVA), dense * heart.right)


def _paint_atrium(canvas: Canvas, heart: Heart, name: str, blood: Float32[np.ndarray, "d h w"]) -> None:
    """An atrium and its appendage, behind the plane of the valves, each with a thin wall."""
    ratio = heart.patient.chambers[name]
    behind = heart.own[0] < 3
    for centre, semi in ATRIA[name]:
        outer = ellipsoid(heart.level, centre, [axis * ratio + 2.5 for axis in semi])
        canvas.paint((outer < 1) & behind & (canvas.label != LABEL[name]), heart.patient.muscle)
        inner = ellipsoid(heart.level, centre, [axis * ratio for axis in semi])
        canvas.paint((inner < 1) & behind, blood, LABEL[name])


def _paint_right_ventricle(canvas: Canvas, heart: Heart) -> None:
    """A crescent once the left ventricle is painted over it, with its outflow tract to the pulmonary trunk."""
    ratio, label = heart.patient.chambers["RV"], LABEL["RV"]
    centre, semi = (20.0, 8.0 * ratio, 1.0), np.array([57.0, 33.0, 39.0]) * ratio
    before = heart.own[0] > -3
    canvas.paint((ellipsoid(heart.own, centre, semi + 3.5) < 1) & before, heart.patient.muscle)
    canvas.paint(heart.vessel(OUTFLOW, ratio, wall=3.0), heart.patient.muscle)
    canvas.paint((ellipsoid(heart.own, centre, semi) < 1) & before, heart.right, label)
    canvas.paint(heart.vessel(OUTFLOW, ratio), heart.right, label)


def _paint_left_ventricle(canvas: Canvas, heart: Heart, rng: np.random.Generator) -> None:
    """Cavity, wall, and two papillary muscles, which count as cavity."""
    patient = heart.patient
    radius, wall = 23.0 * patient.chambers["LV"], patient.wall * patient.chambers["Myo"]
    length = 80.0 * patient.chambers["LV"] ** 0.7
    centre, semi = (0.27 * length, -radius - wall, 0.0), np.array([0.73 * length, radius, radius])
    outer = np.add(semi, (0.8 * wall, wall, wall))
    muscle = np.float32(patient.muscle) + 8 * smooth_field(heart.axes.shape, (6, 8, 8), rng)
    u = heart.own[0]
    canvas.paint((ellipsoid(heart.own, centre, outer) < 1) & (u > -3), muscle, LABEL["Myo"])
    canvas.paint((ellipsoid(heart.own, centre, semi) < 1) & (u > -1), heart.left, LABEL["LV"])
    for side in (-1, 1):
        place = (0.45 * length, centre[1] - 0.35 * radius, side * 0.55 * radius)
        papillary = ellipsoid(heart.own, place, (16.0, 4.5, 4.5)) < 1
        canvas.paint(papillary & (canvas.label == LABEL["LV"]), muscle, LABEL["LV"])
