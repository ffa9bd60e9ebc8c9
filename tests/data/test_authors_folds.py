"""The authors' folds and draws against what their program gives for each of its sets (`oracles/authors_folds.json`)."""

import json
from pathlib import Path

import pytest

from jcl.data.authors_folds import AUTHORS, FOLDS, SIZES, check_complete, draw_few, draw_fold
from jcl.data.splits import Split, draw_split, few_patients, fold_count, read_official_split
from jcl.errors import UsageError

FILE = Path(__file__).parents[1] / "oracles" / "authors_folds.json"
THEIRS = {name: found for name, found in json.loads(FILE.read_text()).items() if name != "how"}

NAMES = {
    "acdc": ("acdc", "patient{:03d}"),
    "chaos": ("chaos", "{}"),
    "chd": ("chd", "ct_{:04d}"),
    "heart": ("msd_heart", "la_{:03d}"),
    "hippocampus": ("msd_hippocampus", "hippocampus_{:03d}"),
    "hvsmr": ("hvsmr", "pat{}"),
    "isic": ("isic2018", "ISIC_{:07d}"),
    "mmwhs": ("mmwhs_ct", "ct_train_{}"),
    "spleen": ("msd_spleen", "spleen_{:02d}"),
}
"""Of their sets: our name of it, and its patients' names by their numbers, in whose order they are."""


def named(name: str, numbers: list[int]) -> tuple[str, ...]:
    return tuple(NAMES[name][1].format(number) for number in numbers)


@pytest.mark.parametrize("name", [name for name in THEIRS if name != "isic"])
def test_folds_and_draws_are_those_of_their_program(name: str) -> None:
    """By the split of a store, whose patients may come in any order."""
    everyone = named(name, THEIRS[name]["keys"])
    labelled = dict.fromkeys(reversed(everyone), True)
    assert len(THEIRS[name]["folds"]) == FOLDS == fold_count(AUTHORS)
    for fold, theirs in enumerate(THEIRS[name]["folds"]):
        split = draw_split(labelled, fold=fold, folds=AUTHORS)
        assert (split.train, split.test) == (named(name, theirs["train"]), named(name, theirs["test"]))
        for count, drawn in theirs["few"].items():
            few = few_patients(split, int(count), folds=AUTHORS)
            assert few == Split(named(name, drawn), (), split.test)
    assert SIZES[NAMES[name][0]] == len(everyone)
    check_complete(NAMES[name][0], len(everyone))


def test_the_fold_of_isic_that_they_publish() -> None:
    theirs = THEIRS["isic"]
    everyone = named("isic", list(range(theirs["keys"])))
    train, test = draw_fold(everyone, theirs["fold"])
    assert tuple(test) == named("isic", theirs["test"])
    for count, drawn in theirs["few"].items():
        assert tuple(draw_few(train, int(count))) == named("isic", drawn)
    assert SIZES["isic2018"] == theirs["keys"]


@pytest.mark.parametrize(
    ("split", "fold", "count"),
    [("acdc_8", 0, 8), ("acdc_20", 0, 20), ("mmwhs_ct_4", 1, 4), ("hvsmr_1", 1, 1), ("chaos_4", 2, 4)],
)
def test_their_published_splits_are_among_them(split: str, fold: int, count: int) -> None:
    published = read_official_split(split)
    name = next(each for each, (ours, _) in NAMES.items() if ours == split.rpartition("_")[0])
    train, test = draw_fold(named(name, THEIRS[name]["keys"]), fold)
    assert tuple(test) == published.test
    assert tuple(draw_few(train, count)) == published.train


def test_patients_without_labels_always_train() -> None:
    labelled = {**{f"p{k}": True for k in range(7)}, "another": False}
    split = draw_split(labelled, fold=1, folds=AUTHORS)
    train, test = draw_fold([f"p{k}" for k in range(7)], 1)
    assert split == Split(("another", *train), (), tuple(test))
    assert draw_split(labelled, fold="none", folds=AUTHORS).test == ()


def test_what_cannot_be_drawn() -> None:
    labelled = {f"p{k}": True for k in range(7)}
    with pytest.raises(UsageError, match="fold is 5; of the authors' folds it has to be 0 to 4"):
        draw_split(labelled, fold=5, folds=AUTHORS)
    with pytest.raises(UsageError, match="the authors' 5 folds of 4 patients; give --folds 4"):
        draw_fold("abcd", 0)
    with pytest.raises(UsageError, match="split_seed is 1; the authors' folds have seeds of their own"):
        draw_split(labelled, fold=0, folds=AUTHORS, seed=1)
    with pytest.raises(UsageError, match="folds is 'theirs'"):
        draw_split(labelled, fold=0, folds="theirs")
    with pytest.raises(UsageError, match="the training part has 5 with labels"):
        few_patients(draw_split(labelled, fold=0, folds=AUTHORS), 6, folds=AUTHORS)
    with pytest.raises(UsageError, match="authors' folds of acdc are of 100 patients, this store has 99"):
        check_complete("acdc", 99)
    check_complete("msd", 99)  # of other sets nothing is known
