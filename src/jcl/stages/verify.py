"""Verifying: is a store or a run whole, and is what it holds what one thinks it holds?"""

import csv
import io
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

from jcl.checks.census import CaseCensus, count_case
from jcl.checks.findings import Finding, errors_of
from jcl.checks.run_checks import RunCheck, check_run, is_run
from jcl.checks.store_checks import (
    StoreCheck,
    check_folder,
    check_source,
    check_unused,
    inspect_census,
    inspect_manifest,
)
from jcl.config import VerifyConfig
from jcl.data.store import MANIFEST, PLAN, Store
from jcl.errors import DataError, UsageError
from jcl.files import real_path, write_atomically, write_json
from jcl.parallel.progress import ProgressBar
from jcl.text import csv_cell

__all__ = ["verify"]


def verify(config: VerifyConfig) -> StoreCheck | RunCheck:
    """Read every byte of a store, or all weights of a run, and look for what would spoil results.

    Nothing is written below `config.path`. With `config.out`, `findings.json` and, of a store, `cases.csv` are
    written there; the command line adds the contact sheet.

    Raises:
        DataError: there is no store or run, it is unfinished or its manifest damaged, or `out` cannot be written.
        UsageError: `out` is in the store or run, `source` is not a folder or the path is a run's.
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
        raise DataError(
            f"{config.path}: neither a store (no {MANIFEST}) nor a run (no run.json); make one with `jcl prepare`"
        )
    if config.source is not None and run:
        raise UsageError(f"--source is for stores; {config.path} is a run")
    if config.source is not None and not config.source.is_dir():
        raise UsageError(f"--source {config.source}: no folder; name the one that the store was prepared from")
    if config.out is None:
        return
    if real_path(config.out).is_relative_to(real_path(config.path)):
        raise UsageError(f"--out {config.out}: is in what is verified, where nothing is written; choose another folder")
    try:
        config.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"{config.out}: cannot be written ({error.strerror}); choose another --out") from error


def _verify_store(config: VerifyConfig) -> StoreCheck:
    with closing(Store.open(config.path)) as store, ProgressBar("verify", total=len(store.cases)) as bar:
        findings = inspect_manifest(store)
        unusable = {case for finding in errors_of(findings) if finding.kind == "geometry" for case in finding.cases}
        census: list[CaseCensus] = []
        for number, record in enumerate(store.cases):
            findings += check_folder(store, record)
            census.append(CaseCensus(record) if record.case in unusable else count_case(store, number))
            if config.source is not None:
                findings += check_source(record, config.source)
            bar.advance(record.case)
        if config.source is not None:
            findings += check_unused(store, config.source)
        return StoreCheck(store, census, findings + inspect_census(store, census))


def _verify_run(config: VerifyConfig) -> RunCheck:
    parts = 4 + len(list((config.path / "checkpoints").glob("step-*")))
    with ProgressBar("verify", total=parts) as bar:
        return check_run(config.path, step=bar.advance)


def _write_cases(path: Path, check: StoreCheck) -> None:
    """A row per case; spacing in mm, intensities in the store's units, a column a class for ml, voxels and slices."""
    rows = [_row(check.store, each, check.findings) for each in check.census]
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([map(csv_cell, rows[0]), *(map(csv_cell, row.values()) for row in rows)])
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
    if store.ignores:
        row["ignored voxels"] = census.ignored if census.voxels else ""
        row["ignored slices"] = census.ignored_slices if census.voxels else ""
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
