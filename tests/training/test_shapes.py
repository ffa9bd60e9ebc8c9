"""What the labels of the training cases say of a structure's pieces and holes."""

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from jcl.config import PrepareConfig
from jcl.data.store import Store
from jcl.stages.prepare import prepare
from jcl.training.shapes import shapes_of

SHAPE = (5, 24, 24)


def blank() -> np.ndarray:
    return np.zeros(SHAPE, np.uint8)


def ring() -> np.ndarray:
    """A shell with a hole, and a block."""
    labels = blank()
    labels[0:5, 2:9, 2:9] = 1
    labels[2, 5, 5] = 0
    labels[1:4, 14:20, 14:20] = 2
    return labels


def solid() -> np.ndarray:
    labels = ring()
    labels[2, 5, 5] = 1
    return labels


def parted() -> np.ndarray:
    """The block in two, of about the same size."""
    labels = solid()
    labels[2] = np.where(labels[2] == 2, 0, labels[2])
    return labels


def speck() -> np.ndarray:
    labels = solid()
    labels[4, 22, 22] = 2
    return labels


def store_of(folder: Path, *cases: np.ndarray, **more) -> Store:
    for kind in ("images", "labels"):
        (folder / kind).mkdir(parents=True)
    for number, labels in enumerate(cases):
        noise = np.random.default_rng(number).normal(100, 20, SHAPE).astype(np.float32)
        for kind, array in (("images", noise), ("labels", labels)):
            sitk.WriteImage(sitk.GetImageFromArray(array), str(folder / kind / f"p{number}.nii.gz"))
    prepare(PrepareConfig(source=folder, out=folder / "store", labels="1=A,2=B", workers=1, **more))
    return Store.open(folder / "store")


@pytest.mark.parametrize(
    ("cases", "one_piece", "without_holes"),
    [
        ((solid,), ["A", "B"], ["A", "B"]),
        ((solid, ring), ["A", "B"], ["B"]),
        ((solid, parted), ["A"], ["A", "B"]),
        ((speck, solid), ["A", "B"], ["A", "B"]),
    ],
)
def test_all_cases_have_to_agree(tmp_path: Path, cases, one_piece, without_holes):
    store = store_of(tmp_path, *(case() for case in cases))
    patients = {record.patient for record in store.cases}
    assert shapes_of(store, patients) == {"one_piece": one_piece, "without_holes": without_holes}


def test_only_patients_that_are_trained_on_count_and_of_them_only_what_they_have(tmp_path: Path):
    lacking = solid()
    lacking[lacking == 2] = 0
    store = store_of(tmp_path, lacking, parted(), ring())
    assert shapes_of(store, {"p0"}) == {"one_piece": ["A"], "without_holes": ["A"]}
    assert shapes_of(store, {"p0", "p1"}) == {"one_piece": ["A"], "without_holes": ["A", "B"]}


def test_cases_that_are_not_labelled_throughout_do_not_count(tmp_path: Path):
    partly = parted()
    partly[0, 0, 0] = 9
    store = store_of(tmp_path, solid(), partly, ignore=9)
    assert shapes_of(store, {"p0", "p1"}) == {"one_piece": ["A", "B"], "without_holes": ["A", "B"]}
    assert shapes_of(store, {"p1"}) == {"one_piece": [], "without_holes": []}
