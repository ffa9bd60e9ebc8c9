"""Segment scans as they arrive in a folder, each once."""

import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from jcl.config import PredictConfig
from jcl.data.leftout import LeftOut
from jcl.data.notes import noted
from jcl.errors import DataError, UsageError
from jcl.files import WriteError, check_apart, real_path
from jcl.inference.arrivals import Arrivals, Ledger
from jcl.inference.scans import Scan, find_scans
from jcl.inference.segment_scan import Work, begin, make_folders, segment_scan
from jcl.inference.volume_table import write_tables
from jcl.locks import locked
from jcl.signals import StopRequest
from jcl.text import printable

__all__ = ["watch"]

POLL_SECONDS = 1.0
"""Between two looks at a watched folder."""


def _pause() -> bool:
    """Wait a little before the next look."""
    time.sleep(POLL_SECONDS)
    return True


def watch(config: PredictConfig, *, idle: Callable[[], bool] = _pause) -> list[Path]:
    """Segment each scan that arrives in `config.watch` once; returns the files written.

    A scan is begun when none of its files has changed for `config.settle` seconds. What is done, and why a scan failed,
    stands in `watched.json` in the folder of the results; neither is tried again unless the scan's files change. A
    first signal ends it after the scan that is at work.

    Args:
        config: settings; a `source` is one more run.
        idle: called when there is nothing to do; it ends where that is False.

    Raises:
        UsageError: results in the watched folder itself.
        DataError: no such folder, runs that do not agree, a record that is damaged, or a result that cannot be written.
    """
    assert config.watch is not None
    folder = config.watch
    if config.source is not None:
        config = replace(config, run=(*config.runs, config.source), source=None)
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; check its name")
    if real_path(config.out) == real_path(folder):
        raise UsageError(f"{config.out}: scans arrive there; choose another --out, which may be a folder in it")
    work = begin(config, folder)
    arrivals, written = Arrivals(folder, config.out, config.settle), list[Path]()
    with locked(config.out), StopRequest() as stop:
        make_folders(config)
        ledger, told = Ledger(config.out), set[str]()
        _tell(f"watching {folder}; {len(ledger.scans)} scans of it were done before")
        while not stop.asked:
            for scan in _arrived(work, arrivals, ledger, told) if arrivals.look() else ():
                if _take(scan, work, arrivals, ledger):
                    written.append(scan.target(config.out))
                if stop.asked:
                    break
            if stop.asked or not idle():
                break
    return written


def _arrived(work: Work, arrivals: Arrivals, ledger: Ledger, told: set[str]) -> list[Scan]:
    """The scans that have come to rest and were not done; what is wrong with the folder is told once."""
    try:
        skip, wanted = work.config.out, work.config.series
        scans: list[Scan] = []
        if arrivals.some_rest():
            scans = find_scans(work.source, work.preparation, LeftOut(), skip=skip, wanted=wanted)
        check_apart(work.config.out, [scan.target(work.config.out).name for scan in scans])
        return [scan for scan in scans if arrivals.rests(scan) and not ledger.is_done(scan, arrivals)]
    except DataError as error:
        if str(error) not in told:
            told.add(str(error))
            _tell(f"waiting: {error}")
        return []


def _take(scan: Scan, work: Work, arrivals: Arrivals, ledger: Ledger) -> bool:
    """Segment a scan and write down what became of it; False where it failed, or changed meanwhile and comes again."""
    reason = None
    try:
        with noted() as notes:
            segment_scan(scan, work, lambda share: None)
        for line in notes:
            _tell(f"note: {line}")
    except WriteError:
        raise  # no fault of this scan: the next would fail too
    except DataError as error:
        reason = str(error)
    if not arrivals.is_as_seen(scan):
        return False
    if work.entries:
        write_tables(work.config.out, work.entries)
        work.entries.clear()
    ledger.note(scan, arrivals, reason)
    _tell(f"segmented: {scan.name}" if reason is None else f"failed: {reason}")
    return reason is None


def _tell(line: str) -> None:
    print(printable(line), file=sys.stderr, flush=True)
