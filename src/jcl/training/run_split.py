"""Which patients a training uses: drawn once, and taken over by the runs that start from it."""

from collections.abc import Collection, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from jcl.config import FinetuneConfig, PretrainConfig
from jcl.data.authors_folds import AUTHORS, check_complete
from jcl.data.population import check_labelled
from jcl.data.splits import NO_FOLD, Split, draw_split, few_patients, fold_count, labelled_part, take_split
from jcl.data.store import Store
from jcl.errors import DataError, UsageError
from jcl.files import read_json
from jcl.training.initial_run import images_of, patients_seen, run_of, same_images, split_of
from jcl.training.logger import log_rank0

__all__ = ["finetuning_split", "pretraining_split"]


def pretraining_split(
    config: PretrainConfig, stores: Sequence[Store]
) -> tuple[Split | None, list[set[str] | None], dict[str, list[str]]]:
    """Whom a pre-training uses.

    A split names patients of the first store. Of the others those are left out whose images are those of its test
    patients, under whatever name.

    Returns:
        The split, if one is asked for; the patients of each store to train on (None: all); and, by the path of their
        store, those who are left out of the others.

    Raises:
        UsageError: a fold or split that cannot be had, or both.
    """
    if config.split is not None and config.fold is not None:
        raise UsageError("give --split or --fold, not both")
    split = _recorded(config.out, resume=config.resume)
    labelled = _labelled(stores[0])
    if split is None and config.split is not None:
        split = take_split(config.split, labelled)
    elif split is None and config.fold not in (None, NO_FOLD):
        _check_authors(config, stores[0], labelled)
        split = draw_split(labelled, fold=config.fold, folds=config.folds, seed=config.split_seed)
    if split is None:
        return None, [None] * len(stores), {}
    chosen: list[set[str] | None] = [set(split.train)]
    left_out: dict[str, list[str]] = {}
    kept_back = images_of(record for record in stores[0].cases if record.patient not in split.train)
    for store in stores[1:]:
        same = same_images(images_of(store.cases), kept_back)
        chosen.append({record.patient for record in store.cases} - same if same else None)
        if same:
            left_out[str(store.path)] = sorted(same)
            log_rank0(f"{store.path}: {len(same)} patients left out, whose images are held back in {stores[0].path}")
    return split, chosen, left_out


def finetuning_split(config: FinetuneConfig, store: Store) -> tuple[FinetuneConfig, Split]:
    """Whom a fine-tuning trains on and whom it leaves to be tested; and the settings with what was decided.

    Without --fold and --split it takes over the split of the pre-training that it starts from, as it does with the fold
    that that was given; else the fold is 0, or none where one patient alone has labels.

    Raises:
        UsageError: a fold or split that cannot be had, or a test patient whose images the initial run has seen.
        DataError: there is nothing to learn in the store, or the initial run cannot be read.
    """
    labelled = _labelled(store)
    check_labelled(store)
    if config.split is not None and config.fold not in (None, 0):
        raise UsageError("give --split or --fold, not both")
    config = _as_recorded(config)
    recorded = _recorded(config.out, resume=config.resume)
    if recorded is not None:
        return (config if config.fold is not None else replace(config, fold=0)), recorded
    config, split = _taken_over(config, store, labelled) or _drawn(config, store, labelled)
    if not split.train:
        raise UsageError(
            f"none of the training patients has labels in {store.path}; give --fold {NO_FOLD} to train on all"
        )
    if config.patients is not None:
        split = few_patients(split, config.patients, config.split_seed, folds=config.folds)
    _refuse_seen(config, store, split)
    return config, split


def _labelled(store: Store) -> dict[str, bool]:
    """Patient -> whether a case of theirs has labels."""
    found: dict[str, bool] = {}
    for record in store.cases:
        found[record.patient] = found.get(record.patient, False) or record.labelled
    return found


def _check_authors(config: FinetuneConfig | PretrainConfig, store: Store, labelled: dict[str, bool]) -> None:
    """Raises UsageError where the authors' folds are asked for of a part of one of their sets."""
    if config.folds == AUTHORS:
        check_complete(str(store.preparation.get("dataset")), sum(labelled.values()))


def _recorded(out: Path, *, resume: bool) -> Split | None:
    """The split of the run that goes on, however it was drawn then."""
    return split_of(out) if resume and (out / "run.json").is_file() else None


def _as_recorded(config: FinetuneConfig) -> FinetuneConfig:
    """A run that goes on without --fold and --split has those that it began with."""
    if not config.resume or config.fold is not None or not (config.out / "run.json").is_file():
        return config
    before = cast("dict[str, Any]", read_json(config.out / "run.json")).get("settings", {})
    taken = before.get("split")
    run = run_of(config.init)  # which may have been moved since
    if config.split is None and taken is not None and run is not None and Path(taken).name == "split.json":
        config = replace(config, split=run / "split.json")
    return replace(config, fold=before.get("fold", 0), folds=before.get("folds", config.folds))


def _drawn(config: FinetuneConfig, store: Store, labelled: dict[str, bool]) -> tuple[FinetuneConfig, Split]:
    if config.split is not None:
        return replace(config, fold=0), labelled_part(take_split(config.split, labelled), labelled)
    if config.fold is None:
        alone = sum(labelled.values()) == 1
        if alone:
            log_rank0("one patient has labels: it is trained on, and none is left to be tested (--fold none)")
        config = replace(config, fold=NO_FOLD if alone else 0)
    fold = cast("int | str", config.fold)
    _check_authors(config, store, labelled)
    split = draw_split(labelled, fold=fold, folds=config.folds, seed=config.split_seed)
    if fold != NO_FOLD and sum(labelled.values()) < fold_count(config.folds):
        log_rank0(f"{sum(labelled.values())} patients have labels: each is a fold by itself")
    return config, labelled_part(split, labelled)


def _taken_over(config: FinetuneConfig, store: Store, labelled: dict[str, bool]) -> tuple[FinetuneConfig, Split] | None:
    """The split of the pre-training, where it is asked for and is one of these patients; None where it is not."""
    run = run_of(config.init)
    if run is None or config.split is not None:
        return None
    info = cast("dict[str, Any]", read_json(run / "run.json"))
    split, settings = split_of(run), cast("dict[str, Any]", info.get("settings", {}))
    if info.get("kind") != "pretrain" or split is None or not _is_of(info, store, split):
        return None
    same = (settings.get("fold"), settings.get("folds"), settings.get("split_seed"))
    if config.fold is not None and same != (config.fold, config.folds, config.split_seed):
        return None
    if isinstance(settings.get("fold"), int):
        config = replace(config, fold=settings["fold"], folds=settings["folds"])
    else:
        config = replace(config, fold=0, split=run / "split.json")
    split = Split(*(tuple(p for p in part if p in labelled) for part in (split.train, split.validation, split.test)))
    if not any(labelled[patient] for patient in split.test):
        raise UsageError(
            f"{run}: none of the patients that it left out to be tested has labels in {store.path}; label one of them "
            f"(they are in {run / 'split.json'}), or give --fold {NO_FOLD} to train on all that have"
        )
    return config, labelled_part(split, labelled)


def _is_of(info: dict[str, Any], store: Store, split: Split) -> bool:
    """Whether a split is of the patients of this store: of this very one, or of one made of the same images."""
    first = info["stores"][0]
    if first["digest"] == store.digest:
        return True
    named = {*split.train, *split.validation, *split.test}
    if not {record.patient for record in store.cases} <= named:
        return False
    try:
        with closing(Store.open(first["path"])) as before:
            theirs = images_of(before.cases)
    except DataError:
        return False
    return all(images & theirs.get(patient, frozenset()) for patient, images in images_of(store.cases).items())


def _refuse_seen(config: FinetuneConfig, store: Store, split: Split) -> None:
    """Whoever is tested may not have been trained on before, not even without labels, unless that is asked for."""
    run = run_of(config.init)
    if run is None or not split.test or config.allow_seen:
        return
    images = {p: images for p, images in images_of(store.cases).items() if p in split.test}
    seen = patients_seen(run, images, store.digest)
    if seen.patients:
        raise UsageError(
            f"{config.init} was trained on images of {len(seen.patients)} of the {len(split.test)} test patients "
            f"({_some(seen.patients)}); "
            f"{_way_out(config, run)}, or give --fold {NO_FOLD} to train on all labelled patients and test none, or "
            "--allow-seen to test on them all the same, as the paper does"
        )
    if seen.namesakes:
        log_rank0(
            f"{config.init} was trained on other images of test patients of these names: {_some(seen.namesakes)}; "
            "if they are the same people, the scores are too good"
        )
    for path in seen.unknown:
        log_rank0(f"{path}: {config.init} was trained on it and it is not there: whether it has test patients is open")


def _some(patients: Collection[str]) -> str:
    names = sorted(patients)
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def _way_out(config: FinetuneConfig, run: Path) -> str:
    if split_of(run) is not None and config.split is None:
        return "leave --fold, --folds and --split-seed out to test on those that it left out"
    if config.split is not None:
        return f"pre-train with --split {config.split}"
    return f"pre-train with --fold {config.fold}"
