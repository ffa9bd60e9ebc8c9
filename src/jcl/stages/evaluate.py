"""Evaluation: segment the test patients of a fine-tuned run and score them."""

import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8
from torch import nn

from jcl.checks.findings import name_some
from jcl.config import EvaluateConfig
from jcl.data.manifest import IGNORE
from jcl.data.population import check_to_score
from jcl.data.splits import Split, read_split
from jcl.data.store import Store
from jcl.distributed.device import resolve_device, resolve_precision
from jcl.errors import DataError, UsageError
from jcl.files import clear_left, write_json
from jcl.inference.predictor import NotFiniteError, class_scores, ready_to_segment
from jcl.limits import check_numbers
from jcl.metrics import score_case, summarise
from jcl.parallel.progress import ProgressBar
from jcl.text import printable
from jcl.training.initial_run import images_of, patients_seen
from jcl.training.run_folder import load_network, weights_digest


def evaluate(config: EvaluateConfig) -> dict[str, Any]:
    """Score the run's test patients on the store's grid, without its padding, and write `config.out`.

    With `--unit slice` each slice is scored by itself, for tables that were computed so.

    Raises:
        DataError: the run or the store cannot be used, is not the one the run was trained on (and was not named
            with --store), has other classes, lacks a test patient or labels, or the file cannot be written.
        UsageError: `config.out` is a folder.
    """
    check_numbers(config)
    _check_out(config.out)
    network, info = load_network(config.run, trust_code=config.trust_code)
    device = resolve_device(config.devices)
    precision = resolve_precision(config.precision, device)
    ready_to_segment(network, device, precision)
    with closing(_open_store(config, info)) as store:
        split = read_split(config.run / "split.json")
        chosen = _test_cases(store, split, config)
        if config.store is not None:
            _say_who_was_seen(config.run, store, chosen)
        entries: list[dict[str, Any]] = []
        slices = sum(store.cases[case].slices for case in chosen)
        with ProgressBar("evaluate", total=len(chosen), work=slices) as bar:
            for case in chosen:
                record = store.cases[case]
                within = partial(bar.within, note=record.case, work=record.slices)
                try:
                    predicted = _segment_case(network, store, case, config.batch_size, device, precision, within)
                except NotFiniteError as error:
                    raise DataError(f"{store.path}: {record.case}: {error}") from error
                entries += _score(store, case, predicted, unit=config.unit)
                bar.advance(record.case, record.slices)
        results = {
            "cases": entries,
            **summarise(entries),
            "unit": config.unit,
            "run": config.run.resolve().name,  # no path, which has no meaning elsewhere
            "weights_digest": weights_digest(config.run),
            "store": store.path.resolve().name,
            "store_digest": store.digest,
            "split": {part: list(getattr(split, part)) for part in ("train", "validation", "test")},
            "versions": info["versions"],
        }
    write_json(config.out, results, seal=True)
    return results


def _check_out(out: Path) -> None:
    """Make the folder of the results file; better to fail now than when all is computed."""
    if out.is_dir():
        raise UsageError(f"{out}: a folder; give --out the name of a file in it, as {out / 'results.json'}")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        clear_left(out.parent, out.name)
    except OSError as error:
        raise DataError(f"{out}: cannot be written ({error.strerror}); choose another --out") from error


def _open_store(config: EvaluateConfig, info: dict[str, Any]) -> Store:
    path = config.store or Path(info["store"])
    if config.store is None and not path.exists():
        raise DataError(f"{path}: the store of {config.run} is not there; say with --store where it is now")
    store = Store.open(path)
    if list(store.class_names) != info["class_names"]:
        raise DataError(f"{store.path} has the classes {list(store.class_names)}, the run {info['class_names']}")
    if store.channels != info["backbone"]["in_channels"]:
        raise DataError(f"{store.path} has {store.channels} channels, the run {info['backbone']['in_channels']}")
    if config.store is None and store.digest != info["store_digest"]:
        raise DataError(
            f"{store.path} has changed since the run was trained on it;"
            " name it with --store to score on it all the same"
        )
    return store


def _test_cases(store: Store, split: Split, config: EvaluateConfig) -> list[int]:
    """Numbers of the labelled cases of the test patients.

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
                f"{config.run}: trained on all labelled patients of {store.path}, so that there are no test patients; "
                "name a store of other labelled patients with --store, or train with --fold 0 to leave some out"
            )
    if missing := sorted(tested - present):
        names = ", ".join(missing[:5]) + (", ..." if len(missing) > 5 else "")
        raise DataError(f"{store.path}: lacks {len(missing)} of the {len(tested)} test patients of this run ({names})")
    chosen = [number for number, record in enumerate(store.cases) if record.patient in tested]
    labelled = [number for number in chosen if store.cases[number].labelled]
    if not labelled:
        raise DataError(f"{store.path}: no labelled case of the {len(tested)} test patients of this run")
    if unlabelled := [store.cases[number].case for number in chosen if number not in labelled]:
        print(printable(f"without labels, so not scored: {', '.join(unlabelled)}"), file=sys.stderr)
    check_to_score(store, labelled)
    return labelled


def _say_who_was_seen(run: Path, store: Store, chosen: Sequence[int]) -> None:
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


def _segment_case(
    network: nn.Module,
    store: Store,
    case: int,
    batch_size: int,
    device: torch.device,
    precision: torch.dtype,
    within: Callable[[float], None],
) -> UInt8[np.ndarray, "d h w"]:
    labels: list[UInt8[np.ndarray, "s h w"]] = []
    for start in range(0, store.cases[case].slices, batch_size):
        numbers = range(start, min(start + batch_size, store.cases[case].slices))
        images = np.stack([store.image(case, number) for number in numbers])
        batches = class_scores(network, images, batch_size=batch_size, device=device, precision=precision)
        labels += [scores[:, :, *store.content(case)].argmax(1).to(torch.uint8).cpu().numpy() for scores in batches]
        within(numbers.stop / store.cases[case].slices)
    return np.concatenate(labels)


def _score(store: Store, case: int, predicted: UInt8[np.ndarray, "d h w"], *, unit: str) -> Iterable[dict[str, Any]]:
    record = store.cases[case]
    truth = np.stack([store.label(case, number)[store.content(case)] for number in range(record.slices)])
    ignored = truth == IGNORE if store.ignores else None
    classes, name = store.class_names, {"case": record.case, "patient": record.patient}
    if unit == "case":
        scores = score_case(predicted, truth, classes=classes, spacing=record.spacing, ignored=ignored)
        return [{**name, "classes": scores}]
    return [
        {
            **name,
            "slice": number,
            "classes": score_case(
                *pair,
                classes=classes,
                spacing=record.spacing[1:],
                ignored=None if ignored is None else ignored[number],
            ),
        }
        for number, pair in enumerate(zip(predicted, truth, strict=True))
    ]
