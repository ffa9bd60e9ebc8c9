"""Run folders: what a training leaves behind, and what the next stage reads.

run.json                settings, versions, backbone, preparation recipe, digests of the stores
split.json              patients used and held back
log.jsonl, tensorboard/ losses and speed over the steps
checkpoints/step-N/     the newest two, to go on from
model.safetensors       final weights, with their digest in model.json: the mark of a finished run
"""

import platform
import signal
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from types import FrameType, MappingProxyType, TracebackType
from typing import Any, cast

import torch
from torch import Tensor, nn

import jcl
from jcl import backbones
from jcl.checkpoint import Checkpointer, read_json, read_weights, write_json, write_weights
from jcl.distributed import agree, is_first, meet, processes
from jcl.errors import DataError, Interrupted, UsageError

FORMAT = 1
"""Version of the layout above; raised when an older program could misread it."""

FREE = ("resume", "workers", "devices", "checkpoint_minutes", "timeout_minutes", "recompute", "out")
"""Settings that may differ when a run goes on: they do not change its result."""

TOGETHER = 10
"""Steps after which several processes ask each other whether to save or to stop."""


def recorded_run(out: Path, *, resume: bool) -> dict[str, Any] | None:
    """`run.json` of the run to go on with; None where a new one begins.

    All processes look before the first of them writes (see `start_run`).

    Raises:
        UsageError: the folder exists and `resume` is off, or it is no run folder.
    """
    recorded = None
    if (out / "run.json").exists():
        if not resume:
            raise UsageError(f"{out} exists; choose another --out, or give --resume to go on with it")
        recorded = cast("dict[str, Any]", read_json(out / "run.json"))
    elif out.exists() and any(out.iterdir()):
        raise UsageError(f"{out} exists and is no run folder; choose another --out")
    meet()
    return recorded


def surroundings(*, deterministic: bool) -> dict[str, int]:
    """What else a result depends on, for `run.json`: the number of processes, and of threads where every bit counts."""
    return {"processes": processes(), **({"threads": torch.get_num_threads()} if deterministic else {})}


def start_run(
    out: Path,
    info: Mapping[str, Any],
    recorded: Mapping[str, Any] | None = None,
    defaults: Mapping[str, Any] = MappingProxyType({}),
) -> None:
    """Make the run folder with its `run.json`, or check that an interrupted run is the same one.

    Args:
        out: the run folder.
        info: what determines the run's result.
        recorded: see `recorded_run`.
        defaults: settings that held where an earlier version recorded none, since it did not have them.

    Raises:
        UsageError: the run that goes on has other settings or data.
    """
    if recorded is not None:
        unsaid = _flat({"settings": defaults, "processes": 1, "compiled": False, "kernels": False})
        _check_same(out, {**unsaid, **_flat(recorded)}, _flat({"format": FORMAT, **info}))
    elif is_first():
        out.mkdir(parents=True, exist_ok=True)
        write_json(out / "run.json", {"format": FORMAT, **info, "versions": _versions()})


def save_or_stop(checkpointer: Checkpointer, stop: "StopRequest", step: int) -> None:
    """After step number `step`: save where it is due or a stop was asked for, and stop where it was.

    Several processes decide together, and not after every step.

    Raises:
        Interrupted: a signal asked to stop; the run is saved.
    """
    if processes() > 1 and step % TOGETHER:
        return
    asked, due = agree(stop.asked, checkpointer.is_due())
    if asked or due:
        checkpointer.save(step)
    if asked:
        raise interrupted(checkpointer.run, step)


def save_model(run: Path, model: nn.Module) -> None:
    """Write the final weights of a run, and the mark that it is finished; only the first process does."""
    if not is_first():
        return
    digest = write_weights(run / "model.safetensors", model.state_dict())
    write_json(run / "model.json", {"sha256": digest})


def is_finished(run: Path) -> bool:
    """Whether the run has its final weights."""
    return (run / "model.json").is_file()


def read_run(run: Path, kind: str) -> dict[str, Any]:
    """`run.json` of a finished run of the given kind, `pretrain` or `finetune`.

    Raises:
        DataError: no run folder, another kind of run, another format, or a run that is not finished.
    """
    if not (run / "run.json").is_file():
        raise DataError(f"{run}: not a run folder (it has no run.json)")
    info = cast("dict[str, Any]", read_json(run / "run.json"))
    if info.get("format") != FORMAT:
        raise DataError(f"{run}: a run of format {info.get('format')}; this jcl reads format {FORMAT}")
    if info.get("kind") != kind:
        raise DataError(f"{run}: a {info.get('kind')} run, where a {kind} run is needed")
    if not is_finished(run):
        raise DataError(f"{run}: this run is not finished; go on with the same command and --resume")
    return info


def read_model(run: Path) -> dict[str, Tensor]:
    """Final weights of a run, checked against their digest."""
    return read_weights(run / "model.safetensors", str(read_json(run / "model.json").get("sha256")))


def load_network(run: Path) -> tuple[nn.Module, dict[str, Any]]:
    """The network of a fine-tuned run, ready to segment, and the run's `run.json`."""
    info = read_run(run, "finetune")
    settings = dict(info["backbone"])
    network = backbones.load(settings.pop("name"))(**settings)
    network.load_state_dict(read_model(run))
    return network.eval(), info


class StopRequest:
    """Context in which SIGINT and SIGTERM only set `asked`, so that a step can be finished and saved.

    A second signal ends the program at once.
    """

    def __init__(self) -> None:
        self.asked = False
        self.before: dict[int, Any] = {}

    def __enter__(self) -> "StopRequest":
        for number in (signal.SIGINT, signal.SIGTERM):
            try:
                self.before[number] = signal.signal(number, self._ask)
            except ValueError:  # not the main thread: the caller handles signals
                break
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True


def interrupted(run: Path, step: int) -> Interrupted:
    """The error of a run that was stopped and saved."""
    return Interrupted(f"{run}: stopped after step {step} and saved; the same command with --resume goes on")


def _versions() -> dict[str, str]:
    names: Sequence[str] = ("numpy", "safetensors", "SimpleITK")
    found = {name: version(name) for name in names}
    return {"jcl": jcl.__version__, "python": platform.python_version(), "torch": torch.__version__, **found}


def _check_same(out: Path, before: Mapping[str, Any], after: Mapping[str, Any]) -> None:
    """Compare what determines a run's result; versions may differ, and are left as first recorded."""
    names = [n for n in sorted({*before, *after}) if n.rsplit(".")[-1] not in FREE and not n.startswith("versions.")]
    changed = [f"{n}: {before.get(n)!r} -> {after.get(n)!r}" for n in names if before.get(n) != after.get(n)]
    if changed:
        raise UsageError(f"{out} is another run; to go on, give its settings ({'; '.join(changed[:5])})")


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(value, dict):
        return {prefix: value}
    return {
        k: v
        for name, entry in cast("dict[str, Any]", value).items()
        for k, v in _flat(entry, f"{prefix}.{name}".strip(".")).items()
    }
