"""The folds and the few patients of the JCL authors' program, drawn as it draws them.

Its recipe is the same for all of its sets: the cases in the order of their sorted names, in five folds by
scikit-learn's `KFold(5, shuffle=True, random_state=12345)`, and few patients by `random.sample` of Python, seeded with
1234 before each draw. Two draws do not nest in general. Names sort as text: 1, 10, 13, …, 2, 20 in CHAOS.
"""

import random
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType

import numpy as np

from jcl.errors import UsageError

__all__ = ["AUTHORS", "FOLDS", "check_complete", "draw_few", "draw_fold"]

AUTHORS = "authors"
"""In the place of the number of folds."""

FOLDS = 5

FOLD_SEED, FEW_SEED = 12345, 1234

SIZES: Mapping[str, int] = MappingProxyType(
    {
        "acdc": 100,
        "chaos": 20,
        "chd": 68,
        "hvsmr": 10,
        "isic2018": 2594,
        "mmwhs_ct": 20,
        "msd_heart": 20,
        "msd_hippocampus": 260,
        "msd_spleen": 41,
    }
)
"""Patients of each of their sets: with one more or less every fold is another."""


def draw_fold(patients: Iterable[str], fold: int) -> tuple[list[str], list[str]]:
    """Training and test patients of a fold, each in the order of their names.

    Raises:
        UsageError: the fold is out of range, or there are fewer patients than folds.

    Examples:
        >>> draw_fold("abcdefg", 0)
        (['a', 'b', 'c', 'e', 'f'], ['d', 'g'])
    """
    names = sorted(set(patients))
    if not 0 <= fold < FOLDS:
        raise UsageError(f"fold is {fold}; of the authors' folds it has to be 0 to {FOLDS - 1}")
    if len(names) < FOLDS:
        raise UsageError(f"the authors' {FOLDS} folds of {len(names)} patients; give --folds {max(2, len(names))}")
    order = np.arange(len(names))
    np.random.RandomState(FOLD_SEED).shuffle(order)  # its stream is frozen
    tested = set(np.array_split(order, FOLDS)[fold].tolist())
    parts = [[name for number, name in enumerate(names) if (number in tested) == test] for test in (False, True)]
    return parts[0], parts[1]


def draw_few(train: Sequence[str], count: int) -> list[str]:
    """So many of a fold's training patients, in the order drawn.

    Args:
        train: all of them, in the order of their names.
        count: at most as many.
    """
    return random.Random(FEW_SEED).sample(train, count)


def check_complete(dataset: str, count: int) -> None:
    """See that a set of theirs has as many patients with labels as they had; of any other set nothing is known.

    Raises:
        UsageError: it has more or fewer.
    """
    if SIZES.get(dataset, count) != count:
        raise UsageError(
            f"the authors' folds of {dataset} are of {SIZES[dataset]} patients, this store has {count} with labels; "
            "prepare the whole training part"
        )
