"""Run folders: what a training leaves behind, and what the next stage reads.

run.json                settings, versions, backbone, preparation settings, digests of the stores
split.json              patients used and held back
log.jsonl, tensorboard/ losses and speed over the steps
trackers.json           ids of the run in MLflow and Weights & Biases, where `--tracker` names them
run.log                 versions, machine, settings, warnings and ends of its attempts, for the report of a fault
cost.json               what the run was expected to take, from its first seconds
checkpoints/step-N/     the newest two, to go on from
model.safetensors       final weights, with their digest in model.json: the mark of a finished run
"""

import os
import platform
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from importlib.metadata import version
from pathlib import Path
from types import MappingProxyType
from typing import Any, cast

import torch
from torch import Tensor, nn

import jcl
from jcl import backbones
from jcl.backbones import Backbone
from jcl.data.block_plan import block_of
from jcl.data.recorded_preparation import check_preparation
from jcl.distributed.comm import any_rank, barrier, is_main_process, same_everywhere, world_size
from jcl.errors import DataError, UsageError
from jcl.files import read_json, write_json
from jcl.locks import is_lock, locked
from jcl.signals import StopRequest, interrupted
from jcl.training.checkpoint import Checkpointer, read_weights, write_weights

FORMAT = 1
"""Version of the layout above; raised when an older program could misread it."""

FREE = (
    "resume",
    "workers",
    "devices",
    "checkpoint_minutes",
    "timeout_minutes",
    "recompute",
    "out",
    "allow_seen",
    "trust_code",
    "tracker",
    "watch",
    "watch_every",
)
"""Settings that may differ when a run goes on: they do not change its result."""

PLACES = ("store", "stores", "unlabelled", "init", "split")
"""Settings that say where something lies that is known by its digest, or is in the run folder."""

TOGETHER = 10
"""Steps after which several processes ask each other whether to save or to stop."""


def recorded_run(out: Path, *, resume: bool) -> dict[str, Any] | None:
    """`run.json` of the run to go on with; None where a new one begins.

    All processes look before the first of them writes (see `start_run`).

    Raises:
        UsageError: the folder exists and `resume` is off, or it is not a run folder.
    """
    recorded = None
    if (out / "run.json").exists():
        if not resume:
            raise UsageError(f"{out} exists; choose another --out, or give --resume to go on with it")
        recorded = cast("dict[str, Any]", read_json(out / "run.json"))
    elif out.exists() and not all(is_lock(path) for path in out.iterdir()):
        raise UsageError(f"{out} exists and is not a run folder; choose another --out")
    barrier()
    return recorded


def only_writer(out: Path) -> AbstractContextManager[None]:
    """Context in which no other command trains into the run folder; under `torchrun` the first process sees to it.

    Raises:
        UsageError: another one does.
        WriteError: the folder cannot be written.
    """
    return locked(out) if os.environ.get("RANK", "0") == "0" else nullcontext()


def surroundings(*, deterministic: bool) -> dict[str, int]:
    """What else a result depends on, for `run.json`: the number of processes, and of threads where every bit counts."""
    return {"processes": world_size(), **({"threads": torch.get_num_threads()} if deterministic else {})}


def start_run(
    out: Path,
    info: Mapping[str, Any],
    recorded: Mapping[str, Any] | None = None,
    unsaid: Mapping[str, Any] = MappingProxyType({}),
) -> None:
    """Make the run folder with its `run.json`, or check that an interrupted run is the same one.

    Stores and the initial run are known by their digests: where they have been moved, their new places are recorded.

    Args:
        out: the run folder.
        info: what determines the run's result.
        recorded: see `recorded_run`.
        unsaid: what held where an earlier version recorded nothing: `settings` that it did not have, and `method`.

    Raises:
        UsageError: the run that goes on has other settings or data, or one of several processes has.
    """
    if not same_everywhere(_apart_from_places(info)):
        raise UsageError(
            f"{out}: the processes do not have the same data and settings; see that each machine has the same store "
            "and is given the same command"
        )
    if recorded is not None:
        before = _flat({"processes": 1, "compiled": False, "kernels": False, **unsaid}) | _flat(recorded)
        _check_same(out, before, _flat({"format": FORMAT, **info}))
        where = _with_places(recorded, info)
        if where != recorded and is_main_process():
            write_json(out / "run.json", where, seal=True)
    elif is_main_process():
        out.mkdir(parents=True, exist_ok=True)
        write_json(out / "run.json", {"format": FORMAT, **info, "versions": _versions()}, seal=True)


def save_or_stop(checkpointer: Checkpointer, stop: StopRequest, step: int) -> None:
    """After step number `step`: save where it is due or a stop was asked for, and stop where it was.

    Several processes decide together, and not after every step.

    Raises:
        Interrupted: a signal asked to stop; the run is saved.
    """
    if world_size() > 1 and step % TOGETHER:
        return
    asked, due = any_rank(stop.asked, checkpointer.is_due())
    if asked or due:
        checkpointer.save(step)
    if asked:
        raise interrupted(checkpointer.run, step)


def save_model(run: Path, model: nn.Module) -> None:
    """Write the final weights of a run, and the mark that it is finished; only the first process does."""
    if is_main_process():
        save_weights(run, model.state_dict())


def save_weights(run: Path, weights: Mapping[str, Tensor]) -> None:
    """Write these tensors as the final weights of a run, and the mark that it is finished."""
    digest = write_weights(run / "model.safetensors", weights)
    write_json(run / "model.json", {"sha256": digest}, seal=True)


def is_finished(run: Path) -> bool:
    """Whether the run has its final weights."""
    return (run / "model.json").is_file()


def read_run(run: Path, kind: str) -> dict[str, Any]:
    """`run.json` of a finished run of the given kind, `pretrain` or `finetune`.

    Raises:
        DataError: no run folder, another kind of run, another format, a run that is not finished, or one by whose
            preparation no scan can be prepared.
    """
    if not (run / "run.json").is_file():
        what = "not a run folder (it has no run.json)" if run.exists() else "no such folder; check its name"
        raise DataError(f"{run}: {what}")
    content: object = read_json(run / "run.json")
    info = cast("dict[str, Any]", content) if isinstance(content, dict) else {}
    if info.get("format") != FORMAT:
        raise DataError(f"{run}: a run of format {info.get('format')}; this jcl reads format {FORMAT}")
    if info.get("kind") != kind:
        raise DataError(f"{run}: a {info.get('kind')} run, where a {kind} run is needed")
    if not is_finished(run):
        raise DataError(f"{run}: this run is not finished; go on with the same command and --resume")
    if kind == "finetune":
        check_preparation(info.get("recipe"), info.get("backbone"), run / "run.json")
    return info


def weights_digest(run: Path) -> str:
    """SHA-256 of the final weights of a run, as `model.json` has it.

    Raises:
        DataError: it is missing or damaged.
    """
    content: object = read_json(run / "model.json")
    digest = cast("dict[str, Any]", content).get("sha256") if isinstance(content, dict) else None
    if not isinstance(digest, str):
        raise DataError(f"{run / 'model.json'}: damaged (it has no digest)")
    return digest


def read_model(run: Path) -> dict[str, Tensor]:
    """Final weights of a run, checked against their digest."""
    return read_weights(run / "model.safetensors", weights_digest(run))


def load_network(run: Path, *, trust_code: bool = False) -> tuple[Backbone, dict[str, Any]]:
    """The network of a fine-tuned run, ready to segment, and the run's `run.json`.

    Raises:
        UsageError: it names a network that is not one of jcl's, and `trust_code` is off.
        DataError: see `read_run`; or weights that are damaged, or of another network.
    """
    info = read_run(run, "finetune")
    network = backbones.restore(info.get("backbone"), run / "run.json", read_model(run), trust_code=trust_code)
    check_dimensions(network, info["recipe"], run / "run.json")
    return network.eval(), info


def check_dimensions(network: Backbone, preparation: Mapping[str, Any], file: Path) -> None:
    """See that a network sees what a file says that it sees.

    Raises:
        DataError: it sees slices, and the preparation has a block; or the other way round.
    """
    if (backbones.dimensions_of(network) == 3) != ((block := block_of(preparation)) is not None):
        raise DataError(f"{file}: recipe: block is {block}, which its network does not see; restore it")


def _versions() -> dict[str, str]:
    names: Sequence[str] = ("numpy", "safetensors", "SimpleITK")
    found = {name: version(name) for name in names}
    return {"jcl": jcl.__version__, "python": platform.python_version(), "torch": torch.__version__, **found}


def _check_same(out: Path, before: Mapping[str, Any], after: Mapping[str, Any]) -> None:
    """Compare what determines a run's result; versions may differ, and are left as first recorded."""
    names = [n for n in sorted({*before, *after}) if n.rsplit(".")[-1] not in FREE and not n.startswith("versions.")]
    changed = [
        f"{n}: {before.get(n)!r} -> {after.get(n)!r}"
        for n in names
        if before.get(n) != after.get(n) and not _is_place(n, before, after)
    ]
    if changed:
        raise UsageError(f"{out} is another run; to go on, give its settings ({'; '.join(changed[:5])})")


def _is_place(name: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> bool:
    """Whether only the place of something differs that is known by its digest, or is in the run folder (a split)."""
    old, new = before.get(name), after.get(name)
    match name:
        case "store" | "settings.store" | "settings.stores":
            return True  # `store_digest` and `stores` are compared
        case "settings.unlabelled":
            return "unlabelled" in before and "unlabelled" in after
        case "unlabelled":
            return [{**each, "path": ""} for each in old or ()] == [{**each, "path": ""} for each in new or ()]
        case "stores":
            return [each["digest"] for each in old or ()] == [each["digest"] for each in new or ()]
        case "init.run" | "init.report" | "settings.init":
            return before.get("init.digest") == after.get("init.digest") is not None
        case "one_piece" | "without_holes":
            return True  # by the labels of the store; earlier versions recorded none
        case "init.digest":
            return old is None  # of an earlier version, whose paths are compared
        case "settings.learning_rate":  # none is given where it is the method's
            return before.get("method.learning_rate") == after.get("method.learning_rate") is not None
        case "settings.split":
            return old is not None and new is not None and Path(old).name == Path(new).name
        case _ if name.startswith("settings.method_settings."):
            resolved = name.removeprefix("settings.method_settings.")
            return before.get(f"method.{resolved}") == after.get(f"method.{resolved}") is not None
        case _ if name.startswith("method."):
            return name not in before  # of a method of the user's own, which earlier versions did not record
        case _:
            # the first by the scans of the store, see above; the second by the paths of the stores
            return name.startswith(("seen_", "left_out."))


def _apart_from_places(info: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """What has to be the same in every process, wherever each finds it."""
    digests = {
        "digest.store": info.get("store_digest"),
        "digest.stores": [each["digest"] for each in info.get("stores", ())],
        "digest.unlabelled": [each["digest"] for each in info.get("unlabelled", ())],
        "digest.init": info.get("init", {}).get("digest"),
    }
    settings = _flat(info.get("settings", {}))
    kept = {name: value for name, value in settings.items() if name.rsplit(".")[-1] not in (*PLACES, *FREE)}
    return sorted({**kept, **digests}.items())


def _with_places(recorded: Mapping[str, Any], info: Mapping[str, Any]) -> dict[str, Any]:
    """What is recorded, with the places where the data and the initial run are now."""
    before, now = recorded["settings"], info["settings"]
    settings = {key: now[key] for key in PLACES if key in before and key in now}
    places = {key: info[key] for key in (*PLACES, "left_out") if key in recorded and key in info}
    return {**recorded, **places, "settings": {**before, **settings}}


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(value, dict):
        return {prefix: value}
    return {
        k: v
        for name, entry in cast("dict[str, Any]", value).items()
        for k, v in _flat(entry, f"{prefix}.{name}".strip(".")).items()
    }
