"""`jcl benchmark`: do all that a recipe asks for, and go on where it stopped."""

import dataclasses
import os
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from jcl.benchmark.display import Display, duration, seconds_left, seconds_of
from jcl.benchmark.folder import DONE, PLAN, RECIPE, task_folder
from jcl.benchmark.here import Here
from jcl.benchmark.plan import Plan, StoreInfo, make_plan
from jcl.benchmark.recipe import Recipe, read_recipe
from jcl.benchmark.schedule import Executor, Ledger, run_tasks
from jcl.benchmark.stores import prepare_stores
from jcl.benchmark.workers import Workers
from jcl.checkpoint import write_atomically, write_json
from jcl.config import BenchmarkConfig
from jcl.errors import Interrupted, JclError, UsageError
from jcl.runlog import tell

__all__ = ["benchmark"]

FORMAT = 1
"""Version of `plan.json`."""


def benchmark(config: BenchmarkConfig) -> Path:
    """Run a recipe into `config.out`; returns that folder.

    Raises:
        UsageError: a recipe or settings that cannot be used.
        DataError: data that cannot be used.
        Interrupted: a signal asked to stop; the running trainings are saved.
        JclError: some runs failed; all others are done.
    """
    if config.retries < 0:
        raise UsageError(f"retries is {config.retries}; 0 or more are needed")
    recipe = read_recipe(config.recipe)
    config.out.mkdir(parents=True, exist_ok=True)
    stores = prepare_stores(recipe, config.out, config.data, config.workers or None)
    plan = make_plan(recipe, stores)
    if config.dry_run:
        _announce(config.out, plan)
        return config.out
    _write(config.out, recipe, plan, stores)
    _announce(config.out, plan)
    executor = _executor(config, stores)
    with closing(executor), Display(config.out, plan.tasks, executor.slots) as display:
        ledger = run_tasks(config.out, plan.tasks, executor, display, retries=config.retries)
    _conclude(config.out, ledger)
    return config.out


def _write(out: Path, recipe: Recipe, plan: Plan, stores: Mapping[str, StoreInfo]) -> None:
    """What a report needs to tell which cells are missing or of another version."""
    write_atomically(out / RECIPE, recipe.text.encode())
    written: dict[str, Any] = {
        "format": FORMAT,
        "title": recipe.title,
        "notes": recipe.notes,
        "stores": {name: dataclasses.asdict(store) for name, store in stores.items()},
        "tables": [dataclasses.asdict(table) for table in recipe.tables],
        "methods": {name: dataclasses.asdict(method) for name, method in recipe.methods.items()},
        "cells": [dataclasses.asdict(cell) for cell in plan.cells],
        "tasks": [task.as_mapping() for task in plan.tasks],
    }
    write_json(out / PLAN, written)


def _executor(config: BenchmarkConfig, stores: dict[str, StoreInfo]) -> Executor:
    out, threads = config.out.absolute(), max(1, config.threads)  # a run records the path, and goes on with the same
    if config.ray is not None:
        from jcl.benchmark.ray_cluster import RayCluster

        if config.workers is not None and config.workers < 1:
            raise UsageError(f"--workers {config.workers} does not go with --ray; give 1 or more, or leave it out")
        return RayCluster(out, stores, address=config.ray, threads=threads, limit=config.workers)
    if config.workers == 0:
        return Here(out, stores)
    cores, gpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1, _gpus()
    count = config.workers or gpus or max(1, cores // threads)
    return Workers(out, stores, count=count, threads=threads, gpus=gpus)


def _gpus() -> int:
    import torch

    return torch.cuda.device_count()


def _announce(out: Path, plan: Plan) -> None:
    """How many runs there are, how many are done, and about how long the rest takes."""
    took = {task.id: seconds for task in plan.tasks if (seconds := seconds_of(out, task)) is not None}
    done = [task for task in plan.tasks if (task_folder(out, task.id) / DONE).is_file()]
    counts = [f"{sum(task.kind == kind for task in plan.tasks)} {kind}" for kind in ("pretrain", "finetune")]
    left = seconds_left(plan.tasks, took, Ledger(plan.tasks, done={task.id: 0.0 for task in done}))
    time_left = f"; about {duration(left)} of work left" if left is not None else ""
    tell(f"{len(plan.tasks)} runs ({', '.join(counts)}) for {len(plan.cells)} cells, {len(done)} done{time_left}")


def _conclude(out: Path, ledger: Ledger) -> None:
    if ledger.interrupted:
        left = len(ledger.tasks) - len(ledger.done) - len(ledger.failed) - len(ledger.blocked)
        raise Interrupted(f"{out}: stopped and saved, {left} runs left; the same command goes on")
    if ledger.failed:
        names = {task.id: task.label for task in ledger.tasks}
        first, error = next(iter(ledger.failed.items()))
        blocked = f" and {len(ledger.blocked)} that need them were not begun" if ledger.blocked else ""
        raise JclError(
            f"{len(ledger.failed)} of {len(ledger.tasks)} runs failed{blocked}, the first {names[first]}: {error} "
            f"(failed.json and log.txt in {task_folder(out, first)}); the same command tries them again"
        )
    tell(f"{out}: all {len(ledger.done)} runs are done; `jcl report {out} --out report.html` shows them")
