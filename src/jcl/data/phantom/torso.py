"""What lies around the heart: lungs, ribs, spine, liver, skin and the scanner's table."""

import numpy as np
from jaxtyping import Float32
from scipy.ndimage import gaussian_filter

from jcl.data.phantom.patient import Patient
from jcl.data.phantom.shapes import Axes, Canvas, ellipsoid, smooth_field

__all__ = ["paint_torso"]

MIDLINE = -22.0  # x of sternum and spine: the heart lies to the left of it
BACK = 98.0  # y of the pleura at the back
HALF_WIDTH = 132.0
WALL = 27.0  # mm from the pleura to the fat under the skin
AIR, LUNG, FAT, MUSCLE, MARROW, BONE = -1000.0, -860.0, -100.0, 55.0, 190.0, 520.0


def paint_torso(canvas: Canvas, axes: Axes, patient: Patient, rng: np.random.Generator) -> None:
    """Paint a chest with an empty mediastinum; `paint_heart` fills it."""
    x, y, _ = axes.coordinates
    half_depth = 88.0 * patient.depth
    middle = BACK - half_depth
    level = (np.abs((x - MIDLINE) / HALF_WIDTH) ** 2.5 + np.abs((y - middle) / half_depth) ** 2.5) ** 0.4
    narrowing = (1 + 0.0012 * np.clip(axes.z, 0, None))[:, None, None].astype(np.float32)
    depth = (level.astype(np.float32) * narrowing - 1) * np.float32(half_depth)  # mm outside the pleura
    canvas.hu.fill(AIR)
    _paint_table(canvas, axes, BACK + WALL + patient.fat)
    canvas.paint(depth < WALL + patient.fat, FAT)
    canvas.paint(depth < WALL, MUSCLE)
    _paint_ribs(canvas, axes, depth, rng)
    _paint_lungs(canvas, axes, depth, rng)
    _paint_abdomen(canvas, axes, depth, patient, rng)
    _paint_spine(canvas, axes, rng)
    sternum = ellipsoid(axes.coordinates, (MIDLINE, BACK - 2 * half_depth - 9, 60), (17, 7, 110))
    canvas.paint(sternum < 1, BONE * 0.6)
    canvas.paint(sternum < 0.6, MARROW * 0.6)


def _paint_table(canvas: Canvas, axes: Axes, skin: float) -> None:
    x, y, _ = axes.coordinates
    gap = y - (skin + 7 + 0.0011 * (x - MIDLINE) ** 2)
    canvas.paint(((gap > 0) & (gap < 30)) | (gap > 500), -930.0)
    canvas.paint(((gap > 0) & (gap < 4)) | ((gap > 26) & (gap < 30)), -120.0)


def _paint_ribs(canvas: Canvas, axes: Axes, depth: Float32[np.ndarray, "d h w"], rng: np.random.Generator) -> None:
    """Oblique hoops: a slice cuts each of them once, so they show as ovals around the lungs."""
    _, y, z = axes.coordinates
    phase = rng.uniform(0, 2 * np.pi)
    hoop = np.cos((z + 0.45 * y) * np.float32(2 * np.pi / 27) + np.float32(phase))
    shell = np.square((depth - 9) / 5.5)
    canvas.paint(shell + np.square((1 - hoop) / 0.75) < 1, BONE)
    canvas.paint(shell * 2.2 + np.square((1 - hoop) / 0.45) < 1, MARROW)
    canvas.paint((np.abs(depth - 17) < 2) & (hoop < -0.3), FAT)


def _paint_lungs(canvas: Canvas, axes: Axes, depth: Float32[np.ndarray, "d h w"], rng: np.random.Generator) -> None:
    x, y, z = axes.coordinates
    grain = gaussian_filter(rng.standard_normal(axes.shape, dtype=np.float32), (0.6, 0.9, 0.9), truncate=2)
    grain /= grain.std()
    vessels = np.where(grain > 1.9, np.float32(420) * (grain - 1.5), 25 * grain)
    canvas.paint(depth < 0, np.float32(LUNG) + 0.6 * y + vessels)
    width = np.interp(z, (20.0, 70.0, 100.0), (20.0, 30.0, 36.0)).astype(np.float32)
    across = np.square((x - MIDLINE) / width)
    canvas.paint((across + np.square((y - 12) / 84) < 1) & (depth < 0), FAT)
    canvas.paint((np.abs(x - MIDLINE) < 12) & (np.abs(y - 62) < 8), MUSCLE)  # oesophagus, near enough


def _paint_abdomen(
    canvas: Canvas, axes: Axes, depth: Float32[np.ndarray, "d h w"], patient: Patient, rng: np.random.Generator
) -> None:
    """Liver, and stomach with its bubble of gas, under the two domes of the diaphragm."""
    x, y, z = axes.coordinates
    bend = 4 * smooth_field(axes.shape, (3, 5, 5), rng)
    domes = [
        top + patient.diaphragm - 0.0045 * (x - MIDLINE - side) ** 2 - 0.0042 * (y - 8) ** 2
        for side, top in ((-62.0, -30.0), (66.0, -44.0))
    ]
    under = (z < np.maximum(*domes).astype(np.float32) + bend) & (depth < 0)
    canvas.paint(under, FAT)
    inner = under & (depth < -5)
    border = x - MIDLINE - 45 + 3 * bend
    canvas.paint(inner & (border < 0), 105 + 6 * bend)
    canvas.paint(inner & (border > 4), 35 + 3 * bend)
    gas = ellipsoid(axes.coordinates, (MIDLINE + 72, -12, -75 + patient.diaphragm), (26, 20, 18)) < 1
    canvas.paint(gas & inner, AIR + 40)


def _paint_spine(canvas: Canvas, axes: Axes, rng: np.random.Generator) -> None:
    x, y, z = axes.coordinates
    along = np.cos(z * np.float32(2 * np.pi / 27) + np.float32(rng.uniform(0, 2 * np.pi)))
    aside = np.abs(x - MIDLINE)
    canvas.paint((aside < 48) & (y > 92) & (y < BACK + WALL), MUSCLE)
    body = np.square(aside / 20) + np.square((y - 95) / 15)
    canvas.paint(body < 1, BONE - 180 * (along < -0.75))
    canvas.paint((body < 0.72) & (along > -0.75), MARROW)
    canvas.paint((body < 0.8) & (along <= -0.75), 95.0)
    arch = np.square(aside / 15) + np.square((y - 117) / 12)
    canvas.paint(arch < 1, BONE)
    canvas.paint((aside < 34) & (np.abs(y - 113) < 5) & (along > 0.3), BONE * 0.8)
    canvas.paint(np.square(aside / 9) + np.square((y - 116) / 8) < 1, 30.0)
    canvas.paint((aside < 3.5) & (y > 126) & (y < BACK + WALL + 6) & (along > -0.2), BONE)
