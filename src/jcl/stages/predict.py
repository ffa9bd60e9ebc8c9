"""Prediction: new scans in, segmentations with their geometry and format out."""

import sys
from functools import partial
from pathlib import Path

from jcl.config import PredictConfig
from jcl.data.leftout import LeftOut
from jcl.data.notes import noted
from jcl.data.sources import files_of
from jcl.errors import DataError, UsageError
from jcl.files import WriteError, check_apart, real_path, write_error
from jcl.inference.postprocess import Tidied
from jcl.inference.scans import Scan, find_scans
from jcl.inference.segment_scan import BESIDE, Work, begin, make_folders, segment_scan
from jcl.inference.volume_table import write_tables
from jcl.limits import check_numbers
from jcl.locks import locked
from jcl.parallel.progress import Outlay, ProgressBar, at_work
from jcl.stages.watch import watch
from jcl.text import printable

__all__ = ["predict"]


MOST = 3
"""Scans that are named as those with the most doubt."""


def predict(config: PredictConfig) -> list[Path]:
    """Segment a scan, or every scan below a folder; returns the files written, named as the scans are.

    With `config.watch` see `jcl.stages.watch`.

    Each scan is prepared by the settings that the run carries, segmented, and brought back to its own grid and
    orientation; the label values are those of the data set that the run was trained on. Of several runs the scores are
    averaged, on the scan's own grid. A scan that cannot be segmented is skipped, and the rest goes on.

    Raises:
        UsageError: the results would overwrite the scans.
        DataError: nothing to segment, runs that do not agree, a result cannot be written, or (after the rest is done)
            some scan could not be segmented.
    """
    check_numbers(config)
    if config.watch is not None:
        return watch(config)
    assert config.source is not None
    work = begin(config, config.source)
    left_out = LeftOut()
    with at_work("looking for scans"):
        scans = find_scans(work.source, work.preparation, left_out, skip=config.out, wanted=config.series)
    _check_out(config, scans)
    written: list[Path] = []
    failures: list[str] = []
    notes: list[str] = []
    sizes = [scan.size() for scan in scans]
    outlay = Outlay("scans", config.out, lambda share, _: sum(path.stat().st_size for path in written) / share)
    with locked(config.out), ProgressBar("predict", total=len(scans), work=sum(sizes), outlay=outlay) as bar:
        make_folders(config)
        for scan, size in zip(scans, sizes, strict=True):
            try:
                with noted() as found:
                    segment_scan(scan, work, partial(bar.within, note=scan.name, work=size))
                notes += found
                written.append(scan.target(config.out))
            except WriteError:
                raise  # no fault of this scan: the next would fail too
            except DataError as error:
                failures.append(str(error))
            bar.advance(scan.name, size)
        if work.entries:
            write_tables(config.out, work.entries)
    if failures and work.source.is_file():
        raise DataError(failures[0])
    said = (*(f"note: {line}" for line in notes), *_of_second_look(work), *(f"skipped: {line}" for line in failures))
    for line in (*said, *left_out.lines(work.source)):
        print(printable(line), file=sys.stderr)
    if failures:
        raise DataError(f"{len(failures)} of {len(scans)} scans could not be segmented (each is named above)")
    return written


def _of_second_look(work: Work) -> list[str]:
    """Lines on what was tidied, and on which scans to look at first."""
    lines: list[str] = []
    if work.config.postprocess == "auto":
        changed = [each for each in work.tidied.values() if each != Tidied()]
        done = f"in {len(changed)} of {len(work.tidied)} scans {sum(changed, Tidied())}"
        unknown = "nothing done, since no run says that a structure is one piece or has no holes"
        lines.append(f"postprocess: {done if work.rules else unknown}")
    known = sorted((-entry["doubt"], name) for name, entry in work.entries.items() if entry["doubt"] is not None)
    if known:
        lines.append("most doubt: " + ", ".join(f"{name} ({-doubt:.2f})" for doubt, name in known[:MOST]))
    return lines


def _targets(config: PredictConfig, scan: Scan) -> list[Path]:
    """All files that are written of a scan, but for those of DICOM."""
    beside = [config.out / name / f"{scan.name}{end}" for name, end in BESIDE.items() if getattr(config, name)]
    return [scan.target(config.out), *beside]


def _check_out(config: PredictConfig, scans: list[Scan]) -> None:
    """Make the folder for the results, none of which may take the place of a scan."""
    out = config.out
    sources = {real_path(path) for scan in scans for image in scan.images for path in files_of(image)}
    for target in (target for scan in scans for target in _targets(config, scan)):
        if real_path(target) in sources:
            raise UsageError(f"{target}: the result would overwrite this scan; choose another --out")
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise write_error(out, error) from error
    check_apart(out, [scan.target(out).name for scan in scans])
