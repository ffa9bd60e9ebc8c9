"""`jcl benchmark`: do all that a recipe asks for, and go on where it stopped."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jcl.benchmark.display import Display, seconds_left, seconds_of
from jcl.benchmark.executor import PoolExecutor, pool_for
from jcl.benchmark.folder import DONE, PLAN, RECIPE, task_folder
from jcl.benchmark.plan import Plan, StoreInfo, Task, make_plan
from jcl.benchmark.reading import read_recipe
from jcl.benchmark.recipe import Recipe
from jcl.benchmark.schedule import Ledger, run_tasks
from jcl.benchmark.selection import selected
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
    tasks = selected(plan.tasks, config.only)
    if config.dry_run:
        _list(config.out, tasks)
        _announce(config.out, plan, tasks)
        return config.out
    _write(config.out, recipe, plan, stores)
    _announce(config.out, plan, tasks)
    with pool_for(config) as pool, Display(config.out, tasks, pool.slots) as display:
        executor = PoolExecutor(
            pool, config.out.absolute(), stores
        )  # a run records the path, and goes on with the same
        ledger = run_tasks(config.out, tasks, executor, display, retries=config.retries)
    _conclude(config.out, ledger, others=len(plan.tasks) - len(tasks))
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


def _list(out: Path, tasks: Sequence[Task]) -> None:
    """Print the runs, a line each, and which are done."""
    for task in tasks:
        print(f"{'done' if _is_done(out, task) else 'to do':<6}{task.kind:<9}{task.label}")


def _announce(out: Path, plan: Plan, tasks: Sequence[Task]) -> None:
    """How many runs there are, how many are done, and about how long the rest takes."""
    took = {task.id: seconds for task in tasks if (seconds := seconds_of(out, task)) is not None}
    done = [task for task in tasks if _is_done(out, task)]
    counts = [f"{sum(task.kind == kind for task in tasks)} {kind}" for kind in ("pretrain", "finetune")]
    left = seconds_left(tasks, took, Ledger(tasks, done={task.id: 0.0 for task in done}))
    time_left = f"; about {duration(left)} of work left" if left is not None else ""
    of_all = f"{len(tasks)} of {len(plan.tasks)}" if len(tasks) < len(plan.tasks) else str(len(tasks))
    log_rank0(f"{of_all} runs ({', '.join(counts)}) for {len(plan.cells)} cells, {len(done)} done{time_left}")


def _is_done(out: Path, task: Task) -> bool:
    return (task_folder(out, task.id) / DONE).is_file()


def _conclude(out: Path, ledger: Ledger, *, others: int) -> None:
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
    rest = f" ({others} others of the recipe were left out)" if others else ""
    log_rank0(f"{out}: all {len(ledger.done)} runs are done{rest}; `jcl report {out} --out report.html` shows them")
