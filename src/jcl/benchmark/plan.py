"""From a recipe and its stores to tasks: every training once, however many cells of the tables need it."""

import dataclasses
import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from jcl.benchmark.recipe import NONE, Column, Method, Recipe, TablePlan
from jcl.benchmark.sourcecode import code_digest
from jcl.config import FinetuneConfig, PretrainConfig
from jcl.errors import UsageError
from jcl.settings import defaults
from jcl.training.recipes import AUTO, NO_TECHNIQUE, RECIPES, TECHNIQUE, filled

__all__ = ["CellPlan", "Plan", "StoreInfo", "Task", "make_plan"]

WITHOUT_EFFECT = (
    "out",
    "resume",
    "workers",
    "checkpoint_minutes",
    "timeout_minutes",
    "recompute",
    "allow_seen",
    "trust_code",
    "tracker",
    "watch",
    "watch_every",
)
"""Settings that change no result, so they are not part of what a task is."""

ADDED_LATER: Mapping[str, Mapping[str, Any]] = {
    "pretrain": {"kernels": "auto", "context": 0, "block": None},
    "finetune": {
        "kernels": "auto",
        "label_noise": 0.0,
        "label_noise_kind": "boundary",
        "weight_decay": 0.0,
        "recipe": "paper",
        **{
            name: RECIPES["paper"][name] for name in ("loss", "warmup", "elastic", "intensity", "average", "foreground")
        },
        "semi": NO_TECHNIQUE,
        "semi_settings": {},
        "unlabelled": [],
        "unlabelled_batch_size": None,
        "context": None,
        "block": None,
    },
}
"""Settings that earlier versions did not have, each with the value that does what they did (kernels: but for rounding).

With that value they are not part of what a task is either, so that what was done before stays done.
"""


@dataclass(frozen=True, kw_only=True)
class StoreInfo:
    """A prepared store: where it is below the benchmark's folder (or its own path), and what it holds."""

    name: str
    path: str
    digest: str
    class_names: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Task:
    """One training, with its evaluation where it is a fine-tuning.

    `key` is a digest of settings and data, `code` of the sources that take part; `id`, the name of its folder, has
    both in it, and those of the task that it starts from.
    """

    id: str
    kind: str
    label: str
    key: str
    code: str
    settings: Mapping[str, Any]
    needs: str | None
    steps: int

    def as_mapping(self) -> dict[str, Any]:
        """The task as JSON holds it."""
        return dataclasses.asdict(self)


@dataclass(frozen=True, kw_only=True)
class CellPlan:
    """Which task gives one fold and seed of a table's cell."""

    table: str
    row: str
    column: str
    fold: int
    seed: int
    task: str


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Tasks in the order in which they are best done, and the cells they fill."""

    tasks: tuple[Task, ...]
    cells: tuple[CellPlan, ...]


@dataclass(frozen=True)
class _Place:
    """A cell's fold and seed."""

    table: TablePlan
    method: Method
    column: Column
    fold: int
    seed: int


def make_plan(recipe: Recipe, stores: Mapping[str, StoreInfo], *, trust_code: bool = False) -> Plan:
    """The tasks of a recipe.

    Fold by fold, so that an interrupted benchmark has whole tables of fewer folds; a fine-tuning comes right after the
    pre-training it starts from, if that is not there yet.

    Args:
        recipe: what is to be done.
        stores: all its stores, prepared.
        trust_code: given to each training.

    Raises:
        UsageError: a setting that a stage does not take.
    """
    tasks: dict[tuple[str, str], Task] = {}
    cells: list[CellPlan] = []
    for place in _places(recipe):
        start = None
        if place.method.method != NONE:
            start = _once(tasks, _pretraining(recipe, place, stores))
        task = _once(tasks, _finetuning(recipe, place, stores, start))
        names = {"table": place.table.name, "row": place.method.name, "column": place.column.name}
        cells.append(CellPlan(**names, fold=place.fold, seed=place.seed, task=task.id))
    given = {"trust_code": trust_code}
    whole = (dataclasses.replace(task, settings={**task.settings, **given}) for task in tasks.values())
    return Plan(tasks=tuple(whole), cells=tuple(cells))


def _once(tasks: dict[tuple[str, str], Task], task: Task) -> Task:
    """The task, or the one that is the same under another row's name (rows that differ in their fine-tuning alone)."""
    return tasks.setdefault((task.key, task.code), task)


def _places(recipe: Recipe) -> Iterator[_Place]:
    """Every fold and seed of every cell; a fixed split is one fold."""
    for fold in recipe.run_folds:
        for seed in recipe.seeds:
            for table in recipe.tables:
                for name in table.methods:
                    for column in table.columns:
                        if column.split is None or fold == recipe.run_folds[0]:
                            yield _Place(table, recipe.methods[name], column, 0 if column.split else fold, seed)


def _pretraining(recipe: Recipe, place: _Place, stores: Mapping[str, StoreInfo]) -> Task:
    method, table = place.method, place.table
    settings = {
        **defaults(PretrainConfig),
        **recipe.pretrain,
        **table.pretrain,
        **{key: value for key, value in (("backbone", method.backbone), ("width", method.width)) if value is not None},
        **method.pretrain,
        "method": method.method,
        "method_settings": dict(method.method_settings),
        "stores": list(table.pretrain_on),
        "seed": recipe.seed_of_pretraining(place.seed),
    }
    if recipe.unlabelled == "training":
        settings |= _split(recipe, place)
        settings.pop("patients", None)
    fold = f"f{place.fold}" if settings["fold"] is not None else None
    seed = f"s{place.seed}" if recipe.pretrain_seed == "each" else None
    return _task(
        "pretrain",
        _label("+".join(table.pretrain_on), method.name, fold, seed),
        settings,
        data=[stores[name].digest for name in table.pretrain_on],
        modules=(
            "jcl.stages.pretrain",
            _module("methods", method.method),
            _module("backbones", str(settings["backbone"])),
        ),
    )


def _finetuning(recipe: Recipe, place: _Place, stores: Mapping[str, StoreInfo], start: Task | None) -> Task:
    method, table = place.method, place.table
    settings = {
        **defaults(FinetuneConfig),
        "fold": 0,
        **recipe.finetune,
        **table.finetune,
        **method.finetune,
        **_split(recipe, place),
        "store": table.finetune_on,
        "seed": place.seed,
        "unit": recipe.unit,
        "allow_seen": recipe.unlabelled == "all",
    }
    backbone = str(start.settings["backbone"] if start else method.backbone or settings["backbone"] or "unet")
    if start is None:
        pretrain = {**recipe.pretrain, **method.pretrain}
        width = method.width or settings["width"] or pretrain.get("width")
        settings |= {"backbone": backbone, "width": width}
        for name in ("context", "block"):  # random weights see what the pre-trained ones do
            if settings[name] is None:
                settings[name] = pretrain.get(name) or None
    else:
        settings |= {"backbone": None, "width": None}
    settings = filled(_with_foreground(settings, backbone))
    technique = TECHNIQUE if settings["semi"] == AUTO else settings["semi"]
    spot = f"{place.column.name.replace('=', '').lower()}-f{place.fold}-s{place.seed}"
    return _task(
        "finetune",
        _label(table.finetune_on, method.name, spot),
        settings,
        data=[stores[table.finetune_on].digest],
        modules=(
            *("jcl.stages.finetune", "jcl.stages.evaluate", _module("backbones", backbone)),
            *([_module("semi", technique)] if technique != NO_TECHNIQUE else []),
        ),
        start=start,
    )


def _with_foreground(settings: dict[str, Any], backbone: str) -> dict[str, Any]:
    """With the share of blocks around structures that a fine-tuning takes by itself, which is not that of slices."""
    from jcl import backbones  # not above: a worker sets its threads before PyTorch is imported
    from jcl.training.blocks import FOREGROUND

    if settings["foreground"] is not None or backbones.dimensions(backbone) == 2:
        return settings
    return {**settings, "foreground": FOREGROUND}


def _split(recipe: Recipe, place: _Place) -> dict[str, Any]:
    if place.column.split is not None:
        return {"split": place.column.split, "patients": None}
    return {"fold": place.fold, "folds": recipe.folds, "patients": place.column.patients}


def _task(
    kind: str,
    label: str,
    settings: dict[str, Any],
    *,
    data: list[str],
    modules: tuple[str, ...],
    start: Task | None = None,
) -> Task:
    effective = {name: value for name, value in settings.items() if not _changes_nothing(kind, name, value)}
    try:
        key = _digest([kind, effective, data, start.key if start else None])
    except TypeError as error:
        raise UsageError(f"{label}: a setting that cannot be written down ({error})") from error
    code = _digest([code_digest(modules), start.code if start else None])
    folder = f"{kind}-{label}-{_digest([key, code])[:10]}"
    steps = int(settings.get("steps") or 0)
    needs = start.id if start else None
    return Task(id=folder, kind=kind, label=label, key=key, code=code, settings=settings, needs=needs, steps=steps)


def _changes_nothing(kind: str, name: str, value: Any) -> bool:
    later = ADDED_LATER[kind]
    return name in WITHOUT_EFFECT or (name in later and value == later[name])


def _label(*parts: str | None) -> str:
    """Names as a folder may have them: letters, digits, dots and dashes."""
    joined = "-".join(part for part in parts if part)
    return "".join(c if c.isalnum() or c in ".-" else "_" for c in joined).lower()


def _module(package: str, name: str) -> str:
    """Where a method or backbone is defined; one of the user's own names its module."""
    return name.partition(":")[0] if ":" in name else f"jcl.{package}.{name}"


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]
