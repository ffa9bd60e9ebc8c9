"""`jcl benchmark`: do all that a recipe asks for, and go on where it stopped."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jcl.benchmark.display import Display, seconds_left, seconds_of
from jcl.benchmark.executor import PoolExecutor, pool_for
from jcl.benchmark.folder import DONE, PLAN, RECIPE, task_folder
from jcl.benchmark.plan import Plan, StoreInfo, make_plan
from jcl.benchmark.recipe import Recipe, read_recipe
from jcl.benchmark.schedule import Ledger, run_tasks
from jcl.benchmark.stores import prepare_stores
from jcl.config import BenchmarkConfig
from jcl.errors import Interrupted, JclError, UsageError
from jcl.files import write_atomically, write_json
from jcl.limits import check_numbers
from jcl.parallel.machine import duration
from jcl.training.logger import log_rank0

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
    check_numbers(config)
    if config.task_timeout is not None and (config.ray is not None or config.workers == 0):
        where = "--workers 0" if config.ray is None else "--ray"
        raise UsageError(f"--task-timeout does not go with {where}, where no run can be ended; leave out one of them")
    recipe = read_recipe(config.recipe, trust_code=config.trust_code)
    config.out.mkdir(parents=True, exist_ok=True)
    stores = prepare_stores(recipe, config.out, config.data, config.workers or None)
    plan = make_plan(recipe, stores, trust_code=config.trust_code)
    if config.dry_run:
        _announce(config.out, plan)
        return config.out
    _write(config.out, recipe, plan, stores)
    _announce(config.out, plan)
    with pool_for(config) as pool, Display(config.out, plan.tasks, pool.slots) as display:
        executor = PoolExecutor(
            pool, config.out.absolute(), stores
        )  # a run records the path, and goes on with the same
        ledger = run_tasks(config.out, plan.tasks, executor, display, retries=config.retries)
    _conclude(config.out, ledger)
    return config.out


def _write(out: Path, recipe: Recipe, plan: Plan, stores: Mapping[str, StoreInfo]) -> None:
    """What a report needs to say which cells are missing or of another version."""
    write_atomically(out / RECIPE, recipe.text.encode())
    written: dict[str, Any] = {
        "format": FORMAT,
        "title": recipe.title,
        "notes": recipe.notes,
        "stores": {name: dataclasses.asdict(store) for name, store in stores.items()},
        "tables": [table.as_mapping() for table in recipe.tables],
        "methods": {name: dataclasses.asdict(method) for name, method in recipe.methods.items()},
        "cells": [dataclasses.asdict(cell) for cell in plan.cells],
        "tasks": [task.as_mapping() for task in plan.tasks],
    }
    write_json(out / PLAN, written, seal=True)


def _announce(out: Path, plan: Plan) -> None:
    """How many runs there are, how many are done, and about how long the rest takes."""
    took = {task.id: seconds for task in plan.tasks if (seconds := seconds_of(out, task)) is not None}
    done = [task for task in plan.tasks if (task_folder(out, task.id) / DONE).is_file()]
    counts = [f"{sum(task.kind == kind for task in plan.tasks)} {kind}" for kind in ("pretrain", "finetune")]
    left = seconds_left(plan.tasks, took, Ledger(plan.tasks, done={task.id: 0.0 for task in done}))
    time_left = f"; about {duration(left)} of work left" if left is not None else ""
    log_rank0(f"{len(plan.tasks)} runs ({', '.join(counts)}) for {len(plan.cells)} cells, {len(done)} done{time_left}")


def _conclude(out: Path, ledger: Ledger) -> None:
    if ledger.interrupted:
        left = len(ledger.tasks) - len(ledger.done) - len(ledger.failed) - len(ledger.blocked)
        unsaved = f", of which {len(ledger.unsaved)} did not save in time" * bool(ledger.unsaved)
        raise Interrupted(f"{out}: stopped and saved, {left} runs left{unsaved}; the same command goes on")
    if ledger.failed:
        names = {task.id: task.label for task in ledger.tasks}
        first, error = next(iter(ledger.failed.items()))
        blocked = f" and {len(ledger.blocked)} that need them were not begun" if ledger.blocked else ""
        raise JclError(
            f"{len(ledger.failed)} of {len(ledger.tasks)} runs failed{blocked}, the first {names[first]}: {error} "
            f"(failed.json and log.txt in {task_folder(out, first)}); the same command tries them again"
        )
    log_rank0(f"{out}: all {len(ledger.done)} runs are done; `jcl report {out} --out report.html` shows them")
