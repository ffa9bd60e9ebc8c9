"""Prediction: new scans in, segmentations with their geometry and format out."""

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32, Integer, UInt8

from jcl.config import PredictConfig
from jcl.data.geometry import Geometry
from jcl.data.labelmaps import refuse_label_map
from jcl.data.leftout import LeftOut
from jcl.data.notes import noted
from jcl.data.sources import SliceFiles, files_of
from jcl.data.volumes import read_image, write_label, write_map
from jcl.distributed.device import resolve_device, resolve_precision
from jcl.errors import DataError, UsageError
from jcl.files import WriteError, check_apart, clear_left, real_path, write_atomically, write_error
from jcl.inference.arrivals import Arrivals, Ledger
from jcl.inference.ensemble import Group, load_members, make_groups, parts_of, slice_scores
from jcl.inference.postprocess import Rules, Tidied, postprocess, rules_of
from jcl.inference.predictor import class_values, segment_parts
from jcl.inference.scans import Scan, find_scans
from jcl.inference.second_look import Looked, look
from jcl.inference.segmenter import load_trained
from jcl.inference.volume_table import entry_of, write_tables
from jcl.limits import check_numbers
from jcl.locks import locked
from jcl.parallel.progress import Outlay, ProgressBar, at_work
from jcl.signals import StopRequest
from jcl.text import printable

BESIDE = {"probabilities": ".nii.gz", "doubt": ".nii.gz", "overview": ".png"}
"""Settings that ask for a file of each scan, in a folder of that name, and how the names of these end."""

MOST = 3
"""Scans that are named as those with the most doubt."""


POLL_SECONDS = 1.0
"""Between two looks at a watched folder."""


def _pause() -> bool:
    """Wait a little before the next look."""
    time.sleep(POLL_SECONDS)
    return True


@dataclass(frozen=True)
class _Work:
    """What is the same for all scans, and what comes to light of each: what was tidied, and lines of the table."""

    config: PredictConfig
    source: Path
    groups: Sequence[Group]
    preparation: dict[str, Any]
    rules: Rules
    device: torch.device
    precision: torch.dtype
    tidied: dict[str, Tidied] = field(default_factory=dict[str, Tidied])
    entries: dict[str, dict[str, Any]] = field(default_factory=dict[str, dict[str, Any]])

    @property
    def counts(self) -> bool:
        """Whether the table of volumes is wanted."""
        return self.config.volumes or self.config.doubt


def predict(config: PredictConfig) -> list[Path]:
    """Segment a scan, or every scan below a folder; returns the files written, named as the scans are.

    With `config.watch` see `watch`.

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
    work = _begin(config, config.source)
    left_out = LeftOut()
    with at_work("looking for scans"):
        scans = find_scans(work.source, work.preparation, left_out, skip=config.out)
    _check_out(config, scans)
    written: list[Path] = []
    failures: list[str] = []
    notes: list[str] = []
    sizes = [scan.size() for scan in scans]
    outlay = Outlay("scans", config.out, lambda share, _: sum(path.stat().st_size for path in written) / share)
    with locked(config.out), ProgressBar("predict", total=len(scans), work=sum(sizes), outlay=outlay) as bar:
        _make_folders(config)
        for scan, size in zip(scans, sizes, strict=True):
            try:
                with noted() as found:
                    _segment(scan, work, partial(bar.within, note=scan.name, work=size))
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
    work = _begin(config, folder)
    arrivals, written = Arrivals(folder, config.out, config.settle), list[Path]()
    with locked(config.out), StopRequest() as stop:
        _make_folders(config)
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


def _arrived(work: _Work, arrivals: Arrivals, ledger: Ledger, told: set[str]) -> list[Scan]:
    """The scans that have come to rest and were not done; what is wrong with the folder is told once."""
    try:
        scans = (
            find_scans(work.source, work.preparation, LeftOut(), skip=work.config.out) if arrivals.some_rest() else []
        )
        check_apart(work.config.out, [scan.target(work.config.out).name for scan in scans])
        return [scan for scan in scans if arrivals.rests(scan) and not ledger.is_done(scan, arrivals)]
    except DataError as error:
        if str(error) not in told:
            told.add(str(error))
            _tell(f"waiting: {error}")
        return []


def _take(scan: Scan, work: _Work, arrivals: Arrivals, ledger: Ledger) -> bool:
    """Segment a scan and write down what became of it; False where it failed, or changed meanwhile and comes again."""
    reason = None
    try:
        with noted() as notes:
            _segment(scan, work, lambda share: None)
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


def _begin(config: PredictConfig, source: Path) -> _Work:
    members = load_members(config.runs, partial(load_trained, trust_code=config.trust_code))
    device = resolve_device(config.devices)
    precision = resolve_precision(config.precision, device)
    groups = make_groups(members, device, precision, tta=config.tta, mirror=config.mirror)
    rules = rules_of([member.info for member in members]) if config.postprocess == "auto" else Rules()
    return _Work(config, source, groups, members[0].preparation, rules, device, precision)


def _of_second_look(work: _Work) -> list[str]:
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


def _make_folders(config: PredictConfig) -> None:
    """Make the folders beside the results, without what a killed process left in them."""
    for folder in (config.out / name for name in BESIDE if getattr(config, name)):
        try:
            folder.mkdir(exist_ok=True)
            clear_left(folder)
        except OSError as error:
            raise write_error(folder, error) from error


def _segment(scan: Scan, work: _Work, within: Callable[[float], None]) -> None:
    """Segment one scan and write the result; `within` is called with the share that is done."""
    if scan.problem:
        raise DataError(scan.problem)
    config, preparation = work.config, work.preparation
    volume = read_image(scan.images, channels=preparation["channels"])
    if scan.guessed and len(scan.images) == 1:
        refuse_label_map(scan.images[0], volume, work.source)
    geometry = volume.geometry
    image = volume.array[0].copy() if config.overview else None
    parts = parts_of(work.groups, volume, config.batch_size)
    del volume  # from here on only `parts` has it, and drops it at its end
    how: dict[str, Any] = {"batch_size": config.batch_size, "device": work.device, "precision": work.precision}
    looked = None
    try:
        if len(parts) == 1 and not (work.counts or config.probabilities):
            (group,) = work.groups
            classes = segment_parts(group.network, parts[0], group.preparation, geometry.shape, **how, within=within)
        else:
            looked = look(
                slice_scores(work.groups, parts, geometry.shape[1:], **how),
                geometry.shape, len(preparation["classes"]) + 1,
                doubt=config.doubt, probabilities=config.probabilities, within=within,
            )  # fmt: skip
            classes = looked.classes
    except DataError as error:  # of what the network computes, or of how much memory the scan takes
        raise DataError(f"{scan.images[0]}: {error}") from error
    if config.postprocess == "auto":
        work.tidied[scan.name] = postprocess(classes, work.rules)
    _write_beside(scan, work, geometry, classes, looked, image)
    write_label(scan.target(config.out), class_values(preparation)[classes], geometry)
    if isinstance(scan.images[0], SliceFiles):
        _write_dicom(scan.name, geometry.turn_back(classes), scan.images[0].files, preparation["classes"], config)


def _write_beside(
    scan: Scan,
    work: _Work,
    geometry: Geometry,
    classes: UInt8[np.ndarray, "d h w"],
    looked: Looked | None,
    image: Float32[np.ndarray, "d h w"] | None,
) -> None:
    """Write what is asked for besides the segmentation, and keep the line of the table."""
    config, names = work.config, work.preparation["classes"]
    for what in ("probabilities", "doubt"):
        values = getattr(looked, what, None)
        if values is not None:
            write_map(config.out / what / f"{scan.name}{BESIDE[what]}", values, geometry)
    if image is not None:
        _write_overview(scan.name, config.out, geometry, classes, names, image)
    if looked is not None and work.counts:
        work.entries[scan.name] = entry_of(scan.target(config.out).name, classes, geometry, names, looked.doubts)


def _write_overview(
    name: str,
    out: Path,
    geometry: Geometry,
    classes: UInt8[np.ndarray, "d h w"],
    names: Sequence[str],
    image: Float32[np.ndarray, "d h w"],
) -> None:
    from jcl.inference.overview import draw_overview

    counts = np.bincount(classes.reshape(-1), minlength=len(names) + 1)[1:].tolist()
    voxel = np.prod(geometry.spacing) / 1000
    sizes = [f"{count} pixels" if geometry.picture else f"{count * voxel:.1f} ml" for count in counts]
    picture = draw_overview(image, classes, geometry.turned_spacing, names, sizes, name)
    write_atomically(out / "overview" / f"{name}{BESIDE['overview']}", picture)


def _write_dicom(
    name: str,
    classes: Integer[np.ndarray, "z y x"],
    files: Sequence[Path],
    class_names: Sequence[str],
    config: PredictConfig,
) -> None:
    """Write the objects that are asked for, which point at the series they were made from."""
    if config.dicom_seg:
        from jcl.data.dicom.segmentation import write_segmentation  # not above: loading pydicom takes long

        write_segmentation(config.out / f"{name}.dcm", classes, files, class_names)
    if config.rtstruct:
        from jcl.data.dicom.structure_set import write_structure_set

        write_structure_set(config.out / f"{name}.rtstruct.dcm", classes, files, class_names)
