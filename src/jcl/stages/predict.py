"""Prediction: new scans in, segmentations with their geometry and format out."""

import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int32
from torch import nn

from jcl.config import PredictConfig
from jcl.data.layouts import SUFFIXES, find_in_folder, stem
from jcl.data.volumes import Volume, prepare_volume, read_image, write_label
from jcl.device import resolve_device, resolve_precision
from jcl.errors import DataError, UsageError
from jcl.runlog import progress_bar
from jcl.runs import load_network
from jcl.segment import class_scores, pad_centred, resize_scores


def predict(config: PredictConfig) -> list[Path]:
    """Segment a scan, or every scan below a folder; returns the files written, named as the scans are.

    Each scan is prepared by the recipe that the run carries, segmented, and brought back to its own grid and
    orientation; the label values are those of the data set that the run was trained on. A scan that cannot be
    segmented is set aside, and the rest goes on.

    Raises:
        UsageError: the results would overwrite the scans.
        DataError: nothing to segment, or (after the rest is done) some scan could not be.
    """
    network, info = load_network(config.run)
    device = resolve_device(config.devices)
    precision = resolve_precision(config.precision, device)
    network.to(device, memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    scans = _find_scans(config.source, info["recipe"]["channels"])
    if config.out.resolve() in {path.resolve().parent for files in scans.values() for path in files}:
        raise UsageError(f"{config.out} holds the scans; choose another --out, so that none is overwritten")
    config.out.mkdir(parents=True, exist_ok=True)
    written: list[Path] = []
    failures: list[str] = []
    with progress_bar("predict") as bar:
        task = bar.add_task("predict", total=len(scans), note="")
        for case, files in scans.items():
            try:
                volume = read_image(files, channels=info["recipe"]["channels"])
                labels = _segment(network, volume, info["recipe"], config.batch_size, device, precision)
                target = config.out / f"{case}{volume.geometry.suffix}"
                write_label(target, labels, volume.geometry)
                written.append(target)
            except DataError as error:
                failures.append(str(error))
            bar.advance(task)
    for line in failures:
        print(f"set aside: {line}", file=sys.stderr)
    if failures:
        raise DataError(f"{len(failures)} of {len(scans)} scans could not be segmented (each is named above)")
    return written


def _find_scans(source: Path, channels: int) -> dict[str, tuple[Path, ...]]:
    """Files of each scan (one a channel); scans of several files end in _0000, _0001, … as nnU-Net has them."""
    if source.is_file():
        if not source.name.lower().endswith(SUFFIXES):
            raise DataError(f"{source}: not a known image format; known are {', '.join(SUFFIXES)}")
        return {stem(source): (source,)}
    if not source.is_dir():
        raise DataError(f"{source}: no such file or folder")
    found, _ = find_in_folder(source)
    if not found:
        raise DataError(f"{source}: no image found ({', '.join(SUFFIXES)})")
    if channels == 1:
        return found
    groups: dict[str, tuple[Path, ...]] = {}
    for case, files in sorted(found.items()):
        name = re.sub(r"_\d{4}$", "", case)
        groups[name] = (*groups.get(name, ()), *files)
    return groups


def _segment(
    network: nn.Module,
    volume: Volume,
    recipe: dict[str, Any],
    batch_size: int,
    device: torch.device,
    precision: torch.dtype,
) -> Int32[np.ndarray, "d h w"]:
    """Label values on the scan's own grid, in the common orientation.

    Scores are brought back before the winner is taken, which keeps borders smooth, and only for the slices of one
    batch, so that they are never in memory for the whole volume.
    """
    image, _ = prepare_volume(volume, recipe)
    padded, content = pad_centred(image, (recipe["padded"][0], recipe["padded"][1]))
    values = np.array([0, *recipe["class_values"]], np.int32)
    shape = volume.geometry.shape[1:]
    labels = np.empty(volume.geometry.shape, np.int32)
    start = 0
    slices = padded.swapaxes(0, 1)
    for scores in class_scores(network, slices, batch_size=batch_size, device=device, precision=precision):
        own = resize_scores(scores[:, :, *content], shape)
        labels[start : start + len(own)] = values[own.argmax(1).cpu().numpy()]
        start += len(own)
    return labels
