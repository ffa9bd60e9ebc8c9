"""Evaluation: segment the test patients of a fine-tuned run and score them."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor, nn

from jcl.checks.tested import cases_to_score, open_store, say_what_is_unlike, say_who_was_seen
from jcl.config import EvaluateConfig, FinetuneConfig
from jcl.data.block_plan import Block, block_of
from jcl.data.context import context_of
from jcl.data.manifest import IGNORE
from jcl.data.splits import read_split
from jcl.data.store import Store
from jcl.distributed.device import resolve_device, resolve_precision
from jcl.errors import DataError, UsageError
from jcl.files import clear_left, write_json
from jcl.inference.calibration import Calibration, doubt_against_dice
from jcl.inference.doubt import Doubt, DoubtTally, of_structures
from jcl.inference.ensemble import Member, check_prepared_alike, load_members, make_groups
from jcl.inference.postprocess import Rules, postprocess, rules_of
from jcl.inference.predictor import NotFiniteError, class_scores
from jcl.inference.through import own_scores
from jcl.inference.turned import volume_scores
from jcl.limits import check_numbers
from jcl.metrics import score_case, summarise
from jcl.parallel.progress import ProgressBar
from jcl.pooled import Pool
from jcl.training.run_folder import load_network, weights_digest


@dataclass(frozen=True)
class _Network:
    """What segments the cases, and how."""

    network: nn.Module
    batch_size: int
    device: torch.device
    precision: torch.dtype
    context: int
    block: Block | None
    rules: Rules


@dataclass(frozen=True)
class _Segmented:
    """A case's classes, and the doubt of each of its structures: of the whole case, or of each slice."""

    classes: UInt8[np.ndarray, "d h w"]
    doubts: list[list[Doubt]]


def evaluate(config: EvaluateConfig) -> dict[str, Any]:
    """Score the run's test patients on the store's grid, without its padding, and write `config.out`.

    Where volumes were resampled through their plane, the slices that are scored are those of the source.

    With `--unit slice` each slice is scored by itself, for tables that were computed so; with `--unit pooled` cases are
    scored as they are by default, and beside them all slices together (`jcl.pooled`), in batches of the size that the
    run was trained with. Of several runs the mean scores decide; they have the same test patients, and none of them was
    trained on one.

    Raises:
        DataError: a run or the store cannot be used, is not the one the run was trained on (and was not named
            with --store), has other classes, lacks a test patient or labels, runs do not agree, or the file cannot be
            written.
        UsageError: `config.out` is a folder.
    """
    check_numbers(config)
    _check_out(config.out)
    members = load_members(config.runs, partial(load_network, trust_code=config.trust_code))
    with closing(open_store(config, members)) as store:
        splits = [read_split(run / "split.json") for run in config.runs]
        chosen = cases_to_score(store, splits, config)
        if config.store is not None:
            say_what_is_unlike(store, chosen, members)
            for run in config.runs:
                say_who_was_seen(run, store, chosen)
        work = _make_network(config, members)
        calibration, entries = Calibration(), list[dict[str, Any]]()
        pool = _pool(store, members) if config.unit == "pooled" else None
        slices = sum(store.cases[case].slices for case in chosen)
        with ProgressBar("evaluate", total=len(chosen), work=slices) as bar:
            for case in chosen:
                record = store.cases[case]
                within = partial(bar.within, note=record.case, work=record.slices)
                try:
                    found = _segment_case(work, store, case, calibration, within, unit=config.unit)
                except NotFiniteError as error:
                    raise DataError(f"{store.path}: {record.case}: {error}") from error
                truth = np.stack([store.truth(case, number) for number in range(record.own[0])])
                ignored = truth == IGNORE if store.ignores else None
                entries += _score(store, case, found, truth, ignored, unit=config.unit)
                if pool is not None:
                    pool.add(found.classes, truth, ignored=ignored)
                bar.advance(record.case, record.slices)
        results = {
            "cases": entries,
            **summarise(entries),
            "unit": config.unit,
            **({"pooled": pool.result()} if pool is not None else {}),
            **_origin(config, members),
            "store": store.path.resolve().name,
            "store_digest": store.digest,
            "split": {part: list(getattr(splits[0], part)) for part in ("train", "validation", "test")},
            "calibration": {**calibration.result(), "doubt_against_dice": doubt_against_dice(entries)},
        }
    write_json(config.out, results, seal=True)
    return results


def _make_network(config: EvaluateConfig, members: Sequence[Member]) -> _Network:
    """All runs as one network.

    Raises:
        DataError: two prepare their slices differently, so that no store has those of both.
    """
    device = resolve_device(config.devices)
    precision = resolve_precision(config.precision, device)
    check_prepared_alike(members)
    (group,) = make_groups(members, device, precision, tta=config.tta, mirror=config.mirror)
    rules = rules_of([member.info for member in members]) if config.postprocess == "auto" else Rules()
    seen = context_of(group.preparation), block_of(group.preparation)
    return _Network(group.network, config.batch_size, device, precision, *seen, rules)


def _origin(config: EvaluateConfig, members: Sequence[Member]) -> dict[str, Any]:
    """The runs by their names (a path has no meaning elsewhere), and how they looked, if not once as they are."""
    look = {"tta": config.tta, "mirror": config.mirror, "postprocess": config.postprocess != "off"}
    asked = {key: value for key, value in look.items() if value}
    return {
        "run": " + ".join(member.run.resolve().name for member in members),
        "weights_digest": " + ".join(weights_digest(member.run) for member in members),
        "versions": members[0].info["versions"],
        **({"second_look": asked} if asked else {}),
    }


def _check_out(out: Path) -> None:
    """Make the folder of the results file; better to fail now than when all is computed."""
    if out.is_dir():
        raise UsageError(f"{out}: a folder; give --out the name of a file in it, as {out / 'results.json'}")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        clear_left(out.parent, out.name)
    except OSError as error:
        raise DataError(f"{out}: cannot be written ({error.strerror}); choose another --out") from error


def _segment_case(
    work: _Network,
    store: Store,
    case: int,
    calibration: Calibration,
    within: Callable[[float], None],
    *,
    unit: str,
) -> _Segmented:
    """Segment a case, and count how sure that was; scores are held for some slices at a time."""
    record = store.cases[case]
    labels: list[UInt8[np.ndarray, "h w"]] = []
    tally, doubts = DoubtTally(len(store.class_names)), list[list[Doubt]]()
    prepared = (_slice_scores if work.block is None else _block_scores)(work, store, case)
    for scores in own_scores(prepared, record.slices, record.own[0]):
        classes = scores.argmax(0)
        truth = torch.from_numpy(store.truth(case, len(labels))).to(scores.device)
        calibration.add(scores, classes, truth, truth == IGNORE if store.ignores else None)
        tally.add(scores, classes)
        labels.append(classes.to(torch.uint8).cpu().numpy())
        if unit == "slice":
            doubts.append(tally.result())
            tally = DoubtTally(len(store.class_names))
        within(len(labels) / record.own[0])
    whole = np.stack(labels)
    postprocess(whole, work.rules)
    return _Segmented(whole, doubts or [tally.result()])


def _slice_scores(work: _Network, store: Store, case: int) -> Iterator[Float[Tensor, "k h w"]]:
    """Scores of each slice of a case, some slices at a time."""
    slices, content = store.cases[case].slices, store.content(case)
    for start in range(0, slices, work.batch_size):
        numbers = range(start, min(start + work.batch_size, slices))
        images = np.stack([store.image(case, number, context=work.context) for number in numbers])
        batches = class_scores(
            work.network, images, batch_size=work.batch_size, device=work.device, precision=work.precision
        )
        yield from (own for batch in batches for own in batch[:, :, *content])


def _block_scores(work: _Network, store: Store, case: int) -> Iterator[Float[Tensor, "k h w"]]:
    """Scores of each slice of a case, by a network that sees blocks."""
    assert work.block is not None
    record = store.cases[case]
    whole = (slice(0, record.shape[0]), slice(0, record.shape[1]))
    volume = np.stack([store.image_window(case, number, whole) for number in range(record.slices)], axis=1)
    yield from volume_scores(
        work.network, volume, work.block, batch_size=work.batch_size, device=work.device, precision=work.precision
    )


def _pool(store: Store, members: Sequence[Member]) -> Pool:
    """The authors' program tests in batches of the size that it trains in."""
    batch_size = members[0].info.get("settings", {}).get("batch_size", FinetuneConfig.batch_size)
    return Pool(store.class_names, batch_size=batch_size)


def _score(
    store: Store,
    case: int,
    found: _Segmented,
    truth: UInt8[np.ndarray, "d h w"],
    ignored: Bool[np.ndarray, "d h w"] | None,
    *,
    unit: str,
) -> Iterable[dict[str, Any]]:
    record, predicted = store.cases[case], found.classes
    classes, name = store.class_names, {"case": record.case, "patient": record.patient}
    sure = [of_structures(each, classes) for each in found.doubts]
    if unit != "slice":
        spacing = (record.own[1], *record.spacing[1:])
        scores = score_case(predicted, truth, classes=classes, spacing=spacing, ignored=ignored)
        return [{**name, "classes": scores, **sure[0]}]
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
            **sure[number],
        }
        for number, pair in enumerate(zip(predicted, truth, strict=True))
    ]
