"""The folder of a benchmark, and what lies where in it.

recipe.toml            the recipe as it was last run
plan.json              tables, cells and tasks of the last run, and the stores
stores/NAME/           prepared stores
tasks/ID/task.json     what a task is: settings, digests of settings, data and code
tasks/ID/run/          its run folder, without checkpoints once it is done
tasks/ID/results.json  scores of a fine-tuning on its test patients
tasks/ID/log.txt       what it printed
tasks/ID/done.json     seconds, host, time: the mark of a finished task
tasks/ID/failed.json   why it failed; gone when it has succeeded
tasks/ID/.lock         held by the process that works on it
"""

from pathlib import Path

__all__ = ["DONE", "FAILED", "LOCK", "LOG", "PLAN", "RECIPE", "RESULTS", "RUN", "TASK", "store_folder", "task_folder"]

RECIPE, PLAN = "recipe.toml", "plan.json"
TASK, RUN, RESULTS, LOG, DONE, FAILED, LOCK = (
    "task.json", "run", "results.json", "log.txt", "done.json", "failed.json", ".lock",
)  # fmt: skip


def store_folder(out: Path, name: str) -> Path:
    """Where the store of that name is prepared."""
    return out / "stores" / name


def task_folder(out: Path, task_id: str) -> Path:
    """Where a task leaves what it makes."""
    return out / "tasks" / task_id
