"""Whose slices are taken without labels, where only names or only images tell that someone is held back."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from jcl.config import FinetuneConfig, PrepareConfig
from jcl.data.splits import Split
from jcl.data.store import Store
from jcl.errors import DataError
from jcl.stages.prepare import prepare
from jcl.training.unlabelled import feed_without_labels, unlabelled_record
from support.scans import write_volumes
from support.shared import made_once


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    def make(out: Path) -> None:
        scans = write_volumes(out.with_name("scans"), patients=4, slices=2, size=16)
        prepare(PrepareConfig(source=scans, out=out, labels="1=ball", workers=1))

    return made_once(tmp_path_factory, "unlabelled", make)


@pytest.fixture
def store(path: Path) -> Store:
    return Store.open(path)


def config(block: tuple[int, int, int] | None = None) -> FinetuneConfig:
    return FinetuneConfig(store=Path("store"), out=Path("out"), init="none", block=block)


SPLIT = Split(("p0",), validation=("p1",), test=("p2",))


def test_by_name_where_the_store_does_not_know_its_files(store: Store):
    store.cases = tuple(replace(record, source={}) for record in store.cases)
    for block, what in ((None, "4 slices"), ((2, 8, 8), "blocks of 2 x 8 x 8 of 2 volumes")):
        fed, patients = feed_without_labels(config(block), store, SPLIT, [store])
        assert fed.words == what
        assert patients == [{"p0", "p3"}]
        drawn = range(len(fed.dataset.store_numbers()))
        numbers = list(drawn) if fed.redraw is None else fed.redraw(list(drawn), np.random.default_rng(0))
        batch = fed.dataset.read(numbers)
        assert {store.cases[case].patient for case in batch.volumes.tolist()} == {"p0", "p3"}
        assert batch.labels is None
    assert unlabelled_record([store], patients) == [
        {"path": str(store.path), "digest": store.digest, "patients": ["p0", "p3"]}
    ]


def test_by_images_where_someone_is_there_under_another_name(store: Store, path: Path, capsys):
    other = Store.open(path)
    other.digest = "another"
    other.cases = tuple(replace(record, patient=f"case {record.patient}") for record in other.cases)
    assert feed_without_labels(config(), store, SPLIT, [other])[1] == [{"case p0", "case p3"}]
    assert f"{path}: 2 patients left out, whose images are held back in {path}" in capsys.readouterr().err


def test_another_patient_of_the_same_name_is_someone_else(store: Store, path: Path):
    other = Store.open(path)
    other.digest = "another"
    other.cases = tuple(replace(record, source={}) for record in other.cases)
    assert feed_without_labels(config(), store, SPLIT, [other])[1] == [{"p0", "p1", "p2", "p3"}]


@pytest.mark.parametrize(
    ("recipe", "said"),
    [({"spacing": 2.0}, "spacing 2.0, not none"), ({"window": [0.0, 9.0]}, "window 0 9, not none")],
)
def test_a_store_that_is_prepared_otherwise_is_refused(store: Store, path: Path, recipe, said):
    """A teacher would guess at structures of another size or brightness than it has learned."""
    other = Store.open(path)
    other.digest, other.preparation = "another", {**other.preparation, **recipe}
    with pytest.raises(DataError, match=f"is prepared with {said} as .* is; prepare it likewise"):
        feed_without_labels(config(), store, SPLIT, [other])
