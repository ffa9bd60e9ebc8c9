"""What `jcl verify` found, on the terminal."""

import math
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.table import Table

from jcl.checks.census import CaseCensus
from jcl.checks.findings import ERROR, errors_of
from jcl.checks.run_checks import RunCheck
from jcl.checks.store_checks import StoreCheck
from jcl.cli.tables import print_table
from jcl.data.suited import suited
from jcl.errors import DataError
from jcl.parallel.progress import at_work
from jcl.report.figures.contact_sheet import draw_contact_sheets
from jcl.text import printable

__all__ = ["conclude", "print_verification"]

MOST_ROWS = 30
"""Cases listed one by one; of more, only the extremes are shown."""


def conclude(check: StoreCheck | RunCheck, out: Path | None) -> None:
    """Print what was found, draw the contact sheet of a store into `out` if there is one, and fail if there are errors.

    Raises:
        DataError: something found is an error; the lines before it name each.
    """
    print_verification(check)
    if out is not None and isinstance(check, StoreCheck):
        marks = {
            case: each.level for each in sorted(check.findings, key=lambda f: f.level == ERROR) for case in each.cases
        }
        shown = [each.shown for each in check.census]
        with at_work("draw the contact sheet"):
            pages = draw_contact_sheets(out, check.store, shown, marks=marks)
        print(
            printable(f"{out}: contact sheet ({len(pages)} page{'s' * (len(pages) > 1)}), cases.csv and findings.json")
        )
    elif out is not None:
        print(printable(f"{out}: findings.json"))
    errors = errors_of(check.findings)
    if errors:
        path = check.store.path if isinstance(check, StoreCheck) else check.path
        raise DataError(f"{path}: {len(errors)} error{'s' * (len(errors) > 1)}, named above")


def print_verification(check: StoreCheck | RunCheck) -> None:
    """Print tables of what was counted, and a line for each finding, errors last."""
    if isinstance(check, RunCheck):
        _print_table(f"{check.path}", ("part", "state"), list(check.facts.items()), right=False)
    else:
        _print_store(check)
    for finding in sorted(check.findings, key=lambda each: each.level, reverse=True):
        print(printable(f"{finding.level}: {finding.text}"))
    if not check.findings:
        print("nothing to remark")


def _print_store(check: StoreCheck) -> None:
    store, census = check.store, check.census
    whole = [each for each in census if not each.damage]
    patients = len({record.patient for record in store.cases})
    slices = sum(record.slices for record in store.cases)
    print(
        printable(
            f"{store.path}: {len(census)} cases of {patients} patients, {slices} slices of {store.size[0]} x "
            f"{store.size[1]} pixels, {len(whole)} cases whole, "
            f"{len(store.skipped)} skipped, digest {store.digest[:12]}"
        )
    )
    if whole:
        print(str(suited([each.record for each in whole])))
    labelled = [each for each in census if each.voxels]
    if labelled:
        heads = ("class", "cases", "slices", "voxels", "% of voxels", "ml a case", "from", "to")
        rows = [_class_row(number, name, labelled) for number, name in enumerate(store.class_names)]
        if store.ignores:
            rows.append(_ignored_row(labelled))
        _print_table(f"Classes in the {len(labelled)} cases with labels", heads, rows)
    counted = [each for each in census if each.channels]
    if len(counted) <= MOST_ROWS:
        _print_table("Cases", *_case_rows(store.class_names, counted))
    elif counted:
        rows = [_extremes(name, value, counted) for name, value in _measures(counted).items()]
        _print_table(f"Over the {len(counted)} cases", ("", "lowest", "case", "median", "highest", "case"), rows)


def _class_row(number: int, name: str, labelled: Sequence[CaseCensus]) -> tuple[str, ...]:
    having = [each for each in labelled if each.voxels[number]]
    voxels = sum(each.voxels[number] for each in having)
    pixels = sum(each.record.slices * each.record.shape[0] * each.record.shape[1] for each in labelled)
    volumes = [each.millilitres[number] for each in having]
    spread = ("–", "–", "–")
    if volumes:
        deviation = f" ± {statistics.stdev(volumes):.3g}" if len(volumes) > 1 else ""
        spread = (f"{statistics.fmean(volumes):.4g}{deviation}", f"{min(volumes):.4g}", f"{max(volumes):.4g}")
    slices = sum(each.slices[number] for each in having)
    return (name, str(len(having)), str(slices), f"{voxels:,}", f"{100 * voxels / pixels:.3f}", *spread)


def _ignored_row(labelled: Sequence[CaseCensus]) -> tuple[str, ...]:
    """What is left out of loss and scores."""
    having = [each for each in labelled if each.ignored]
    voxels = sum(each.ignored for each in having)
    pixels = sum(each.record.slices * each.record.shape[0] * each.record.shape[1] for each in labelled)
    slices = sum(each.ignored_slices for each in having)
    return ("(ignored)", str(len(having)), str(slices), f"{voxels:,}", f"{100 * voxels / pixels:.3f}", "–", "–", "–")


def _case_rows(classes: Sequence[str], census: Sequence[CaseCensus]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Heads and a row per case; the patient only where it is not the case's name."""
    several = any(each.record.case != each.record.patient for each in census)
    heads = ("slices", "pixels", "spacing mm", "mean", "deviation", "range", "% at lowest")
    heads = ("case", *(("patient",) if several else ()), *heads, *(f"{name} ml" for name in classes))
    rows: list[tuple[str, ...]] = []
    for each in census:
        record, channel = each.record, each.channels[0]
        names = (record.case, record.patient) if several else (record.case,)
        shape, spacing = " x ".join(map(str, record.shape)), " x ".join(f"{s:.4g}" for s in record.spacing)
        intensities = (
            f"{channel.mean:.3f}",
            f"{channel.deviation:.3f}",
            f"{channel.lowest:.3g} to {channel.highest:.3g}",
        )
        volumes = tuple(f"{value:.4g}" for value in each.millilitres) or ("–",) * len(classes)
        rows.append(
            (*names, str(record.slices), shape, spacing, *intensities, f"{100 * channel.at_lowest:.1f}", *volumes)
        )
    return heads, rows


def _measures(census: Sequence[CaseCensus]) -> dict[str, Callable[[CaseCensus], float]]:
    """What is shown of each case; intensities of the first channel, in the store's units."""
    return {
        "slices": lambda each: each.record.slices,
        "rows": lambda each: each.record.shape[0],
        "columns": lambda each: each.record.shape[1],
        "slice spacing mm": lambda each: each.record.spacing[0],
        "row spacing mm": lambda each: each.record.spacing[1],
        "column spacing mm": lambda each: each.record.spacing[2],
        "mean": lambda each: each.channels[0].mean,
        "deviation": lambda each: each.channels[0].deviation,
        "lowest": lambda each: each.channels[0].lowest,
        "highest": lambda each: each.channels[0].highest,
        "% at lowest": lambda each: 100 * each.channels[0].at_lowest,
    }


def _extremes(name: str, value: Callable[[CaseCensus], float], census: Sequence[CaseCensus]) -> tuple[str, ...]:
    low, high = min(census, key=value), max(census, key=value)
    middle = statistics.median(value(each) for each in census)
    if math.isclose(value(low), value(high), rel_tol=1e-3):
        return (name, f"{middle:.4g}", "all", f"{middle:.4g}", f"{middle:.4g}", "all")
    return (
        name, f"{value(low):.4g}", low.record.case, f"{middle:.4g}", f"{value(high):.4g}", high.record.case,
    )  # fmt: skip


def _print_table(title: str, heads: Sequence[str], rows: Sequence[Sequence[Any]], *, right: bool = True) -> None:
    """A table whose first column is text, and the others numbers if `right`."""
    table = Table(title=escape(printable(title)), title_justify="left")
    for number, head in enumerate(heads):
        table.add_column(escape(printable(head)), justify="right" if right and number else "left", overflow="fold")
    for row in rows:
        table.add_row(*(escape(printable(str(cell))) for cell in row))
    print_table(table)
