"""Who is scanned: the latent variables in which one generated patient differs from the next."""

from dataclasses import dataclass, field

import numpy as np

__all__ = ["STRUCTURES", "Patient", "draw_patient"]

STRUCTURES = ("LV", "RV", "LA", "RA", "Myo", "Ao", "PA")
"""The seven substructures; number k of them has label k + 1."""


@dataclass(frozen=True, kw_only=True)
class Patient:
    """One patient. The defaults are the mean adult; nothing here is taken from real patients."""

    number: int = 0
    size: float = 1.0
    """Size of the whole body, as a ratio."""
    turn: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """Rotation of the heart about the x, y and z axis, in degrees."""
    chambers: dict[str, float] = field(default_factory=lambda: dict.fromkeys(STRUCTURES, 1.0))
    """Size of each structure, as a ratio."""
    wall: float = 10.0
    """Thickness of the left ventricle's wall, in mm."""
    fat: float = 8.0
    """Thickness of the fat under the skin, in mm; that around the heart is a third of it."""
    depth: float = 1.0
    """Depth of the chest, as a ratio."""
    diaphragm: float = 0.0
    """Height of the diaphragm above the mean one, in mm."""
    left: float = 380.0
    """HU of the blood in the left heart, which depends on when the contrast agent passed."""
    right: float = 300.0
    """HU of the blood in the right heart."""
    muscle: float = 100.0
    """HU of the myocardium."""
    warp: float = 3.0
    """Standard deviation of the smooth displacement that makes shapes irregular, in mm."""
    noise: float = 25.0
    """Standard deviation of the image noise, in HU."""


def draw_patient(seed: int, number: int, *, spread: float = 1.0) -> Patient:
    """Patient `number` of the population `seed`: the same on any machine, whoever else is drawn.

    Sizes are those of children and adults. A dilated heart has large ventricles and thin walls;
    the contrast agent may have left the right heart already, or still be denser in it. With a `spread` below 1 everyone
    is so much nearer to the mean adult, in each variable: 0.5 is halfway.
    """
    mean = Patient(number=number)
    rng = np.random.default_rng([seed, number, 0])
    dilated = rng.normal()
    ratios = np.exp(rng.normal(0.0, 0.10, len(STRUCTURES)))
    chambers = {name: float(ratio) for name, ratio in zip(STRUCTURES, ratios, strict=True)}
    chambers["LV"] *= float(np.exp(0.09 * dilated))
    chambers["RV"] *= float(np.exp(0.07 * dilated))
    washed_out = rng.random() < 0.4
    drawn = Patient(
        number=number,
        size=float(rng.uniform(0.72, 1.08)),
        turn=(float(rng.normal(0, 9)), float(rng.normal(0, 9)), float(rng.normal(0, 13))),
        chambers=chambers,
        wall=float(np.clip(10.0 * np.exp(rng.normal(-0.12 * dilated, 0.16)), 6.0, 16.0)),
        fat=float(np.clip(np.exp(rng.normal(2.1, 0.5)), 3.0, 28.0)),
        depth=float(rng.uniform(0.9, 1.12)),
        diaphragm=float(rng.normal(0, 8)),
        left=float(rng.uniform(210, 520)),
        right=float(rng.uniform(70, 170) if washed_out else rng.uniform(170, 480)),
        muscle=float(rng.uniform(75, 130)),
        warp=float(rng.uniform(2.0, 4.0)),
        noise=float(rng.uniform(15, 55)),
    )
    return drawn if spread == 1 else _between(mean, drawn, spread)


def _between(mean: Patient, drawn: Patient, share: float) -> Patient:
    """The patient that lies at `share` of the way from the mean adult to another one."""

    def at(start: float, end: float) -> float:
        return start + share * (end - start)

    x, y, z = (at(start, end) for start, end in zip(mean.turn, drawn.turn, strict=True))
    chambers = {name: at(mean.chambers[name], ratio) for name, ratio in drawn.chambers.items()}
    numbers = {name: at(value, getattr(drawn, name)) for name, value in vars(mean).items() if isinstance(value, float)}
    return Patient(number=drawn.number, turn=(x, y, z), chambers=chambers, **numbers)
