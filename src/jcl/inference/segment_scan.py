"""One new scan: segmented by a run or several, which are made ready once for all scans, and written."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32, Integer, UInt8

from jcl.config import PredictConfig
from jcl.data.geometry import Geometry
from jcl.data.intensities import as_seen
from jcl.data.labelmaps import refuse_label_map
from jcl.data.sources import SliceFiles
from jcl.data.volumes import read_scan, write_label, write_map
from jcl.distributed.device import resolve_device, resolve_precision
from jcl.errors import DataError
from jcl.files import clear_left, write_atomically, write_error
from jcl.inference.ensemble import Group, load_members, make_groups, parts_of, slice_scores
from jcl.inference.postprocess import Rules, Tidied, postprocess, rules_of
from jcl.inference.predictor import class_values, segment_parts
from jcl.inference.scans import Scan
from jcl.inference.second_look import Looked, look
from jcl.inference.segmenter import load_trained
from jcl.inference.unlike import note_unlike
from jcl.inference.volume_table import entry_of

__all__ = ["BESIDE", "Work", "begin", "make_folders", "segment_scan"]

BESIDE = {"probabilities": ".nii.gz", "doubt": ".nii.gz", "overview": ".png"}
"""Settings that ask for a file of each scan, in a folder of that name, and how the names of these end."""


@dataclass(frozen=True)
class Work:
    """What is the same for all scans, and what comes to light of each: what was tidied, and lines of the table.

    `begin` makes it, `segment_scan` takes it.
    """

    config: PredictConfig
    source: Path
    groups: Sequence[Group]
    preparation: dict[str, Any]
    rules: Rules
    infos: Sequence[dict[str, Any]]
    device: torch.device
    precision: torch.dtype
    tidied: dict[str, Tidied] = field(default_factory=dict[str, Tidied])
    entries: dict[str, dict[str, Any]] = field(default_factory=dict[str, dict[str, Any]])

    @property
    def counts(self) -> bool:
        """Whether the table of volumes is wanted."""
        return self.config.volumes or self.config.doubt


def begin(config: PredictConfig, source: Path) -> Work:
    """Read the runs and make their networks ready for scans below `source`; neither it nor `out` is looked at.

    Raises:
        UsageError: a device that is not there, or code of others that nobody allowed.
        DataError: a run cannot be read, or two do not agree.
    """
    members = load_members(config.runs, partial(load_trained, trust_code=config.trust_code))
    device = resolve_device(config.devices)
    precision = resolve_precision(config.precision, device)
    groups = make_groups(members, device, precision, tta=config.tta, mirror=config.mirror)
    infos = [member.info for member in members]
    rules = rules_of(infos) if config.postprocess == "auto" else Rules()
    return Work(config, source, groups, members[0].preparation, rules, infos, device, precision)


def make_folders(config: PredictConfig) -> None:
    """Make the folders beside the results, without what a killed process left in them."""
    for folder in (config.out / name for name in BESIDE if getattr(config, name)):
        try:
            folder.mkdir(exist_ok=True)
            clear_left(folder)
        except OSError as error:
            raise write_error(folder, error) from error


def segment_scan(
    scan: Scan, work: Work, within: Callable[[float], None]
) -> tuple[UInt8[np.ndarray, "d h w"], Geometry]:
    """Segment one scan and write the result; `within` is called with the share that is done.

    Returns the class of each voxel, turned, and where the voxels lie.

    Raises:
        DataError: it cannot be segmented, or the result not be written.
    """
    if scan.problem:
        raise DataError(scan.problem)
    config, preparation = work.config, work.preparation
    volume = read_scan(scan.images, preparation)
    if scan.guessed and len(scan.images) == 1:
        refuse_label_map(scan.images[0], volume, work.source)
    geometry = volume.geometry
    note_unlike(scan.images[0], volume, work.infos)
    image = as_seen(volume.array[0], preparation) if config.overview else None
    parts = parts_of(work.groups, volume, config.batch_size)
    del volume  # from here on only `parts` has it, and drops it at its end
    how: dict[str, Any] = {"batch_size": config.batch_size, "device": work.device, "precision": work.precision}
    how["spacing"] = geometry.turned_spacing[0]
    looked = None
    try:
        if len(parts) == 1 and not (work.counts or config.probabilities):
            (group,) = work.groups
            classes = segment_parts(group.network, parts[0], group.preparation, geometry.shape, **how, within=within)
        else:
            looked = look(
                slice_scores(work.groups, parts, geometry.shape, **how),
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
    return classes, geometry


def _write_beside(
    scan: Scan,
    work: Work,
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
