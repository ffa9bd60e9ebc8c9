"""Preparing: a folder of scans becomes a verified store of slices (paper 4.1)."""

import contextlib
import dataclasses
import math
import multiprocessing.process
import os
import shutil
import sys
import time
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import Any

from jcl.config import PrepareConfig
from jcl.data.datasets import CaseSource, DatasetSpec, find_cases, load_spec, resolve
from jcl.data.manifest import Damaged, read_sealed, write_sealed
from jcl.data.preparation import Job, died, find_label_values, make_recipe, prepare_case
from jcl.data.sources import files_of
from jcl.data.store import CASES, MANIFEST, PLAN, CaseRecord, Refused, Store, write_manifest
from jcl.errors import DataError, UsageError
from jcl.spread import InProcesses, OnRay, Spread

__all__ = ["prepare", "summary"]

LOCK = ".lock"

MULTIPLE = 16
"""The largest slice is rounded up to a multiple of it, which the networks' four poolings ask for."""

BYTES_A_WORKER = 20 << 20
"""Twice what one process prepares while another starts, so that each pays for its start."""

PLAIN_SECONDS = 30.0
"""Seconds between two lines of progress where there is no terminal to draw a bar on."""

Progress = Callable[[int, int, str], None]


def prepare(config: PrepareConfig, *, progress: Progress | None = None) -> Store:
    """Turn a folder of scans into a store; run again, it does only what is missing.

    A case that cannot be used is set aside with its reason, unless `config.strict`. What was done
    is told on stderr.

    Args:
        progress: called with cases done, cases in all and the name of the last; else a bar is drawn.

    Raises:
        DataError: there are no cases, none can be used, a file cannot be written, or with `strict`
            a case cannot be used.
        UsageError: `out` is no store, or one of other options or sources; or a setting is wrong.
    """
    if getattr(multiprocessing.process.current_process(), "_inheriting", False):
        raise UsageError('a script that calls prepare needs `if __name__ == "__main__":` around its calls')
    if config.workers is not None and config.workers < 1:
        raise UsageError(f"workers is {config.workers}; at least 1 is needed")
    if config.ray is not None:  # other machines work in other folders
        config = dataclasses.replace(config, source=config.source.absolute(), out=config.out.absolute())
    spec = resolve(
        load_spec(config.dataset), config.source,
        spacing=config.spacing, size=config.size, labels=config.labels, patient=config.patient,
        channels=config.channels, fit=config.fit,
    )  # fmt: skip
    cases = find_cases(config.source, spec)
    _check_out(config.out)
    with _locked(config.out), _spread(config, cases) as spread:
        _check_out(config.out)
        recipe = make_recipe(spec, _labels(spec, cases, spread), size_given=config.size is not None)
        _check_plan(config.out, recipe, {files.case for files in cases})
        jobs = [Job(config.source, config.out, files, recipe) for files in cases]
        results = _prepare_all(jobs, spread, strict=config.strict, progress=progress)
        store = _finish(config.out, recipe, results)
    print(*summary(store), sep="\n", file=sys.stderr)
    return store


def summary(store: Store) -> list[str]:
    """Lines that say what is in a store and what was set aside."""
    slices = sum(record.slices for record in store.cases)
    labelled = sum(record.labelled for record in store.cases)
    patients = len({record.patient for record in store.cases})
    lines = [
        f"{store.path}: {len(store.cases)} cases ({labelled} with labels) of {patients} patients, "
        f"{slices} slices of {store.size[0]} x {store.size[1]} pixels"
    ]
    asked = store.recipe["size"]
    if asked is not None and asked < max(store.size):
        lines.append(f"the data set's size of {asked} was too small for some slices, and grew: nothing is cut off")
    if store.refused:
        lines.append(f"{len(store.refused)} set aside:")
        lines += [f"  {entry.reason}" for entry in store.refused]
    return lines


@contextlib.contextmanager
def _spread(config: PrepareConfig, cases: Sequence[CaseSource]) -> Generator[Spread]:
    """Where the cases are worked on."""
    if config.ray is None:
        yield InProcesses(config.workers or _useful_workers(cases), [prepare_case.__module__])
        return
    from jcl.cluster import joined

    with joined(config.ray) as ray:
        yield OnRay(ray, (config.source, config.out), config.workers)


def _useful_workers(cases: Sequence[CaseSource]) -> int:
    """One a core, but no more than pay for their start; the bytes of a store do not depend on it."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, 1 + sum(map(_size, cases)) // BYTES_A_WORKER)


def _size(case: CaseSource) -> int:
    """Bytes of its files."""
    sources = [source for source in (*case.images, case.label) if source is not None]
    return sum(path.stat().st_size for source in sources for path in files_of(source) if path.is_file())


def _check_out(out: Path) -> None:
    """Raises UsageError when `out` is there and is no store."""
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out}: is a file; choose another --out")
    if not out.is_dir() or any((out / name).is_file() for name in (PLAN, MANIFEST)):
        return
    if any(not path.name.startswith((LOCK, f".{PLAN}")) for path in out.iterdir()):
        raise UsageError(f"{out}: is a folder with other things in it; choose another --out")


@contextlib.contextmanager
def _locked(out: Path) -> Generator[None]:
    """Hold the store's lock; another process that prepares it waits here. A folder left empty is removed."""
    import filelock  # not above: the worker processes import this module, and lock nothing

    lock = filelock.FileLock(out / LOCK)
    try:
        out.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=0)
        except filelock.Timeout:
            print(f"{out}: another process prepares this store; waiting for it", file=sys.stderr)
            lock.acquire()
    except OSError as error:
        raise DataError(f"{out}: cannot be written ({error.strerror or error}); choose another --out") from error
    try:
        for name in (PLAN, MANIFEST):  # what a killed run had begun to write: it was alone under this lock
            for leftover in out.glob(f".{name}.*"):
                leftover.unlink(missing_ok=True)
        yield
    finally:
        empty = not any(path.name != LOCK for path in out.iterdir())
        with contextlib.suppress(OSError):
            if empty:
                (out / LOCK).unlink()
                out.rmdir()
        lock.release()


def _labels(spec: DatasetSpec, cases: Sequence[CaseSource], spread: Spread) -> dict[int, str]:
    """Names of the label values: the data set's, or each value named by itself when it has none."""
    labelled = [files for files in cases if files.label]
    if spec.labels or not labelled:
        return spec.labels
    values: set[int] = {0}
    for _, found in spread.run(find_label_values, labelled, lambda files: ()):
        values.update(found)
    if len(values) > 256:
        raise DataError(f"{labelled[0].label}: {len(values) - 1} label values; name those wanted with --labels")
    return {value: str(value) for value in sorted(values - {0})}


def _check_plan(out: Path, recipe: dict[str, Any], cases: set[str]) -> None:
    """Compare with what the store was begun with, or write that down; clear what a killed run left.

    Raises:
        DataError: the plan is damaged, missing or of another format version.
        UsageError: the options differ, or the store has cases that the source has not.
    """
    folder = out / CASES
    kept = sorted(path.name for path in folder.iterdir() if not path.name.startswith(".")) if folder.is_dir() else []
    old: list[dict[str, Any]] = []
    for name in (PLAN, MANIFEST):
        with contextlib.suppress(Damaged):
            old += [read_sealed(out / name)["recipe"]] if (out / name).is_file() else []
    if kept and not old:
        raise DataError(f"{out}: has cases, but what they were made with is lost; prepare into another folder")
    for there in old:
        _compare(out, there, recipe)
    if extra := [name for name in kept if name not in cases]:
        raise UsageError(f"{out}: has the case {extra[0]}, which the source has not; choose another --out")
    write_sealed(out / PLAN, {"recipe": recipe})
    folder.mkdir(exist_ok=True)
    for path in folder.glob(".*"):
        shutil.rmtree(path, ignore_errors=True)


def _compare(out: Path, old: dict[str, Any], new: dict[str, Any]) -> None:
    changed = [f"{key}: {old.get(key)!r} there, {new[key]!r} now" for key in new if old.get(key) != new[key]]
    if changed:
        raise UsageError(f"{out}: made with other options ({'; '.join(changed)}); choose another --out")


def _prepare_all(
    jobs: Sequence[Job], spread: Spread, *, strict: bool, progress: Progress | None
) -> list[CaseRecord | Refused]:
    """Results in the order of the jobs.

    Raises:
        DataError: with `strict`, the reason of the first case that cannot be used.
    """
    results: dict[str, CaseRecord | Refused] = {}
    failed = "the process that read it died; the file is damaged, or memory ran out (take fewer --workers)"
    with contextlib.ExitStack() as stack:
        show = progress or stack.enter_context(_bar(len(jobs)))
        for job, result in spread.run(prepare_case, _in_turn(jobs, spread), lambda job: died(job, failed)):
            if strict and isinstance(result, Refused):
                raise DataError(result.reason)
            results[job.files.case] = result
            show(len(results), len(jobs), job.files.case)
    return [results[job.files.case] for job in jobs]


def _in_turn(jobs: Sequence[Job], spread: Spread) -> Sequence[Job]:
    """Where several processes work, the largest cases first, so that none is left with one of them at the end."""
    if isinstance(spread, InProcesses) and spread.workers == 1:
        return jobs
    return sorted(jobs, key=lambda job: _size(job.files), reverse=True)


@contextlib.contextmanager
def _bar(total: int) -> Generator[Progress]:
    """A bar with the time left on a terminal; elsewhere a line now and then."""
    from jcl.progress import progress_bar  # not above: the worker processes import this module, and draw no bars

    told = time.monotonic()
    with progress_bar("prepare") as bar:
        task = bar.add_task("prepare", total=total, note="")

        def show(done: int, total: int, case: str) -> None:
            nonlocal told
            bar.update(task, completed=done, note=case)
            if bar.disable and time.monotonic() - told > PLAIN_SECONDS:
                told = time.monotonic()
                print(f"prepare: {done} of {total} cases", file=sys.stderr, flush=True)

        yield show


def _finish(out: Path, recipe: dict[str, Any], results: Sequence[CaseRecord | Refused]) -> Store:
    """Write the manifest, or clear all away when there is no good case.

    Raises:
        DataError: there is no good case.
    """
    cases = [result for result in results if isinstance(result, CaseRecord)]
    refused = [result for result in results if isinstance(result, Refused)]
    if not cases:
        for name in (MANIFEST, PLAN):
            (out / name).unlink(missing_ok=True)
        shutil.rmtree(out / CASES, ignore_errors=True)
        raise DataError(f"{out}: none of the {len(results)} cases can be used; the first: {refused[0].reason}")
    height, width = (max(record.shape[axis] for record in cases) for axis in (0, 1))
    size = recipe["size"] or 0
    padded = [max(size, _rounded(height)), max(size, _rounded(width))]
    if recipe["size_fixed"]:
        padded = [size, size]
    write_manifest(out, {**recipe, "padded": padded}, cases, refused)
    return Store.open(out)


def _rounded(pixels: int) -> int:
    return math.ceil(pixels / MULTIPLE) * MULTIPLE
