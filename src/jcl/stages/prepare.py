"""Preparing: a folder of scans becomes a verified store of slices (paper 4.1)."""

import contextlib
import hashlib
import math
import multiprocessing
import multiprocessing.process
import os
import shutil
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import filelock
import numpy as np
import SimpleITK as sitk
import torch

from jcl.config import PrepareConfig
from jcl.data.datasets import CaseSource, DatasetSpec, find_cases, load_spec, resolve
from jcl.data.imagefile import WriteError
from jcl.data.store import (
    CASES,
    MANIFEST,
    PLAN,
    CaseRecord,
    Refused,
    Store,
    read_case,
    read_json,
    write_case,
    write_json,
    write_manifest,
)
from jcl.data.volumes import map_labels, prepare_volume, read_image, read_label, resample_label
from jcl.errors import DataError, UsageError

__all__ = ["prepare", "summary"]

LOCK = ".lock"
MULTIPLE = 16
"""The largest slice is rounded up to a multiple of it, which the networks' four poolings ask for."""

Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class Job:
    """What a worker needs to prepare one case."""

    source: Path
    out: Path
    files: CaseSource
    recipe: dict[str, Any]


def prepare(config: PrepareConfig, *, progress: Progress | None = None) -> Store:
    """Turn a folder of scans into a store; run again, it does only what is missing.

    A case that cannot be used is set aside with its reason, unless `config.strict`.

    Args:
        progress: called with cases done, cases in all and the name of the case.

    Raises:
        DataError: there are no cases, none can be used, a file cannot be written, or with `strict`
            a case cannot be used.
        UsageError: `out` is a store of other options or sources, or no store; or a setting is wrong.
    """
    if getattr(multiprocessing.process.current_process(), "_inheriting", False):
        raise UsageError('a script that calls prepare needs `if __name__ == "__main__":` around its calls')
    workers = config.workers if config.workers is not None else os.cpu_count() or 1
    if workers < 1:
        raise UsageError(f"workers is {workers}; at least 1 is needed")
    spec = resolve(
        load_spec(config.dataset), config.source,
        spacing=config.spacing, size=config.size, labels=config.labels, patient=config.patient,
    )  # fmt: skip
    cases = find_cases(config.source, spec)
    check_out(config.out)
    with _locked(config.out):
        check_out(config.out)
        recipe = _recipe(spec, cases, workers)
        _check_plan(config.out, recipe, cases)
        jobs = [Job(config.source, config.out, files, recipe) for files in cases]
        results = _run_all(jobs, workers, strict=config.strict, progress=progress)
        return _finish(config.out, recipe, results)


def check_out(out: Path) -> None:
    """Raises UsageError when `out` is there and is no store."""
    if out.is_file():
        raise UsageError(f"{out}: is a file; choose another --out")
    if out.is_dir() and not any((out / name).is_file() for name in (PLAN, MANIFEST)):
        if any(not path.name.startswith((LOCK, f".{PLAN}")) for path in out.iterdir()):
            raise UsageError(f"{out}: is a folder with other things in it; choose another --out")


@contextlib.contextmanager
def _locked(out: Path) -> Iterator[None]:
    """Hold the store's lock; another process that prepares it waits here."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(out / LOCK)
        try:
            lock.acquire(timeout=0)
        except filelock.Timeout:
            print(f"{out}: waiting for another process that prepares this store", file=sys.stderr)
            lock.acquire()
    except OSError as error:
        raise DataError(f"{out}: cannot be written ({error.strerror or error})") from error
    try:
        yield
    finally:
        lock.release()


def _recipe(spec: DatasetSpec, cases: list[CaseSource], workers: int) -> dict[str, Any]:
    """All that decides what is in the store, and all that prediction needs."""
    labels = spec.labels
    if not labels and any(files.label for files in cases):
        labels = _values_found(cases)
    classes = list(dict.fromkeys(labels.values()))
    first = {name: value for value, name in reversed(labels.items())}
    return {
        "dataset": spec.name,
        "title": spec.title,
        "modality": spec.modality,
        "licence": spec.licence,
        "channels": spec.channels,
        "spacing": spec.spacing,
        "size": spec.size,
        "normalisation": spec.normalisation,
        "clip": list(spec.clip),
        "labels": {str(value): name for value, name in labels.items()},
        "classes": classes,
        "class_values": [first[name] for name in classes],
        "other_labels": spec.other_labels,
        "patient": spec.patient,
    }


def _values_found(cases: list[CaseSource]) -> dict[int, str]:
    """Label values of a folder without names for them: each is named by itself."""
    found: set[int] = set()
    for files in cases:
        if files.label:
            with contextlib.suppress(DataError):
                image = read_image(files.images)
                found.update(np.unique(read_label(files.label, image)).tolist())
    return {value: str(value) for value in sorted(found - {0})}


def _check_plan(out: Path, recipe: dict[str, Any], cases: list[CaseSource]) -> None:
    """Compare with what the store was begun with; write it down when it is new; clear what a killed run left."""
    plan = out / PLAN
    if plan.is_file():
        old = read_json(plan)["recipe"]
        changed = [f"{key}: {old.get(key)!r} in the store, {recipe[key]!r} now" for key in recipe if old.get(key) != recipe[key]]
        if changed:
            raise UsageError(f"{out}: made with other options ({'; '.join(changed)}); choose another --out")
    else:
        write_json(plan, {"recipe": recipe})
    (out / CASES).mkdir(exist_ok=True)
    names = {files.case for files in cases}
    for folder in sorted((out / CASES).iterdir()):
        if folder.name.startswith("."):
            shutil.rmtree(folder, ignore_errors=True)
        elif folder.name not in names:
            raise UsageError(f"{out}: holds case {folder.name}, which the source has not; choose another --out")


def run_job(job: Job) -> CaseRecord | Refused:
    """Prepare one case, or find that it is there already.

    Raises:
        WriteError: the disk is full.
        UsageError: the case is there, of other source files.
    """
    try:
        source = _digests(job)
        done = read_case(job.out / CASES / job.files.case)
        if done is not None:
            if done.source != source:
                raise UsageError(
                    f"{job.files.images[0]}: this case's files are not those that the store was made of; choose another --out"
                )
            return done
        return _prepare_case(job, source)
    except WriteError:
        raise
    except DataError as error:
        return Refused(job.files.case, job.files.patient, _below(str(error), job.source))
    except MemoryError:
        reason = f"{job.files.images[0]}: needs more memory than there is; take fewer --workers"
        return Refused(job.files.case, job.files.patient, _below(reason, job.source))


def _prepare_case(job: Job, source: dict[str, list[list[str]]]) -> CaseRecord:
    recipe, files = job.recipe, job.files
    volume = read_image(files.images, channels=recipe["channels"])
    image, spacing = prepare_volume(volume, recipe)
    labels = None
    if files.label is not None:
        classes = {int(value): recipe["classes"].index(name) + 1 for value, name in recipe["labels"].items()}
        values = read_label(files.label, volume)
        labels = map_labels(values, classes, other=recipe["other_labels"], path=files.label)
        labels = resample_label(labels, volume.spacing, recipe["spacing"])
    height, width = image.shape[2:]
    size = recipe["size"]
    if size is not None and max(height, width) > size:
        raise DataError(
            f"{files.images[0]}: its slices have {height} x {width} pixels, more than the size {size}; grow --size or raise --spacing"
        )
    return write_case(
        job.out, image, labels, case=files.case, patient=files.patient,
        spacing=spacing, source=source, classes=len(recipe["classes"]),
    )  # fmt: skip


def _digests(job: Job) -> dict[str, list[list[str]]]:
    """Path below the source and sha256 of each file of a case."""
    files = {"images": job.files.images, "label": (job.files.label,) if job.files.label else ()}
    return {role: [[_below(str(path), job.source), _sha256(path)] for path in paths] for role, paths in files.items()}


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from error


def _below(text: str, source: Path) -> str:
    """Paths as seen from the source folder, so that a store does not depend on where that was."""
    return text.replace(f"{source}{os.sep}", "")


def _run_all(
    jobs: list[Job], workers: int, *, strict: bool, progress: Progress | None
) -> list[CaseRecord | Refused]:
    """Run the jobs in as many processes, and return the results in the order of the jobs."""
    results: dict[str, CaseRecord | Refused] = {}
    show = progress or _bar()
    for case, result in _results(jobs, min(workers, len(jobs))):
        if strict and isinstance(result, Refused):
            raise DataError(result.reason)
        results[case] = result
        show(len(results), len(jobs), case)
    return [results[job.files.case] for job in jobs]


def _results(jobs: list[Job], workers: int) -> Iterator[tuple[str, CaseRecord | Refused]]:
    if workers == 1:
        for job in jobs:
            yield job.files.case, run_job(job)
        return
    left = {job.files.case: job for job in jobs}
    try:
        with _pool(workers) as pool:
            futures: dict[Future[CaseRecord | Refused], str] = {pool.submit(run_job, job): job.files.case for job in jobs}
            try:
                for future in as_completed(futures):
                    result = future.result()
                    left.pop(futures[future])
                    yield futures[future], result
            except BaseException:
                pool.shutdown(wait=True, cancel_futures=True)
                raise
    except BrokenProcessPool:
        # One process died (a reader that crashed, or memory ran out): each case left gets a process of its own.
        for case, job in left.items():
            yield case, _run_alone(job)


def _run_alone(job: Job) -> CaseRecord | Refused:
    try:
        with _pool(1) as pool:
            return pool.submit(run_job, job).result()
    except BrokenProcessPool:
        reason = f"{job.files.images[0]}: the process that read it died (damaged file, or out of memory)"
        return Refused(job.files.case, job.files.patient, _below(reason, job.source))


def _pool(workers: int) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), initializer=_start_worker)


def _start_worker() -> None:
    """One thread a process; the parent alone answers Ctrl-C; a parent that is killed takes its workers along."""
    torch.set_num_threads(1)
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()

    def watch() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _bar() -> Progress:
    def show(done: int, total: int, case: str) -> None:
        print(f"\rprepared {done} of {total}", end="\n" if done == total else "", file=sys.stderr)

    return show


def _finish(out: Path, recipe: dict[str, Any], results: list[CaseRecord | Refused]) -> Store:
    """Write the manifest, or clear all away when there is no good case."""
    cases = [result for result in results if isinstance(result, CaseRecord)]
    refused = [result for result in results if isinstance(result, Refused)]
    if not cases:
        shutil.rmtree(out / CASES, ignore_errors=True)
        (out / PLAN).unlink(missing_ok=True)
        raise DataError(f"{out}: none of {len(results)} cases can be used; the first: {refused[0].reason}")
    height, width = (max(record.shape[axis] for record in cases) for axis in (0, 1))
    size = recipe["size"]
    padded = (size, size) if size else (_rounded(height), _rounded(width))
    write_manifest(out, recipe, cases, refused, padded)
    return Store.open(out)


def _rounded(pixels: int) -> int:
    return math.ceil(pixels / MULTIPLE) * MULTIPLE


def summary(store: Store) -> list[str]:
    """Lines that say what is in a store and what was set aside."""
    slices = sum(record.slices for record in store.cases)
    labelled = sum(record.labelled for record in store.cases)
    patients = len({record.patient for record in store.cases})
    size = " x ".join(map(str, store.size))
    lines = [f"{len(store.cases)} cases ({labelled} with labels) of {patients} patients, {slices} slices of {size} pixels"]
    if store.refused:
        lines.append(f"{len(store.refused)} set aside:")
        lines += [f"  {entry.reason}" for entry in store.refused]
    return lines
