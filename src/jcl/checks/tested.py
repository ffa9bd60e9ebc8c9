"""Which cases runs are scored on: those of their test patients, in a store that suits them, and whom they have seen."""

import sys
from collections.abc import Sequence
from itertools import permutations
from pathlib import Path

from jcl.checks.findings import name_some
from jcl.config import EvaluateConfig
from jcl.data.alike import difference
from jcl.data.population import check_to_score
from jcl.data.splits import Split
from jcl.data.store import Store
from jcl.errors import DataError
from jcl.inference.ensemble import Member
from jcl.inference.unlike import traits_of_case, unlike
from jcl.text import printable
from jcl.training.initial_run import images_of, patients_seen

__all__ = ["cases_to_score", "open_store", "say_what_is_unlike", "say_who_was_seen"]


def open_store(config: EvaluateConfig, members: Sequence[Member]) -> Store:
    """The store that is named, or else the one that the runs were trained on.

    Raises:
        DataError: it is not there, has changed, has other classes or channels than a run, or is prepared otherwise.
    """
    run, info = members[0].run, members[0].info
    path = config.store or Path(info["store"])
    if config.store is None and not path.exists():
        raise DataError(f"{path}: the store of {run} is not there; say with --store where it is now")
    store = Store.open(path)
    for member in members:
        _check_store(store, member, named=config.store is not None)
    return store


def _check_store(store: Store, member: Member, *, named: bool) -> None:
    run, info = member.run, member.info
    if list(store.class_names) != info["class_names"]:
        raise DataError(f"{store.path} has the classes {list(store.class_names)}, {run} {info['class_names']}")
    if store.channels != info["recipe"]["channels"]:
        raise DataError(f"{store.path} has {store.channels} channels, {run} {info['recipe']['channels']}")
    if apart := difference(store.preparation, info["recipe"]):
        raise DataError(f"{store.path} is prepared with {apart} as {run} was trained; prepare it likewise")
    if not named and store.digest != info["store_digest"]:
        raise DataError(
            f"{store.path} has changed since {run} was trained on it, or it was trained on another;"
            " name it with --store to score on it all the same"
        )


def cases_to_score(store: Store, splits: Sequence[Split], config: EvaluateConfig) -> list[int]:
    """Numbers of the labelled cases of the test patients, which have to be those of each run.

    Raises:
        DataError: a test patient of one run was trained on by another, or two have different ones.
    """
    tested = [_tested(store, split, config, run) for split, run in zip(splits, config.runs, strict=True)]
    pairs = list(permutations(zip(config.runs, splits, tested, strict=True), 2))
    for (one, _, patients), (other, split, _) in pairs:
        if seen := sorted(patients & {*split.train, *split.validation}):
            raise DataError(
                f"{other} was trained on test patients of {one} ({name_some(seen)}); their mean would score too well: "
                "give runs of one fold"
            )
    for (one, _, patients), (other, _, others) in pairs:
        if patients - others:
            lacking = name_some(sorted(patients - others))
            raise DataError(f"{other} does not test {lacking}, as {one} does; give runs of one fold")
    chosen = [number for number, record in enumerate(store.cases) if record.patient in tested[0]]
    labelled = [number for number in chosen if store.cases[number].labelled]
    if not labelled:
        raise DataError(f"{store.path}: no labelled case of the {len(tested[0])} test patients of this run")
    if unlabelled := [store.cases[number].case for number in chosen if number not in labelled]:
        print(printable(f"without labels, so not scored: {', '.join(unlabelled)}"), file=sys.stderr)
    check_to_score(store, labelled)
    return labelled


def _tested(store: Store, split: Split, config: EvaluateConfig, run: Path) -> set[str]:
    """The test patients of a run.

    A store with none of the split's patients is an external set, of which all are test patients. One that has
    some of them but lacks test patients is refused: neither training patients nor a part of the test patients
    may pass for the test. Of a run without test patients, all those of a named store are tested that it did not train
    on.
    """
    present = {record.patient for record in store.cases}
    tested = set(split.test)
    if not present & {*split.train, *split.validation, *split.test}:
        tested = present
    elif not tested:
        tested = set() if config.store is None else present - {*split.train, *split.validation}
        if not tested:
            raise DataError(
                f"{run}: trained on all labelled patients of {store.path}, so that there are no test patients; "
                "name a store of other labelled patients with --store, or train with --fold 0 to leave some out"
            )
    if missing := sorted(tested - present):
        names = ", ".join(missing[:5]) + (", ..." if len(missing) > 5 else "")
        raise DataError(f"{store.path}: lacks {len(missing)} of the {len(tested)} test patients of this run ({names})")
    return tested


def say_what_is_unlike(store: Store, chosen: Sequence[int], members: Sequence[Member]) -> None:
    """Another store may have scans unlike those that the runs learned from: the first is said, and how many there are.

    Their scores say how the runs do on such scans, which is not always what was asked.
    """
    infos = [member.info for member in members]
    lines = {number: unlike(traits_of_case(store.cases[number]), infos) for number in chosen}
    if found := [number for number in chosen if lines[number]]:
        case, line = store.cases[found[0]].case, lines[found[0]][0]
        many = f" ({len(found)} of {len(chosen)} cases are unlike those trained on)" if len(found) > 1 else ""
        print(printable(f"note: {store.path}: {case}: {line}{many}"), file=sys.stderr)


def say_who_was_seen(run: Path, store: Store, chosen: Sequence[int]) -> None:
    """Another store may have images that the run was trained on, with labels or without, under other names."""
    images = images_of(store.cases[number] for number in chosen)
    trained = patients_seen(run, images, store.digest, before=False).patients
    if trained:
        said = (
            f"warning: {store.path} has images that {run} was trained on ({name_some(sorted(trained))}), under other "
            "names; these scores are too good: leave these patients out of the store"
        )
        print(printable(said), file=sys.stderr)
    seen = patients_seen(run, images, store.digest).patients - trained
    if seen:
        said = f"the pre-training of {run} saw the images (no labels) of {len(seen)} of the {len(images)} test patients"
        print(printable(f"{said}: {name_some(sorted(seen))}"), file=sys.stderr)
