"""A benchmark's folder with its store prepared, and the tasks of the tiny recipe."""

from dataclasses import dataclass
from pathlib import Path

from jcl.benchmark.plan import Plan, StoreInfo, Task, make_plan
from jcl.benchmark.recipe import Recipe
from jcl.benchmark.stores import prepare_stores
from support.tinyrecipes import tiny


@dataclass
class Bench:
    """What the executors are given."""

    out: Path
    recipe: Recipe
    stores: dict[str, StoreInfo]
    plan: Plan

    def task(self, label: str) -> Task:
        return next(task for task in self.plan.tasks if task.label == label)


def make_bench(scans: Path, folder: Path, *changes: tuple[str, str]) -> Bench:
    """The tiny recipe, with texts replaced, and nothing trained yet."""
    out = folder / "bench"
    out.mkdir(exist_ok=True)
    recipe = tiny(folder, *changes)
    stores = prepare_stores(recipe, out, scans, 1)
    return Bench(out, recipe, stores, make_plan(recipe, stores))
