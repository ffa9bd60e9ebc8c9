"""Verifying: is a store or a run whole, and is what it holds what one thinks it holds?"""

import csv
import io
import sys
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from jcl.checkpoint import write_atomically, write_json
from jcl.config import VerifyConfig
from jcl.data.census import CaseCensus, count_case
from jcl.data.inspection import StoreCheck, check_folder, check_source, inspect_census, inspect_manifest
from jcl.data.store import MANIFEST, PLAN, Store
from jcl.errors import DataError, UsageError
from jcl.findings import Finding, errors_of
from jcl.progress import progress_bar
from jcl.runcheck import RunCheck, check_run, is_run

__all__ = ["verify"]

PLAIN_SECONDS = 30.0
"""Seconds between two lines of progress where there is no terminal to draw a bar on."""


def verify(config: VerifyConfig) -> StoreCheck | RunCheck:
    """Read every byte of a store, or all weights of a run, and look for what would spoil results.

    Nothing is written below `config.path`. With `config.out`, `findings.json` and, of a store, `cases.csv` are
    written there; the command line adds the contact sheet.

    Raises:
        DataError: there is no store or run, it is unfinished or its manifest damaged, or `out` cannot be written.
        UsageError: `out` is in the store or run, `source` is no folder or the path is a run's.
    """
    _check_settings(config)
    result = _verify_run(config) if is_run(config.path) else _verify_store(config)
    if config.out is not None:
        if isinstance(result, StoreCheck):
            _write_cases(config.out / "cases.csv", result)
        _write_findings(config.out / "findings.json", config.path, result)
    return result


def _check_settings(config: VerifyConfig) -> None:
    """Better to fail now than when all is read."""
    if not config.path.is_dir():
        raise DataError(f"{config.path}: no folder; name a store or a run")
    run = is_run(config.path)
    if not run and not any((config.path / name).is_file() for name in (MANIFEST, PLAN)):
        raise DataError(f"{config.path}: neither a store (no {MANIFEST}) nor a run (no run.json)")
    if config.source is not None and run:
        raise UsageError(f"--source is for stores; {config.path} is a run")
    if config.source is not None and not config.source.is_dir():
        raise UsageError(f"--source {config.source}: no folder; name the one that the store was prepared from")
    if config.out is None:
        return
    if config.out.resolve().is_relative_to(config.path.resolve()):
        raise UsageError(f"--out {config.out}: is in what is verified, where nothing is written; choose another folder")
    try:
        config.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"{config.out}: cannot be written ({error.strerror}); choose another --out") from error


def _verify_store(config: VerifyConfig) -> StoreCheck:
    with closing(Store.open(config.path)) as store, _progress("verify", len(store.cases)) as advance:
        findings = inspect_manifest(store)
        unusable = {case for finding in errors_of(findings) if finding.kind == "geometry" for case in finding.cases}
        census: list[CaseCensus] = []
        for number, record in enumerate(store.cases):
            findings += check_folder(store, record)
            census.append(CaseCensus(record) if record.case in unusable else count_case(store, number))
            if config.source is not None:
                findings += check_source(record, config.source)
            advance(record.case)
        return StoreCheck(store, census, findings + inspect_census(store, census))


def _verify_run(config: VerifyConfig) -> RunCheck:
    parts = 4 + len(list((config.path / "checkpoints").glob("step-*")))
    with _progress("verify", parts) as advance:
        return check_run(config.path, step=advance)


@contextmanager
def _progress(title: str, total: int) -> Generator[Callable[[str], None]]:
    """A bar with the time left on a terminal; elsewhere a line now and then."""
    told, done = time.monotonic(), 0
    with progress_bar(title) as bar:
        task = bar.add_task(title, total=total, note="")

        def advance(note: str) -> None:
            nonlocal told, done
            done += 1
            bar.update(task, completed=done, note=note)
            if bar.disable and time.monotonic() - told > PLAIN_SECONDS:
                told = time.monotonic()
                print(f"{title}: {done} of {total}", file=sys.stderr, flush=True)

        yield advance


def _write_cases(path: Path, check: StoreCheck) -> None:
    """A row a case; spacing in mm, intensities in the store's units, a column a class for ml, voxels and slices."""
    rows = [_row(check.store, each, check.findings) for each in check.census]
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_atomically(path, text.getvalue().encode("utf-8", "surrogateescape"))


def _row(store: Store, census: CaseCensus, findings: Sequence[Finding]) -> dict[str, Any]:
    record = census.record
    row: dict[str, Any] = {
        "case": record.case,
        "patient": record.patient,
        "slices": record.slices,
        "rows": record.shape[0],
        "columns": record.shape[1],
        **{f"{axis}_spacing": s for axis, s in zip(("slice", "row", "column"), record.spacing, strict=True)},
        "labelled": "yes" if record.labelled else "no",
    }
    for number in range(store.channels):
        suffix = "" if store.channels == 1 else f"_{number + 1}"
        values = asdict(census.channels[number]) if census.channels else {}
        for name in ("mean", "deviation", "lowest", "highest", "at_lowest"):
            row[name + suffix] = f"{values[name]:.6g}" if values else ""
    for number, name in enumerate(store.class_names):
        row[f"{name} ml"] = f"{census.millilitres[number]:.6g}" if census.voxels else ""
        row[f"{name} voxels"] = census.voxels[number] if census.voxels else ""
        row[f"{name} slices"] = census.slices[number] if census.slices else ""
    row["findings"] = "; ".join(sorted({f"{f.level}: {f.kind}" for f in findings if record.case in f.cases}))
    return row


def _write_findings(path: Path, checked: Path, check: StoreCheck | RunCheck) -> None:
    about = (
        {"store": str(checked), "digest": check.store.digest, "cases": len(check.census)}
        if isinstance(check, StoreCheck)
        else {"run": str(checked), "facts": check.facts}
    )
    errors = len(errors_of(check.findings))
    write_json(path, {**about, "errors": errors, "findings": [asdict(finding) for finding in check.findings]})
