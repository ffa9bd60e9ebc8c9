"""Weights & Biases: a run on its server, or (WANDB_MODE=offline) in the folder `wandb` of the run folder.

Its own variables say where: WANDB_BASE_URL, WANDB_API_KEY, WANDB_ENTITY, WANDB_PROJECT, WANDB_DIR.
"""

import os
import secrets
from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import UInt8

from jcl.errors import UsageError
from jcl.signals import deaf_to_ctrl_c
from jcl.training.trackers.tracker import About

__all__ = ["Wandb", "open_wandb"]

SERVICE_SECONDS, START_SECONDS, END_SECONDS = 120.0, 30.0, 20.0
"""How long is waited at most: for its service on this machine, for its server, and at the end."""

QUIET: Mapping[str, Any] = {
    "silent": True,
    "console": "off",
    "disable_git": True,
    "disable_code": True,
    "save_code": False,
    "x_disable_stats": True,
    "x_disable_meta": True,
    "x_disable_machine_info": True,
    "x_save_requirements": False,
    "init_timeout": START_SECONDS,
    "x_service_wait": SERVICE_SECONDS,
    "finish_timeout": END_SECONDS,
}
"""What it would print, and what it would collect by itself: source code, the command line, the machine."""


class Wandb:
    """A run of Weights & Biases.

    Args:
        run: what `wandb.init` returned.
        id: of the run.
    """

    def __init__(self, run: Any, id: str) -> None:
        self.run, self.id = run, id

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """One row of the run's history; steps that it has already are left as they are."""
        self.run.log(dict(values), step=step)

    def picture(self, name: str, image: UInt8[np.ndarray, "h w 3"], step: int) -> None:
        """A slider over the steps for each name."""
        from wandb import Image

        self.run.log({name: Image(image)}, step=step)

    def close(self, outcome: str) -> None:
        """Say how it ended, and send what is left."""
        self.run.finish(exit_code=0 if outcome == "finished" else 1)


def open_wandb(about: About, known: str | None) -> Wandb:
    """A new run with its settings, or that of the same training before it was resumed.

    Args:
        about: what is trained.
        known: id of the run to go on with.

    Raises:
        UsageError: its server cannot be reached, or wants a key that is not there.
    """
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    run_id = known or secrets.token_hex(4)
    offline = os.environ.get("WANDB_MODE") in ("offline", "disabled")
    try:
        import wandb

        with deaf_to_ctrl_c():  # its service ends with this program, and has to send what is left
            run = wandb.init(
                id=run_id,
                name=about.run.resolve().name,
                dir=os.environ.get("WANDB_DIR") or about.run,
                config={**about.settings, **{f"jcl.{name}": value for name, value in about.facts.items()}},
                resume=None if offline else "allow",
                settings=wandb.Settings(**QUIET),
            )
    except Exception as error:  # of its server, of the network, of a missing key
        reason = " ".join(str(error).split())[:150]
        raise UsageError(
            f"--tracker wandb: its server does not take it ({reason}); run `wandb login`, set WANDB_BASE_URL, take "
            "WANDB_MODE=offline, or leave --tracker out"
        ) from error
    return Wandb(run, run_id)
