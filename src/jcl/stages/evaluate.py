"""Evaluation: segment the test patients of a fine-tuned run and score them."""

import sys
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8
from torch import nn

from jcl.checkpoint import write_json
from jcl.config import EvaluateConfig
from jcl.data.splits import Split, read_split
from jcl.data.store import Store
from jcl.device import resolve_device, resolve_precision
from jcl.errors import DataError, UsageError
from jcl.metrics import score_case, summarise
from jcl.progress import progress_bar
from jcl.runs import load_network
from jcl.segment import class_scores, ready_to_segment


def evaluate(config: EvaluateConfig) -> dict[str, Any]:
    """Score the run's test patients on the store's grid, without its padding, and write `config.out`.

    With `--unit slice` each slice is scored by itself, for tables that were computed so.

    Raises:
        DataError: the run or the store cannot be used, is not the one the run was trained on (and was not named
            with --store), has other classes, lacks a test patient or labels, or the file cannot be written.
        UsageError: `config.out` is a folder.
    """
    _check_out(config.out)
    network, info = load_network(config.run)
    device = resolve_device(config.devices)
    precision = resolve_precision(config.precision, device)
    ready_to_segment(network, device, precision)
    with closing(_open_store(config, info)) as store:
        split = read_split(config.run / "split.json")
        chosen = _test_cases(store, split)
        entries: list[dict[str, Any]] = []
        with progress_bar("evaluate") as bar:
            task = bar.add_task("evaluate", total=len(chosen), note="")
            for case in chosen:
                predicted = _segment_case(network, store, case, config.batch_size, device, precision)
                entries += _score(store, case, predicted, unit=config.unit)
                bar.advance(task)
        results = {
            "cases": entries,
            **summarise(entries),
            "unit": config.unit,
            "run": str(config.run),
            "store": str(store.path),
            "store_digest": store.digest,
            "split": {part: list(getattr(split, part)) for part in ("train", "validation", "test")},
            "versions": info["versions"],
        }
    write_json(config.out, results)
    return results


def _check_out(out: Path) -> None:
    """Make the folder of the results file; better to fail now than when all is computed."""
    if out.is_dir():
        raise UsageError(f"{out}: a folder; give --out the name of a file in it, as {out / 'results.json'}")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
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


def _test_cases(store: Store, split: Split) -> list[int]:
    """Numbers of the labelled cases of the test patients.

    A store with none of the split's patients is an external set, of which all are test patients. One that has
    some of them but lacks test patients is refused: neither training patients nor a part of the test patients
    may pass for the test.
    """
    present = {record.patient for record in store.cases}
    tested = set(split.test)
    if not present & {*split.train, *split.validation, *split.test}:
        tested = present
    if missing := sorted(tested - present):
        names = ", ".join(missing[:5]) + (", ..." if len(missing) > 5 else "")
        raise DataError(f"{store.path}: lacks {len(missing)} of the {len(tested)} test patients of this run ({names})")
    chosen = [number for number, record in enumerate(store.cases) if record.patient in tested]
    labelled = [number for number in chosen if store.cases[number].labelled]
    if not labelled:
        raise DataError(f"{store.path}: no labelled case of the {len(tested)} test patients of this run")
    if unlabelled := [store.cases[number].case for number in chosen if number not in labelled]:
        print(f"without labels, so not scored: {', '.join(unlabelled)}", file=sys.stderr)
    return labelled


def _segment_case(
    network: nn.Module, store: Store, case: int, batch_size: int, device: torch.device, precision: torch.dtype
) -> UInt8[np.ndarray, "d h w"]:
    labels: list[UInt8[np.ndarray, "s h w"]] = []
    for start in range(0, store.cases[case].slices, max(1, batch_size)):
        numbers = range(start, min(start + max(1, batch_size), store.cases[case].slices))
        images = np.stack([store.image(case, number) for number in numbers])
        batches = class_scores(network, images, batch_size=batch_size, device=device, precision=precision)
        labels += [scores[:, :, *store.content(case)].argmax(1).to(torch.uint8).cpu().numpy() for scores in batches]
    return np.concatenate(labels)


def _score(store: Store, case: int, predicted: UInt8[np.ndarray, "d h w"], *, unit: str) -> Iterable[dict[str, Any]]:
    record = store.cases[case]
    truth = np.stack([store.label(case, number)[store.content(case)] for number in range(record.slices)])
    classes, name = store.class_names, {"case": record.case, "patient": record.patient}
    if unit == "case":
        return [{**name, "classes": score_case(predicted, truth, classes=classes, spacing=record.spacing)}]
    return [
        {**name, "slice": number, "classes": score_case(*pair, classes=classes, spacing=record.spacing[1:])}
        for number, pair in enumerate(zip(predicted, truth, strict=True))
    ]
