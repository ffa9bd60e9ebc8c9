"""Preparing: a folder of scans becomes a verified store of slices (paper 4.1)."""

import contextlib
import dataclasses
import math
import multiprocessing.process
import shutil
import sys
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import Any

import SimpleITK as sitk

from jcl.checks.store_summary import summary
from jcl.config import PrepareConfig
from jcl.data.cases import CaseSource, find_cases
from jcl.data.datasets import MAX_CLASSES, DatasetSpec, load_spec, resolve
from jcl.data.folders import folded_words
from jcl.data.imagefile.budget import scan_memory
from jcl.data.leftout import LeftOut
from jcl.data.manifest import read_sealed, write_sealed
from jcl.data.preparation import Job, died, find_label_values, make_preparation, prepare_case
from jcl.data.sources import Structures, files_of
from jcl.data.store import CASES, MANIFEST, PLAN, CaseRecord, SkippedCase, Store
from jcl.data.store_writing import write_manifest
from jcl.errors import DataError, UsageError
from jcl.files import DamagedError
from jcl.limits import check_numbers
from jcl.locks import is_lock, locked
from jcl.parallel.allocator import keep_memory
from jcl.parallel.machine import cores, folder_size
from jcl.parallel.pool import InProcessPool, Pool, ProcessPool, run_all
from jcl.parallel.progress import Outlay, ProgressBar, at_work
from jcl.text import printable

__all__ = ["prepare"]

MULTIPLE = 16
"""The largest slice is rounded up to a multiple of it, which the networks' four poolings ask for."""

BYTES_A_WORKER = 20 << 20
"""Twice what one process prepares while another starts, so that each pays for its start."""

Progress = Callable[[int, int, str], None]


def prepare(config: PrepareConfig, *, progress: Progress | None = None) -> Store:
    """Turn a folder of scans into a store; run again, it does only what is missing.

    A case that cannot be used is skipped with its reason, unless `config.strict`. What was done
    is printed on stderr.

    Args:
        progress: called with cases done, cases in all and the name of the last; else a bar is drawn.

    Raises:
        DataError: there are no cases, none can be used, a file cannot be written, or with `strict`
            a case cannot be used.
        UsageError: `out` is not a store, or one of other options or sources; or a setting is wrong.
    """
    if getattr(multiprocessing.process.current_process(), "_inheriting", False):
        raise UsageError('a script that calls prepare needs `if __name__ == "__main__":` around its calls')
    check_numbers(config)
    if config.workers is not None and config.workers < 1:
        raise UsageError(f"workers is {config.workers}; at least 1 is needed")
    scan_memory()  # what is wrong with it is said before a folder is made
    if config.ray is not None:  # other machines work in other folders
        config = dataclasses.replace(config, source=config.source.absolute(), out=config.out.absolute())
    spec = resolve(
        load_spec(config.dataset), config.source,
        spacing=config.spacing, size=config.size, labels=config.labels, patient=config.patient,
        channels=config.channels, fit=config.fit, grey=config.grey, ignore=config.ignore, sparse=config.sparse,
        spacing_through=config.spacing_through, series=config.series, window=config.window,
    )  # fmt: skip
    left_out = LeftOut()
    with at_work("looking for scans"):
        cases = find_cases(config.source, spec, left_out=left_out)
    _check_out(config.out)
    with _locked(config.out), _pool(config, cases) as pool:
        _check_out(config.out)
        preparation = make_preparation(spec, _labels(spec, cases, pool), size_given=config.size is not None)
        _check_plan(config.out, preparation, {files.case for files in cases})
        jobs = [Job(config.source, config.out, files, preparation) for files in cases]
        results = _prepare_all(jobs, pool, strict=config.strict, progress=progress)
        store = _finish(config.out, preparation, results)
    for line in (*summary(store), *left_out.lines(config.source)):
        print(line[: len(line) - len(line.lstrip())] + printable(line.lstrip()), file=sys.stderr)
    return store


@contextlib.contextmanager
def _pool(config: PrepareConfig, cases: Sequence[CaseSource]) -> Generator[Pool]:
    """Where the cases are worked on."""
    if config.ray is not None:
        from jcl.parallel.ray import RayPool, joined

        with joined(config.ray) as ray:
            yield RayPool(ray, (config.source, config.out), _set_up_worker, limit=config.workers, queued=True)
    elif (workers := min(config.workers or _useful_workers(cases), len(cases))) == 1:
        yield InProcessPool()
    else:
        with contextlib.closing(ProcessPool([_set_up_worker] * workers, [__name__])) as pool:
            yield pool


def _set_up_worker() -> None:
    """One thread a process."""
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    keep_memory(large=False)  # a volume is handed back, what is worked on in it is not


def _useful_workers(cases: Sequence[CaseSource]) -> int:
    """One a core, but no more than pay for their start; the bytes of a store do not depend on it."""
    return min(cores(), 1 + sum(map(_size, cases)) // BYTES_A_WORKER)


def _size(case: CaseSource) -> int:
    """Bytes of its files."""
    sources = [source for source in (*case.images, case.label) if source is not None]
    return sum(path.stat().st_size for source in sources for path in files_of(source) if path.is_file())


def _check_out(out: Path) -> None:
    """Raises UsageError when `out` is there and is not a store."""
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out}: is a file; choose another --out")
    if not out.is_dir() or any((out / name).is_file() for name in (PLAN, MANIFEST)):
        return
    if any(not (is_lock(path) or path.name.startswith(f".{PLAN}")) for path in out.iterdir()):
        raise UsageError(f"{out}: is a folder with other things in it; choose another --out")


@contextlib.contextmanager
def _locked(out: Path) -> Generator[None]:
    """Hold the store's lock; another process that prepares it waits here. A folder left empty is removed."""
    with locked(out, wait="another process prepares this store; waiting for it"):
        for name in (PLAN, MANIFEST):  # what a killed run had begun to write: it was alone under this lock
            for leftover in out.glob(f".{name}.*"):
                leftover.unlink(missing_ok=True)
        yield


def _labels(spec: DatasetSpec, cases: Sequence[CaseSource], pool: Pool) -> dict[int, str]:
    """Names of the label values: the data set's, or each value named by itself when it has none."""
    labelled = [files for files in cases if files.label]
    if spec.labels or not labelled:
        return spec.labels
    found: set[int | str] = set()
    with ProgressBar("read labels", total=len(labelled)) as bar:
        for files, some in run_all(pool, find_label_values, labelled, lambda files: ()):
            found.update(some)
            bar.advance(files.case)
    if names := [name for name in found if isinstance(name, str)]:
        return _numbered(sorted(names), labelled)
    values = {value for value in found if isinstance(value, int) and value not in (0, spec.ignore)}
    if len(values) > MAX_CLASSES - (spec.ignore is not None or spec.sparse):
        raise DataError(
            f"{labelled[0].label} and the other labels: {len(values)} different values, as scans have; put scans "
            "and labels into the right folders, or name the values wanted with --labels"
        )
    return {value: str(value) for value in sorted(values)}


def _numbered(names: Sequence[str], labelled: Sequence[CaseSource]) -> dict[int, str]:
    """Structures that have names and no numbers, from 1 on in the order of their names, each in its first spelling."""
    if numbers := [files.label for files in labelled if not isinstance(files.label, Structures)]:
        raise DataError(
            f"{numbers[0]}: has numbers as labels, and others have names of structures ({', '.join(names[:5])}); "
            f"say which is which with --labels, as in 1={names[0]}"
        )
    spelled: dict[str, str] = {}
    for name in sorted(names, key=lambda name: (name == name.upper(), name)):  # not in capitals, if it can be
        spelled.setdefault(folded_words(name), name)
    return {number: spelled[key] for number, key in enumerate(sorted(spelled), 1)}


def _check_plan(out: Path, preparation: dict[str, Any], cases: set[str]) -> None:
    """Compare with what the store was begun with, or write that down; clear what a killed run left.

    Raises:
        DataError: the plan is damaged, missing or of another format version.
        UsageError: the options differ, or the store has cases that the source has not.
    """
    folder = out / CASES
    kept = sorted(path.name for path in folder.iterdir() if not path.name.startswith(".")) if folder.is_dir() else []
    old: list[dict[str, Any]] = []
    for name in (PLAN, MANIFEST):
        with contextlib.suppress(DamagedError):
            old += [read_sealed(out / name)["recipe"]] if (out / name).is_file() else []
    if kept and not old:
        raise DataError(f"{out}: has cases, but what they were made with is lost; prepare into another folder")
    for there in old:
        _compare(out, there, preparation)
    if extra := [name for name in kept if name not in cases]:
        raise UsageError(f"{out}: has the case {extra[0]}, which the source has not; choose another --out")
    write_sealed(out / PLAN, {"recipe": preparation})
    folder.mkdir(exist_ok=True)
    for path in folder.glob(".*"):
        shutil.rmtree(path, ignore_errors=True)


def _compare(out: Path, old: dict[str, Any], new: dict[str, Any]) -> None:
    keys = [key for key in {**new, **old} if key != "padded"]
    changed = [f"{key}: {old.get(key)!r} there, {new.get(key)!r} now" for key in keys if old.get(key) != new.get(key)]
    if changed:
        raise UsageError(f"{out}: made with other options ({'; '.join(changed)}); choose another --out")


def _prepare_all(
    jobs: Sequence[Job], pool: Pool, *, strict: bool, progress: Progress | None
) -> list[CaseRecord | SkippedCase]:
    """Results in the order of the jobs.

    Raises:
        DataError: with `strict`, the reason of the first case that cannot be used.
    """
    results: dict[str, CaseRecord | SkippedCase] = {}
    failed = "the process that read it died; the file is damaged, or memory ran out (take fewer --workers)"
    sizes = {job.files.case: 1 + _size(job.files) for job in jobs}
    bar = ProgressBar(
        "prepare", total=len(jobs), count="{done} of {total} cases", work=sum(sizes.values()),
        outlay=Outlay("cases", jobs[0].out, lambda share, _: folder_size(jobs[0].out) / share),
    )  # fmt: skip
    with contextlib.nullcontext() if progress else bar:
        for job, result in run_all(pool, prepare_case, _in_turn(jobs, pool), lambda job: died(job, failed)):
            if strict and isinstance(result, SkippedCase):
                raise DataError(result.reason)
            results[job.files.case] = result
            if progress:
                progress(len(results), len(jobs), job.files.case)
            else:
                bar.advance(job.files.case, sizes[job.files.case])
    return [results[job.files.case] for job in jobs]


def _in_turn(jobs: Sequence[Job], pool: Pool) -> Sequence[Job]:
    """Where several processes work, the largest cases first, so that none is left with one of them at the end."""
    if isinstance(pool, InProcessPool):
        return jobs
    return sorted(jobs, key=lambda job: _size(job.files), reverse=True)


def _finish(out: Path, preparation: dict[str, Any], results: Sequence[CaseRecord | SkippedCase]) -> Store:
    """Write the manifest, or clear all away when there is no good case.

    Raises:
        DataError: there is no good case.
    """
    cases = [result for result in results if isinstance(result, CaseRecord)]
    skipped = [result for result in results if isinstance(result, SkippedCase)]
    if not cases:
        for name in (MANIFEST, PLAN):
            (out / name).unlink(missing_ok=True)
        shutil.rmtree(out / CASES, ignore_errors=True)
        raise DataError(f"{out}: none of the {len(results)} cases can be used; the first: {skipped[0].reason}")
    height, width = (max(record.shape[axis] for record in cases) for axis in (0, 1))
    size = preparation["size"] or 0
    padded = [max(size, _rounded(height)), max(size, _rounded(width))]
    if preparation["size_fixed"]:
        padded = [size, size]
    write_manifest(out, {**preparation, "padded": padded}, cases, skipped)
    return Store.open(out)


def _rounded(pixels: int) -> int:
    return math.ceil(pixels / MULTIPLE) * MULTIPLE
