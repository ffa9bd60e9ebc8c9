"""What is wrong with a run folder: damaged files, a store that has changed, patients on both sides of the split."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import torch

from jcl.checkpoint import read_json, read_weights
from jcl.data.splits import PARTS, Split, read_split
from jcl.data.store import Store
from jcl.errors import DataError
from jcl.findings import ERROR, NOTE, Finding, name_some
from jcl.runs import FORMAT, is_finished

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

    def tell(self, part: str, state: str, *findings: Finding) -> None:
        """Add the state of a part and what is wrong with it."""
        self.facts[part] = state
        self.findings.extend(findings)


def is_run(path: Path) -> bool:
    """Whether a folder is that of a run, and no store."""
    return (path / "run.json").exists()


def check_run(run: Path, *, step: Callable[[str], None] = lambda part: None) -> RunCheck:
    """Read all files of a run that a later stage would read.

    Args:
        run: a folder with a `run.json`.
        step: called with the name of each part before it is read.

    Raises:
        DataError: `run.json` is damaged, or of another kind or format.
    """
    info = _read_info(run)
    check = RunCheck(run)
    check.tell("run.json", f"{info['kind']}, {info.get('steps', '?')} steps, jcl {info['versions'].get('jcl', '?')}")
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
        _check_initial_run(check, info, split)
    return check


def _read_info(run: Path) -> dict[str, Any]:
    info: object = read_json(run / "run.json")
    values = cast("dict[str, Any]", info) if isinstance(info, dict) else {}
    if values.get("kind") not in ("pretrain", "finetune") or not isinstance(values.get("versions"), dict):
        raise DataError(f"{run / 'run.json'}: not what a training of jcl writes; restore it or train again")
    if values.get("format") != FORMAT:
        raise DataError(f"{run}: a run of format {values.get('format')}; this jcl reads format {FORMAT}")
    return values


def _check_weights(check: RunCheck) -> None:
    path = check.path / "model.safetensors"
    if not is_finished(check.path):
        text = f"{check.path}: not finished; go on with the same command and --resume"
        check.tell(path.name, "not there yet", Finding(NOTE, "unfinished", text))
        return
    try:
        weights = read_weights(path, _digest_in(check.path / "model.json"))
    except DataError as error:
        check.tell(path.name, "damaged", Finding(ERROR, "damaged", _with_mend(str(error))))
        return
    wrong = [n for n, t in weights.items() if t.is_floating_point() and not bool(torch.isfinite(t).all())]
    if wrong:
        text = f"{path}: values that are no numbers in {name_some(wrong)}; train again at a lower --learning-rate"
        check.tell(path.name, "not finite", Finding(ERROR, "weights", text))
        return
    check.tell(path.name, f"whole, {len(weights)} tensors, {sum(t.numel() for t in weights.values()):,} values")


def _digest_in(path: Path) -> str:
    content: object = read_json(path)
    digest = cast("dict[str, Any]", content).get("sha256") if isinstance(content, dict) else None
    if not isinstance(digest, str):
        raise DataError(f"{path}: damaged (it has no digest)")
    return digest


def _with_mend(text: str) -> str:
    return text if ";" in text and "train again" in text else f"{text}; restore it or train again"


def _check_checkpoint(check: RunCheck, folder: Path) -> None:
    """A damaged checkpoint is passed over by --resume, so only the older one is left to go on from."""
    try:
        state: object = read_json(folder / "state.json")
        digests = cast("dict[str, Any]", state).get("sha256") if isinstance(state, dict) else None
        if not isinstance(digests, dict):
            raise DataError(f"{folder / 'state.json'}: damaged (it has no digests)")
        for name in ("model.safetensors", "state.safetensors"):
            read_weights(folder / name, str(cast("dict[str, Any]", digests).get(name)))
    except DataError as error:
        text = str(error).split(";")[0] + f"; remove {folder}: --resume goes on from the checkpoint before it"
        check.tell(folder.name, "damaged", Finding(ERROR, "damaged", text))
    else:
        check.tell(folder.name, "whole")


def _check_log(check: RunCheck) -> None:
    path = check.path / "log.jsonl"
    try:
        last = json.loads(path.read_text(encoding="utf-8").splitlines()[-1])
        check.tell(path.name, f"up to step {last['step']}, loss {last['loss']}")
    except OSError:
        check.tell(path.name, "not there")
    except (ValueError, IndexError, KeyError, TypeError):
        check.tell(path.name, "its last line is cut short; --resume writes it anew")


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
        check.tell(f"store {path}", "not there", Finding(NOTE, "store", text))
        return None
    try:
        store = Store.open(path)
    except DataError as error:
        check.tell(f"store {path}", "cannot be opened", Finding(ERROR, "store", str(error)))
        return None
    if store.digest == digest:
        check.tell(f"store {path}", "as it was; `jcl verify` of it reads all its files")
        return store
    text = f"{path}: has changed since {check.path} was trained on it; restore that store, or train again on this one"
    check.tell(f"store {path}", "has changed", Finding(ERROR, "store", text))
    return None


def _check_split(check: RunCheck, info: dict[str, Any], store: Store | None) -> Split | None:
    path = check.path / "split.json"
    if not path.exists():
        if info["kind"] == "finetune":
            text = f"{path}: missing, so that nothing tells the test patients; restore it or train again"
            check.tell(path.name, "missing", Finding(ERROR, "missing", text))
        else:
            check.tell(path.name, "none: all patients were used")
        return None
    try:
        split = read_split(path)
    except DataError as error:
        check.tell(path.name, "cannot be used", Finding(ERROR, "split", str(error)))
        return None
    sizes = ", ".join(f"{len(getattr(split, part))} {part}" for part in PARTS)
    check.tell(path.name, f"patients: {sizes}; none in two parts")
    if store is not None:
        known = {record.patient for record in store.cases}
        unknown = [patient for part in PARTS for patient in getattr(split, part) if patient not in known]
        if unknown:
            text = f"{path}: names patients that {store.path} does not have: {name_some(unknown)}; restore it"
            check.findings.append(Finding(ERROR, "split", text))
    return split


def _check_initial_run(check: RunCheck, info: dict[str, Any], split: Split) -> None:
    """Whether the pre-training saw images of the test patients: allowed, as the paper does it, but worth knowing."""
    initial = cast("dict[str, Any]", info.get("init") or {}).get("run")
    if not initial:
        return
    run = Path(initial)
    try:
        before = _read_info(run)
        trained = _trained_on(run, before, str(info.get("store_digest")), split.test)
    except (DataError, KeyError, TypeError) as error:
        text = (
            f"{run}: the pre-training it began with cannot be read ({error}); whether it saw the test patients is open"
        )
        check.tell(f"initial run {run}", "cannot be read", Finding(NOTE, "initial run", text))
        return
    if trained:
        text = (
            f"{run}: the pre-training saw the images (no labels) of {len(trained)} of {len(split.test)} test patients: "
            f"{name_some(trained)}; say so with the scores, or pre-train with the same --fold"
        )
        check.tell(f"initial run {run}", "saw test patients", Finding(NOTE, "leak", text))
    else:
        check.tell(f"initial run {run}", "saw no test patient of this store")


def _trained_on(run: Path, info: dict[str, Any], digest: str, patients: Sequence[str]) -> list[str]:
    """Those patients of the store with this digest that the pre-training `run` used."""
    digests = [found for _, found in _stores(info)]
    if digest not in digests:
        return []
    if digests.index(digest) == 0 and (run / "split.json").exists():  # a split is one of the first store
        used = set(read_split(run / "split.json").train)
        return [patient for patient in patients if patient in used]
    return list(patients)
