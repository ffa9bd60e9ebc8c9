"""The program in a process of its own, for tests that signal, cut off or fill what it writes to."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

SMALL = ("--width", "2", "--batch-size", "2", "--checkpoint-minutes", "1000", "--devices", "cpu", "--kernels", "off")


def jcl(*arguments: object, **options: Any) -> "subprocess.Popen[bytes]":
    """Start `jcl` with its two outputs as pipes, unless `options` say otherwise."""
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen([sys.executable, "-m", "jcl", *map(str, arguments)], env=environment, **options)


def pretraining(store: Path, out: Path, *, steps: int, more: tuple[object, ...] = ()) -> tuple[object, ...]:
    """Arguments of a pre-training of some milliseconds a step."""
    return ("pretrain", store, "--out", out, "--steps", steps, "--method", "simclr", *SMALL, *more)


def finetuning(store: Path, out: Path, *, steps: int, more: tuple[object, ...] = ()) -> tuple[object, ...]:
    few = ("--patients", 2, "--semi", "none")
    return ("finetune", store, "--init", "none", *few, "--out", out, "--steps", steps, *SMALL, *more)
