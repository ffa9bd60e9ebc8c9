"""What anatomy rules out: other pieces of a structure that has one, and holes where there are none."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import UInt8

from jcl.training.shapes import SHAPES, holes, pieces

__all__ = ["Rules", "Tidied", "postprocess", "rules_of"]


@dataclass(frozen=True)
class Rules:
    """Numbers of the classes that are one piece, and of those that have no holes."""

    one_piece: tuple[int, ...] = ()
    without_holes: tuple[int, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.one_piece or self.without_holes)


@dataclass(frozen=True)
class Tidied:
    """What was done: pieces that were removed and holes that were filled, and the voxels of each."""

    pieces: int = 0
    removed: int = 0
    holes: int = 0
    filled: int = 0

    def __add__(self, other: "Tidied") -> "Tidied":
        both = zip(vars(self).values(), vars(other).values(), strict=True)
        return Tidied(*(one + another for one, another in both))

    def __str__(self) -> str:
        return f"{self.pieces} pieces ({self.removed} voxels) removed, {self.holes} holes ({self.filled} voxels) filled"


def rules_of(infos: Sequence[Mapping[str, Any]]) -> Rules:
    """What the records of all of these runs agree on (see `jcl.training.shapes`); a run without them rules nothing."""
    classes = list(infos[0]["class_names"])
    agreed = [
        tuple(n for n, name in enumerate(classes, start=1) if all(name in (info.get(key) or ()) for info in infos))
        for key in SHAPES
    ]
    return Rules(*agreed)


def postprocess(classes: UInt8[np.ndarray, "d h w"], rules: Rules) -> Tidied:
    """Keep the largest piece of each structure that has one, then fill the holes of each that has none.

    What is removed becomes background. The classes are changed where they are.
    """
    count = removed = filled = 0
    for value in rules.one_piece:
        numbered, sizes, box = pieces(classes, value)
        if len(sizes) > 1:
            classes[box][(numbered > 0) & (numbered != int(sizes.argmax()) + 1)] = 0
            count += len(sizes) - 1
            removed += int(sizes.sum() - sizes.max())
    found = 0
    if rules.without_holes and classes.any():
        numbered, owners = holes(classes)
        chosen = np.isin(owners, rules.without_holes)
        if found := int(chosen.sum()):
            inside = chosen[numbered]
            classes[inside] = owners[numbered[inside]]
            filled = int(inside.sum())
    return Tidied(count, removed, found, filled)
