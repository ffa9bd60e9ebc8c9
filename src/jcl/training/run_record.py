"""`run.log`: what the report of a fault needs, line by line, in the folder of the run that it befell.

Versions, machine, settings, warnings, how each attempt ended, and where an unexpected error came from. Nothing that
names a patient: paths and all that stands in quotation marks are left out, and no value of a variable is written.
"""

import contextlib
import dataclasses
import platform
import re
import sys
import traceback
import warnings
from collections.abc import Generator
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

import jcl
from jcl.config import TrainingConfig
from jcl.errors import JclError
from jcl.parallel.machine import cores

__all__ = ["RECORD", "recorded"]

RECORD = "run.log"

PACKAGES = ("torch", "numpy", "safetensors", "SimpleITK", "tensorboard")


CHOICES = ("method", "backbone", "precision", "kernels", "compile", "devices", "adapt", "semi")
"""Settings that are words, and no paths."""


@contextlib.contextmanager
def recorded(config: TrainingConfig) -> Generator[None]:
    """Context of a training: its beginning, warnings and end are added to `run.log` once there is a run."""
    lines = _beginning(config)
    shown = warnings.showwarning

    def show(message: Warning | str, category: type[Warning], *where: Any) -> None:
        lines.append(f"warning: {category.__name__}: {_without_names(str(message))}")
        shown(message, category, *where)

    warnings.showwarning = show
    try:
        yield
        lines.append("ended: finished")
    except BaseException as error:
        lines += _end(error)
        raise
    finally:
        warnings.showwarning = shown
        if (config.out / "run.json").is_file():
            with contextlib.suppress(OSError), (config.out / RECORD).open("a", encoding="utf-8") as file:
                now = datetime.now(UTC).isoformat(timespec="seconds")
                file.write("".join(f"{line}\n" for line in [*lines, f"at: {now}", ""]))


def _beginning(config: TrainingConfig) -> list[str]:
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "no CUDA"
    settings = {
        field.name: value
        for field in dataclasses.fields(config)
        if (value := getattr(config, field.name)) is not None and "prefix" not in field.metadata
    }
    shown = (f"{name}={_plain(value) if name in CHOICES else _number(value)}" for name, value in settings.items())
    prefixed = {f.name: f.metadata["prefix"] for f in dataclasses.fields(config) if "prefix" in f.metadata}
    more = {f"{word}.{key}": value for name, word in prefixed.items() for key, value in getattr(config, name).items()}
    return [
        f"begun: {datetime.now(UTC).isoformat(timespec='seconds')}",
        f"jcl {jcl.__version__}, Python {platform.python_version()}, "
        + ", ".join(f"{name} {version(name)}" for name in PACKAGES),
        f"machine: {platform.system()} {platform.release()} {platform.machine()}, {cores()} cores, {device}",
        f"command: {Path(sys.argv[0]).name} {type(config).__name__.removesuffix('Config').lower()}",
        f"settings: {', '.join([*shown, *(f'{name}={_plain(value)}' for name, value in more.items())])}",
    ]


def _number(value: Any) -> str:
    """A setting that may be a path, or have a name in it, is hidden."""
    return str(value) if isinstance(value, bool | int | float) else "…"


def _plain(value: Any) -> str:
    """A setting that is a choice."""
    return value if isinstance(value, str) else _number(value)


def _end(error: BaseException) -> list[str]:
    """How an attempt ended; of a fault where it came from, of an error that was foreseen only its place."""
    frames = traceback.extract_tb(error.__traceback__)
    places = [f"{Path(frame.filename).name}:{frame.lineno} {frame.name}" for frame in frames]
    if isinstance(error, JclError | KeyboardInterrupt):
        return [f"ended: {type(error).__name__} at {places[-1]}"]
    said = _without_names(str(error)) if not isinstance(error, KeyError) else "…"
    return [f"ended: {type(error).__name__}: {said}", *(f"  {place}" for place in places)]


def _without_names(text: str) -> str:
    hidden = re.sub(r"'[^']*'|\"[^\"]*\"|`[^`]*`", "'…'", text.replace("\n", " "))
    return re.sub(r"[^\s:;,()]*[/\\][^\s:;,()]*", "…", hidden)[:500]
