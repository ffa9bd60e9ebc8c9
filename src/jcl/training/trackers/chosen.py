"""Which trackers a training has by `--tracker`, and under which id each knows it."""

import importlib.util
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from jcl.errors import UsageError
from jcl.files import read_json, write_json
from jcl.schema import did_you_mean
from jcl.training.trackers.mlflow import Mlflow, check_mlflow, open_mlflow
from jcl.training.trackers.postbox import Postbox
from jcl.training.trackers.tracker import About, about_run
from jcl.training.trackers.wandb import Wandb, open_wandb

__all__ = ["IDS", "check_trackers", "open_trackers"]

IDS = "trackers.json"
"""In the run folder: the id of the run in each tracker, so that a resumed training goes on there."""

OPEN: Mapping[str, Callable[[About, str | None], Mlflow | Wandb]] = {"mlflow": open_mlflow, "wandb": open_wandb}


def check_trackers(given: Sequence[str]) -> None:
    """See, before anything is computed or written, that the trackers can be used.

    Raises:
        UsageError: there is none of that name, its package is missing, or its server cannot be reached.
    """
    for name in _names(given):
        if importlib.util.find_spec(name) is None:
            raise UsageError(f"--tracker {name} needs the package {name}: pip install 'jcl-seg[{name}]'")
        if name == "mlflow":
            check_mlflow()


def open_trackers(given: Sequence[str], run: Path) -> dict[str, Postbox]:
    """The trackers of a run by their names, each in a thread of its own; their ids are written to the run folder.

    Raises:
        UsageError: a tracker's server cannot be reached.
        DataError: the ids in the run folder are damaged, or cannot be written.
    """
    names = _names(given)
    if not names:
        return {}
    about = about_run(run)
    ids = cast("dict[str, Any]", read_json(run / IDS)) if (run / IDS).is_file() else {}
    opened = {name: OPEN[name](about, ids.get(name)) for name in names}
    write_json(run / IDS, {**ids, **{name: each.id for name, each in opened.items()}}, seal=True)
    return {name: Postbox(tracker) for name, tracker in opened.items()}


def _names(given: Sequence[str]) -> list[str]:
    """Names that were given one by one or with commas between them, each once."""
    names = [name for word in given for name in word.split(",") if name]
    for name in names:
        if name not in OPEN:
            raise UsageError(f"--tracker {name}: there are {', '.join(OPEN)}{did_you_mean(name, OPEN)}")
    return list(dict.fromkeys(names))
