"""Folds and few-label subsets: no leak, nested, the same everywhere."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jcl.data.datasets import spec_names
from jcl.data.splits import (
    Split,
    check_split,
    draw_split,
    few_patients,
    labelled_part,
    make_split,
    official_splits,
    read_official_split,
    read_split,
    take_split,
    write_split,
)
from jcl.errors import DataError, UsageError

PATIENTS = [f"p{number:02}" for number in range(23)]
NAMES = st.lists(st.text(min_size=1, max_size=8), min_size=5, max_size=30, unique=True)


@given(NAMES, st.integers(0, 2**31), st.integers(2, 5))
def test_folds_part_the_patients(patients: list[str], seed: int, folds: int) -> None:
    tests: list[str] = []
    for fold in range(folds):
        split = make_split(patients, fold=fold, folds=folds, seed=seed)
        assert not set(split.train) & set(split.test)
        assert set(split.train) | set(split.test) == set(patients)
        assert abs(len(split.test) - len(patients) / folds) < 1
        tests += split.test
    assert sorted(tests) == sorted(patients)


@given(NAMES, st.integers(0, 100), st.integers(0, 100))
def test_few_patients_nest(patients: list[str], seed: int, few_seed: int) -> None:
    split = make_split(patients, fold=0, folds=2, seed=seed)
    previous: set[str] = set()
    for count in range(1, len(split.train) + 1):
        few = few_patients(split, count, seed=few_seed)
        assert len(few.train) == count
        assert previous <= set(few.train) <= set(split.train)
        assert few.test == split.test
        previous = set(few.train)
    assert previous == set(split.train)


def test_the_order_of_the_patients_and_doubled_names_do_not_matter() -> None:
    split = make_split(PATIENTS, fold=2, seed=7)
    assert make_split([*reversed(PATIENTS), *PATIENTS], fold=2, seed=7) == split
    assert make_split(PATIENTS, fold=2, seed=8) != split


def test_the_rule_is_the_hash_of_seed_purpose_and_name() -> None:
    """The rule written again: it may not change, or kept results cannot be compared any more."""
    keys = {name: hashlib.sha256(f"3:fold:{name}".encode()).hexdigest() for name in PATIENTS}
    ranked = sorted(PATIENTS, key=lambda name: keys[name])
    split = make_split(PATIENTS, fold=1, folds=5, seed=3)
    assert set(split.test) == {name for rank, name in enumerate(ranked) if rank % 5 == 1}
    few = {name: hashlib.sha256(f"4:few:{name}".encode()).hexdigest() for name in split.train}
    assert set(few_patients(split, 6, seed=4).train) == set(sorted(split.train, key=lambda name: few[name])[:6])


def test_another_process_with_another_hash_seed_makes_the_same_split() -> None:
    code = f"from jcl.data.splits import make_split; print(make_split({PATIENTS!r}, fold=0, seed=1))"
    for hash_seed in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True,
            env={"PYTHONPATH": str(Path(__file__).parents[2] / "src"), "PYTHONHASHSEED": hash_seed},
        )  # fmt: skip
        assert done.stdout.strip() == repr(make_split(PATIENTS, fold=0, seed=1))


@given(NAMES, st.integers(0, 2**31), st.integers(2, 5))
def test_where_all_have_labels_folds_are_what_they_always_were(patients: list[str], seed: int, folds: int) -> None:
    for fold in range(folds):
        drawn = draw_split(dict.fromkeys(patients, True), fold=fold, folds=folds, seed=seed)
        assert drawn == make_split(patients, fold=fold, folds=folds, seed=seed)
        assert draw_split(dict.fromkeys(patients, False), fold=fold, folds=folds, seed=seed) == drawn


@given(NAMES, st.data(), st.integers(2, 5))
def test_folds_are_of_those_with_labels_and_the_others_train(patients: list[str], data, folds: int) -> None:
    """What a fine-tuning can test on, and all that its pre-training may see."""
    labelled = {patient: data.draw(st.booleans()) for patient in patients}
    having = {patient for patient, has in labelled.items() if has}
    if len(having) < 2:
        return
    tests: list[str] = []
    for fold in range(min(folds, len(having))):
        split = draw_split(labelled, fold=fold, folds=folds)
        assert set(split.train) | set(split.test) == set(patients)
        fine = labelled_part(split, labelled)
        assert fine == make_split(having, fold=fold, folds=min(folds, len(having)))
        tests += split.test
    assert sorted(tests) == sorted(having)


def test_as_few_as_there_may_be() -> None:
    """scikit-learn's `n_splits=5 > n_samples` met users of nnU-Net with two cases and with one:
    https://github.com/MIC-DKFZ/nnUNet/issues/154, https://github.com/MIC-DKFZ/nnUNet/issues/1933."""
    two = {"a": True, "b": True, "c": False}
    tests = [draw_split(two, fold=fold).test for fold in (0, 1)]
    assert sorted(tests) == [("a",), ("b",)]
    with pytest.raises(UsageError, match="fold is 2; with 2 folds"):
        draw_split(two, fold=2)
    with pytest.raises(UsageError, match=r"a is the only patient with labels.*--fold none"):
        draw_split({"a": True, "c": False}, fold=0)
    assert draw_split({"a": True, "c": False}, fold="none") == Split(("a", "c"))
    with pytest.raises(UsageError, match="fold is 'all'"):
        draw_split(two, fold="all")


@pytest.mark.parametrize(
    ("fold", "folds", "words"),
    [(5, 5, "has to be 0 to 4"), (-1, 5, "has to be 0 to 4"), (0, 24, "take at most 23"), (0, 1, "at least 2")],
)
def test_impossible_folds(fold: int, folds: int, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        make_split(PATIENTS, fold=fold, folds=folds, seed=0)


@pytest.mark.parametrize("count", [0, -1, 19])
def test_impossible_counts(count: int) -> None:
    split = make_split(PATIENTS, fold=0, folds=5, seed=0)
    with pytest.raises(UsageError, match=rf"{count} patients asked for; the training part has 18"):
        few_patients(split, count, seed=0)


def test_a_split_file_comes_back(tmp_path: Path) -> None:
    split = Split(train=("ö 1", "患者", "caf\udce9"), validation=("v",), test=("t",))
    write_split(tmp_path / "split.json", split)
    assert read_split(tmp_path / "split.json") == split
    assert [path.name for path in tmp_path.iterdir()] == ["split.json"]


def test_validation_may_be_missing(tmp_path: Path) -> None:
    path = tmp_path / "split.json"
    path.write_text(json.dumps({"train": ["a"], "test": ["b"]}))
    assert read_split(path) == Split(train=("a",), validation=(), test=("b",))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "not a JSON file"),
        ("[]", "keys train, test"),
        ('{"train": ["a"]}', "keys train, test"),
        ('{"train": ["a"], "test": ["b"], "fold": 1}', "keys train, test"),
        ('{"train": ["a"], "test": "b"}', "test has to be a list"),
        ('{"train": [1], "test": []}', "train has to be a list of patient names in quotes"),
        ('{"train": ["a", "b"], "test": ["b"]}', "patient b is in both train and test"),
        ('{"train": ["a"], "validation": ["a"], "test": []}', "patient a is in both train and validation"),
        ('{"train": ["a", "a"], "test": []}', "patient a is twice in train"),
    ],
)
def test_bad_split_files(tmp_path: Path, content: str, words: str) -> None:
    path = tmp_path / "split.json"
    path.write_text(content)
    with pytest.raises(DataError, match=words) as caught:
        read_split(path)
    assert str(path) in str(caught.value)


def test_missing_and_unwritable_split_files(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        read_split(tmp_path / "none.json")
    with pytest.raises(DataError, match="cannot be written"):
        write_split(tmp_path / "none" / "split.json", Split(train=("a",)))


def test_a_split_is_checked_against_the_patients() -> None:
    check_split(Split(train=("a",), test=("b",)), ["a", "b", "c"])
    with pytest.raises(UsageError, match="the split names x, y, which"):
        check_split(Split(train=("a", "x"), test=("y",)), ["a"])
    with pytest.raises(UsageError, match="f1, f2, f3, f4, f5 and 2 more"):
        check_split(Split(train=tuple(f"f{n}" for n in range(1, 8))), ["a"])
    with pytest.raises(UsageError, match="no training patient"):
        check_split(Split(train=(), test=("a",)), ["a"])
    with pytest.raises(UsageError, match="in both"):
        check_split(Split(train=("a",), test=("a",)), ["a"])


def test_the_authors_splits_name_patients_of_their_sets() -> None:
    """Numbers of the journal version, typed from its lists: first and last of each part."""
    acdc = read_official_split("acdc_8")
    assert (acdc.train[0], acdc.train[-1], acdc.test[0], acdc.test[-1]) == (
        "patient073", "patient016", "patient005", "patient089",
    )  # fmt: skip
    assert read_official_split("mmwhs_ct_2") == Split(
        ("ct_train_1019", "ct_train_1003"),
        (),
        ("ct_train_1001", "ct_train_1011", "ct_train_1013", "ct_train_1016"),
    )
    assert read_official_split("hvsmr_2") == Split(("pat8", "pat0"), (), ("pat3", "pat9"))
    assert read_official_split("chaos_4") == Split(("5", "10", "1", "8"), (), ("20", "21", "32", "39"))
    assert len(read_official_split("msd_hippocampus_52").test) == 52


@pytest.mark.parametrize("name", official_splits())
def test_an_official_split_can_be_used(name: str) -> None:
    data_set, _, count = name.rpartition("_")
    assert data_set.removeprefix("ssl4mis_") in spec_names()
    ranked = {"msd_heart": 20, "msd_spleen": 41}.get(data_set)
    named = read_official_split(name)
    patients = (
        [f"case_{k:02d}" for k in range(ranked)]
        if ranked
        else [*named.train, *named.validation, *named.test, "another"]
    )
    split = take_split(Path(name), patients)
    assert len(split.train) == int(count)
    assert set(split.train + split.test) <= set(patients)


def test_the_splits_of_ssl4mis_are_nested_and_leave_the_same_patients_out() -> None:
    """Its first 68 slices are those of the first three patients: 32 of 099, 16 of 038, 20 of 050 (two frames each)."""
    splits = [read_official_split(f"ssl4mis_acdc_{count}") for count in (1, 3, 7, 70)]
    whole = splits[-1]
    for split in splits:
        assert split.train == whole.train[: len(split.train)]
        assert (split.validation, split.test) == (whole.validation, whole.test)
    assert splits[1].train == ("patient099", "patient038", "patient050")
    assert (len(whole.validation), len(whole.test)) == (10, 20)
    everyone = {f"patient{number:03d}" for number in range(1, 101)}
    assert {*whole.train, *whole.validation, *whole.test} == everyone


def test_ranks_count_all_cases_of_the_data_set() -> None:
    patients = [f"la_{k:03d}" for k in range(20)]
    assert take_split(Path("msd_heart_2"), reversed(patients)) == Split(
        ("la_018", "la_002"), (), ("la_000", "la_010", "la_012", "la_015")
    )
    with pytest.raises(UsageError, match="count all 20 cases of the data set, this store has 19"):
        take_split(Path("msd_heart_2"), patients[:19])


def test_a_split_is_a_file_or_a_name(tmp_path: Path) -> None:
    path = tmp_path / "mine.json"
    write_split(path, Split(("a",), (), ("b",)))
    assert take_split(path, ["a", "b"]) == Split(("a",), (), ("b",))
    with pytest.raises(UsageError, match=r"acdc_9: no such split file, and no fixed split of that name"):
        take_split(Path("acdc_9"), ["a"])
    with pytest.raises(DataError, match="cannot be read"):
        take_split(tmp_path / "none.json", ["a"])
    with pytest.raises(UsageError, match="the split names patient073"):
        take_split(Path("acdc_8"), ["a"])
