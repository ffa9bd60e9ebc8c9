"""What is wrong with a run or model folder: damaged files, a store that has changed, patients in two parts."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import torch

from jcl.checks.findings import ERROR, NOTE, Finding, name_some
from jcl.data.context import recorded_context
from jcl.data.splits import PARTS, Split, read_split
from jcl.data.store import Store
from jcl.errors import DataError
from jcl.files import is_sealed, read_json
from jcl.inference.segmenter import CONFIG, is_for_hub, read_for_hub
from jcl.training.checkpoint import read_state, read_weights
from jcl.training.initial_run import images_of, patients_seen
from jcl.training.run_folder import FORMAT, is_finished, weights_digest

__all__ = ["RunCheck", "check_run", "is_run"]


@dataclass
class RunCheck:
    """What was found in a run folder.

    Attributes:
        facts: part of the run -> its state in a few words.
        findings: what is wrong with it.
    """

    path: Path
    facts: dict[str, str] = field(default_factory=dict[str, str])
    findings: list[Finding] = field(default_factory=list[Finding])

    def add(self, part: str, state: str, *findings: Finding) -> None:
        """Add the state of a part and what is wrong with it."""
        self.facts[part] = state
        self.findings.extend(findings)


def is_run(path: Path) -> bool:
    """Whether a folder is that of a run, or a model made for the hub, and no store."""
    return (path / "run.json").exists() or is_for_hub(path)


def check_run(run: Path, *, step: Callable[[str], None] = lambda part: None) -> RunCheck:
    """Read all files of a run that a later stage would read.

    Args:
        run: a folder with a `run.json`, or one for the hub.
        step: called with the name of each part before it is read.

    Raises:
        DataError: `run.json` is damaged, or of another kind or format.
    """
    if is_for_hub(run):
        return _check_model(run)
    info = _read_info(run)
    check = RunCheck(run)
    context = recorded_context(info, run / "run.json")
    seen = f", slices with {context} on either side" if context else ""
    version = info["versions"].get("jcl", "?")
    check.add("run.json", f"{info['kind']}, {info.get('steps', '?')} steps{seen}, jcl {version}")
    _check_network(check, info, run / "run.json")
    _check_seals(check)
    step("weights")
    _check_weights(check)
    for folder in sorted((run / "checkpoints").glob("step-*")):
        step(folder.name)
        _check_checkpoint(check, folder)
    for folder in sorted((run / "checkpoints").glob(".step-*")):
        text = f"{folder}: begun by a run that was killed; it is never read, remove it"
        check.findings.append(Finding(NOTE, "stray", text))
    step("log")
    _check_log(check)
    step("stores")
    stores = [_check_store(check, Path(path), digest) for path, digest in _stores(info)]
    step("split")
    split = _check_split(check, info, stores[0] if stores else None)
    if split is not None and info["kind"] == "finetune":
        _check_initial_run(check, info, split, stores[0])
    return check


def _read_info(run: Path) -> dict[str, Any]:
    info: object = read_json(run / "run.json")
    values = cast("dict[str, Any]", info) if isinstance(info, dict) else {}
    if values.get("kind") not in ("pretrain", "finetune") or not isinstance(values.get("versions"), dict):
        raise DataError(f"{run / 'run.json'}: not what a training of jcl writes; restore it or train again")
    if values.get("format") != FORMAT:
        raise DataError(f"{run}: a run of format {values.get('format')}; this jcl reads format {FORMAT}")
    return values


def _check_model(folder: Path) -> RunCheck:
    """A folder that was made for the hub."""
    check = RunCheck(folder)
    weights, info = read_for_hub(folder)
    check.add(CONFIG, f"{info.get('kind')}, exported by jcl {info.get('jcl', '?')}")
    _check_network(check, info, folder / CONFIG)
    _check_seals(check)
    _tell_whole(check, "model.safetensors", weights)
    return check


def _check_network(check: RunCheck, info: dict[str, Any], file: Path) -> None:
    """Which code a reader of the folder would run."""
    backbone = info.get("backbone")
    name = str(cast("dict[str, Any]", backbone).get("name")) if isinstance(backbone, dict) else "?"
    if ":" not in name:
        check.add("network", f"{name}, which comes with jcl; nothing is imported")
        return
    module = name.partition(":")[0]
    text = f"{file}: names the network {name}: with --trust-code it would import {module}; without, it is refused"
    check.add("network", f"{name}: would import {module}, with --trust-code only", Finding(NOTE, "import", text))


def _check_seals(check: RunCheck) -> None:
    """Which JSON files can be compared with their seal; that each is as it was sealed, those who read it find out."""
    names = ("run.json", CONFIG, "split.json", "model.json")
    paths = [path for name in names if (path := check.path / name).is_file()]
    paths += sorted((check.path / "checkpoints").glob("step-*/state.json"))
    without: list[str] = []
    for path in paths:
        try:
            if not is_sealed(path):
                without.append(str(path.relative_to(check.path)))
        except DataError:
            continue  # told where it is read
    what = f"not sealed (written by an earlier jcl, or by hand): {name_some(without)}" if without else "all JSON files"
    check.add("seals", what)


def _check_weights(check: RunCheck) -> None:
    path = check.path / "model.safetensors"
    if not is_finished(check.path):
        text = f"{check.path}: not finished; go on with the same command and --resume"
        check.add(path.name, "not there yet", Finding(NOTE, "unfinished", text))
        return
    try:
        weights = read_weights(path, weights_digest(check.path))
    except DataError as error:
        check.add(path.name, "damaged", Finding(ERROR, "damaged", _with_remedy(str(error))))
        return
    _tell_whole(check, path.name, weights)


def _tell_whole(check: RunCheck, name: str, weights: dict[str, torch.Tensor]) -> None:
    check.add(name, f"whole, {len(weights)} tensors, {sum(t.numel() for t in weights.values()):,} values")


def _with_remedy(text: str) -> str:
    return text if ";" in text and "train again" in text else f"{text}; restore it or train again"


def _check_checkpoint(check: RunCheck, folder: Path) -> None:
    """A damaged checkpoint is passed over by --resume, so only the older one is left to go on from."""
    try:
        _, digests = read_state(folder)
        for name in ("model.safetensors", "state.safetensors"):
            read_weights(folder / name, digests[name])
    except DataError as error:
        text = str(error).split(";")[0] + f"; remove {folder}: --resume goes on from the checkpoint before it"
        check.add(folder.name, "damaged", Finding(ERROR, "damaged", text))
    else:
        check.add(folder.name, "whole")


def _check_log(check: RunCheck) -> None:
    path = check.path / "log.jsonl"
    try:
        last = json.loads(path.read_text(encoding="utf-8").splitlines()[-1])
        check.add(path.name, f"up to step {last['step']}, loss {last['loss']}")
    except OSError:
        check.add(path.name, "not there")
    except (ValueError, IndexError, KeyError, TypeError, RecursionError):
        check.add(path.name, "its last line is cut short; --resume writes it anew")


def _stores(info: dict[str, Any]) -> list[tuple[str, str]]:
    if info["kind"] == "finetune":
        return [(str(info.get("store")), str(info.get("store_digest")))]
    return [(str(entry["path"]), str(entry["digest"])) for entry in info.get("stores", [])]


def _check_store(check: RunCheck, path: Path, digest: str) -> Store | None:
    """The store, if it is the one that the run was trained on; its manifest vouches for its other files."""
    if not path.exists():
        text = (
            f"{path}: the store that {check.path} was trained on is not there; name the place it moved to with --store"
        )
        check.add(f"store {path}", "not there", Finding(NOTE, "store", text))
        return None
    try:
        store = Store.open(path)
    except DataError as error:
        check.add(f"store {path}", "cannot be opened", Finding(ERROR, "store", str(error)))
        return None
    if store.digest == digest:
        check.add(f"store {path}", "as it was; `jcl verify` of it reads all its files")
        return store
    text = f"{path}: has changed since {check.path} was trained on it; restore that store, or train again on this one"
    check.add(f"store {path}", "has changed", Finding(ERROR, "store", text))
    return None


def _check_split(check: RunCheck, info: dict[str, Any], store: Store | None) -> Split | None:
    path = check.path / "split.json"
    if not path.exists():
        if info["kind"] == "finetune":
            text = f"{path}: missing, so that the test patients are not known; restore it or train again"
            check.add(path.name, "missing", Finding(ERROR, "missing", text))
        else:
            used = "of whom it has seen nothing is known" if info.get("imported") else "all patients were used"
            check.add(path.name, f"none: {used}")
        return None
    try:
        split = read_split(path)
    except DataError as error:
        check.add(path.name, "cannot be used", Finding(ERROR, "split", str(error)))
        return None
    sizes = ", ".join(f"{len(getattr(split, part))} {part}" for part in PARTS)
    check.add(path.name, f"patients: {sizes}; none in two parts")
    if store is not None:
        known = {record.patient for record in store.cases}
        unknown = [patient for part in PARTS for patient in getattr(split, part) if patient not in known]
        if unknown:
            text = f"{path}: names patients that {store.path} does not have: {name_some(unknown)}; restore it"
            check.findings.append(Finding(ERROR, "split", text))
    return split


def _check_initial_run(check: RunCheck, info: dict[str, Any], split: Split, store: Store | None) -> None:
    """Whether the initial run saw images of the test patients: allowed, as the paper does it, but worth knowing."""
    initial = cast("dict[str, Any]", info.get("init") or {}).get("run")
    if not initial:
        return
    run = Path(initial)
    there = images_of(store.cases) if store is not None else {}
    images = {patient: there.get(patient, frozenset[str]()) for patient in split.test}
    try:
        _read_info(run)
        seen = patients_seen(run, images, str(info.get("store_digest")))
    except DataError as error:
        text = (
            f"{run}: the pre-training it began with cannot be read ({error}); whether it saw the test patients is open"
        )
        check.add(f"initial run {run}", "cannot be read", Finding(NOTE, "initial run", text))
        return
    if seen.patients:
        text = (
            f"{run}: the pre-training saw the images (no labels) of {len(seen.patients)} of {len(split.test)} test "
            f"patients: {name_some(sorted(seen.patients))}; say so with the scores, or pre-train with the same --fold"
        )
        check.add(f"initial run {run}", "saw test patients", Finding(NOTE, "leak", text))
    elif seen.unknown:
        text = f"{seen.unknown[0]}: {run} was trained on it and it is not there; whether it has test patients is open"
        check.add(f"initial run {run}", "cannot be known", Finding(NOTE, "initial run", text))
    else:
        check.add(f"initial run {run}", "saw no test patient of this store")
