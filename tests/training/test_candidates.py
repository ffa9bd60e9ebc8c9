"""Who may be labelled next, by the recorded splits of runs."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from jcl.config import PrepareConfig
from jcl.data.splits import Split, write_split
from jcl.data.store import Store
from jcl.errors import DataError
from jcl.stages.prepare import prepare
from jcl.training.candidates import Candidates, find_candidates
from support.scans import write_volumes
from support.shared import made_once


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight patients, of whom p0 to p4 have labels."""

    def make(out: Path) -> None:
        scans = write_volumes(out.with_name("scans"), patients=8, labelled=5, slices=2, size=16)
        prepare(PrepareConfig(source=scans, out=out, labels="1=ball", workers=1))

    return made_once(tmp_path_factory, "candidates", make)


@pytest.fixture
def store(path: Path) -> Store:
    return Store.open(path)


def run_of(
    folder: Path, store: Store, kind: str, split: Split | None, name: str = "run"
) -> tuple[Path, dict[str, Any]]:
    run = folder / name
    run.mkdir()
    if split is not None:
        write_split(run / "split.json", split)
    info = {"kind": kind, "store": str(store.path), "store_digest": store.digest}
    return run, {**info, "stores": [{"path": str(store.path), "digest": store.digest}]}


def found(store: Store, *runs: tuple[Path, dict[str, Any]], also_labelled: bool = False) -> Candidates:
    return find_candidates(store, runs, also_labelled=also_labelled)


def test_of_a_pre_training_on_all(store: Store, tmp_path: Path):
    run = run_of(tmp_path, store, "pretrain", None)
    labelled = ("p0", "p1", "p2", "p3", "p4")
    assert found(store, run) == Candidates(("p5", "p6", "p7"), labelled, (), (), labelled)
    everyone = tuple(f"p{n}" for n in range(8))
    assert found(store, run, also_labelled=True) == Candidates(everyone, (), (), (), ())


def test_of_a_pre_training_with_a_split(store: Store, tmp_path: Path):
    """p4 and p7 are in no part of it: it was not to learn of them."""
    run = run_of(tmp_path, store, "pretrain", Split(("p0", "p1", "p5", "p6"), ("p2",), ("p3",)))
    assert found(store, run) == Candidates(("p5", "p6"), ("p0", "p1"), ("p2", "p3", "p4", "p7"), (), ("p0", "p1"))


def test_of_a_fine_tuning(store: Store, tmp_path: Path):
    """Whom its split does not name had no labels, or was left over by --patients."""
    run = run_of(tmp_path, store, "finetune", Split(("p0", "p1"), ("p2",), ("p3",)))
    without = found(store, run)
    assert without == Candidates(("p5", "p6", "p7"), ("p0", "p1", "p4"), ("p2", "p3"), ("p0", "p1"), ("p4",))
    assert found(store, run, also_labelled=True).open == ("p4", "p5", "p6", "p7")
    assert found(store, run, also_labelled=True).known == ("p0", "p1")


def test_whoever_is_tested_by_one_of_several_is_left_out(store: Store, tmp_path: Path):
    one = run_of(tmp_path, store, "finetune", Split(("p0",), (), ("p1", "p5")), "one")
    other = run_of(tmp_path, store, "finetune", Split(("p1", "p6"), (), ("p2",)), "other")
    assert found(store, one, other, also_labelled=True) == Candidates(
        ("p3", "p4", "p7"), ("p0", "p6"), ("p1", "p2", "p5"), ("p0", "p6"), ()
    )


def test_in_another_store_by_name_and_by_image(store: Store, path: Path, tmp_path: Path, capsys):
    """Labels have come since, so that the store is prepared anew; one patient got another name."""
    run = run_of(tmp_path, store, "finetune", Split(("p0", "p1"), ("p2",), ("p3",)))
    other = Store.open(path)
    other.digest = "another"
    other.cases = tuple(replace(r, patient="anna") if r.patient == "p3" else r for r in other.cases)
    assert found(other, run).held_back == ("anna", "p2")
    assert found(other, run).open == ("p5", "p6", "p7")
    run[1]["store"] = str(tmp_path / "gone")
    assert found(other, run, also_labelled=True).held_back == ("p2",)
    assert "known by their names alone" in capsys.readouterr().err


def test_new_patients_of_another_store_are_candidates_of_a_pre_training(store: Store, path: Path, tmp_path: Path):
    run = run_of(tmp_path, store, "pretrain", Split(("p0", "p1"), (), ("p3",)))
    other = Store.open(path)
    other.digest = "another"
    assert found(other, run).open == ("p5", "p6", "p7")


@pytest.mark.parametrize("kind", ["pretrain", "finetune"])
def test_a_run_that_does_not_say_of_which_store_it_is(store: Store, tmp_path: Path, kind: str):
    run, info = run_of(tmp_path, store, kind, Split(("p0",), (), ("p1",)))
    for lacking in ({}, {"stores": []}, {"stores": {}}, {"store": None}):
        with pytest.raises(DataError, match=r"run\.json: not what a training of jcl writes"):
            found(store, (run, {"kind": info["kind"], **lacking}))
