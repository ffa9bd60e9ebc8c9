"""MLflow: a run on a server, at MLFLOW_TRACKING_URI, in the experiment MLFLOW_EXPERIMENT_NAME (or _ID)."""

import os
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import UInt8

from jcl.errors import UsageError
from jcl.training.trackers.tracker import About

__all__ = ["Mlflow", "check_mlflow", "open_mlflow"]

ADDRESS = "MLFLOW_TRACKING_URI"

PATIENCE = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}
"""Unless the user says otherwise: MLflow itself tries for minutes, and tells its makers how it is used."""

STATUS = {"finished": "FINISHED", "interrupted": "KILLED", "failed": "FAILED"}

MOST = 100
"""Settings that a server takes at a time."""

LONGEST = 500
"""Letters of a setting that every server takes."""


class Mlflow:
    """A run on the server.

    Args:
        client: `mlflow.MlflowClient`.
        id: of the run.
    """

    def __init__(self, client: Any, id: str) -> None:
        self.client, self.id = client, id

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """All in one request."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        self.client.log_batch(self.id, metrics=[Metric(name, value, now, step) for name, value in values.items()])

    def picture(self, name: str, image: UInt8[np.ndarray, "h w 3"], step: int) -> None:
        """Among the run's artifacts, with a slider over the steps."""
        self.client.log_image(self.id, image, key=name, step=step)

    def close(self, outcome: str) -> None:
        """Say how it ended."""
        self.client.set_terminated(self.id, STATUS[outcome])


def check_mlflow() -> None:
    """See that there is a server.

    Raises:
        UsageError: no address is set, or nobody answers there.
    """
    try:
        _client().search_experiments(max_results=1)
    except UsageError:
        raise
    except Exception as error:  # of MLflow, of HTTP or of the network
        raise _unreachable(error) from error


def open_mlflow(about: About, known: str | None) -> Mlflow:
    """A new run on the server with its settings, or that of the same training before it was resumed.

    Args:
        about: what is trained.
        known: id of the run to go on with.

    Raises:
        UsageError: the server cannot be reached, or does not know the run.
    """
    client = _client()
    try:
        if known is not None:
            client.update_run(known, "RUNNING")
            return Mlflow(client, known)
        run = client.create_run(_experiment(client), run_name=about.run.resolve().name)
        _describe(client, run.info.run_id, about)
        return Mlflow(client, run.info.run_id)
    except Exception as error:
        raise _unreachable(error, known) from error


def _client() -> Any:
    if not os.environ.get(ADDRESS):
        raise UsageError(f"--tracker mlflow: {ADDRESS} is not set; set it to a server's address, http://HOST:5000 say")
    for name, value in PATIENCE.items():
        os.environ.setdefault(name, value)
    from mlflow import MlflowClient

    return MlflowClient(os.environ[ADDRESS])


def _experiment(client: Any) -> str:
    """The experiment's id, as MLflow's own variables name it; else that which each server has."""
    if found := os.environ.get("MLFLOW_EXPERIMENT_ID"):
        return found
    if not (name := os.environ.get("MLFLOW_EXPERIMENT_NAME")):
        return "0"
    there = client.get_experiment_by_name(name)
    return there.experiment_id if there else client.create_experiment(name)


def _describe(client: Any, id: str, about: About) -> None:
    """Settings as parameters, which runs are compared by, and facts as tags."""
    from mlflow.entities import Param, RunTag

    params = [Param(name, str(value)[:LONGEST]) for name, value in about.settings.items()]
    tags = [RunTag(f"jcl.{name}", str(value)[:LONGEST]) for name, value in about.facts.items()]
    for first in range(0, len(params), MOST):
        client.log_batch(id, params=params[first : first + MOST], tags=tags if first == 0 else ())


def _unreachable(error: Exception, known: str | None = None) -> UsageError:
    reason = " ".join(str(error).split())[-150:]
    more = f"; if it has no run {known} any more, delete trackers.json in the run folder" if known else ""
    return UsageError(
        f"--tracker mlflow: the server at {os.environ.get(ADDRESS)} does not take it ({reason}); start it, correct "
        f"{ADDRESS}, or leave --tracker out{more}"
    )
