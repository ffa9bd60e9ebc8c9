"""A fine-tuned network ready to segment: from a run folder, a folder made for the hub, or the hub itself.

A folder for the hub (`jcl export --to hub`) holds
    model.safetensors   final weights
    config.json         backbone, preparation, classes, versions, and the digest of the weights
    README.md           what people read
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
from jaxtyping import Integer
from torch import Tensor, nn

from jcl import backbones
from jcl.backbones import Backbone
from jcl.data.dicom.series import find_series
from jcl.data.recorded_preparation import check_preparation
from jcl.data.resampling import prepare_parts
from jcl.data.sources import SliceFiles, Source
from jcl.data.volumes import read_scan, write_label
from jcl.distributed.device import resolve_precision
from jcl.errors import DataError, UsageError
from jcl.files import read_json
from jcl.inference.ensemble import Mean, check_prepared_alike, load_members
from jcl.inference.predictor import class_values, segment_parts
from jcl.inference.unlike import note_unlike
from jcl.training.checkpoint import read_weights
from jcl.training.run_folder import check_dimensions, load_network, read_model, read_run

__all__ = [
    "CONFIG",
    "FORMAT",
    "WEIGHTS",
    "Segmenter",
    "is_for_hub",
    "load",
    "load_trained",
    "read_for_hub",
    "read_trained",
]

FORMAT = 1
"""Version of the folder's layout; raised when an older program could misread it."""

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
NEEDED = ("backbone", "recipe", "class_names", "versions", "sha256")


@dataclass(frozen=True, kw_only=True)
class Segmenter:
    """A fine-tuned network with all that segmenting a scan needs.

    Attributes:
        network: in evaluation mode; images (b, c, h, w) to logits (b, k, h, w). Move it to a GPU as any module. Where
            it sees slices with neighbours, they are among the channels (see `jcl.data.context`).
        classes: names of the structures; class k + 1 is the k-th of them, 0 the background.
        preparation: how scans are prepared, see `jcl.data.preparation.make_preparation`; and with how many neighbours
            slices are seen, `context`, if with any.
        info: all that is known of the training.

    Examples:
        >>> segmenter = jcl.load("fine")  # doctest: +SKIP
        >>> labels = segmenter.segment("scan.nii.gz", out="segmentation.nii.gz")  # doctest: +SKIP
    """

    network: nn.Module
    classes: tuple[str, ...]
    preparation: dict[str, Any]
    info: dict[str, Any]

    def segment(
        self,
        scan: Path | str | Sequence[Path | str],
        *,
        out: Path | str | None = None,
        batch_size: int = 16,
        precision: str = "auto",
    ) -> Integer[np.ndarray, "..."]:
        """Label values of a scan, as `jcl predict` writes them.

        Args:
            scan: a file, a folder with one DICOM series, or a file for each channel.
            out: a file to write them to as well, in the scan's geometry; its name gives the format.
            batch_size: slices at a time.
            precision: auto, float32 or bfloat16.

        Returns:
            (z, y, x), or (y, x) for a picture: in the order in which SimpleITK reads the scan's own voxels.

        Raises:
            DataError: the scan cannot be read, or the file not be written.

        Warns:
            DataNote: the scan's header makes two statements that differ, of which the message says which was taken; or
                it is unlike those that the network learned from (spacing, plane, modality, unit).
        """
        device = next(self.network.parameters()).device
        sources = _sources(scan)
        volume = read_scan(sources, self.preparation)
        geometry = volume.geometry
        note_unlike(sources[0], volume, [self.info])
        parts = prepare_parts(volume, self.preparation, max(1, batch_size))
        del volume  # from here on only `parts` has it, and drops it at its end
        classes = segment_parts(
            self.network, parts, self.preparation, geometry.shape, spacing=geometry.turned_spacing[0],
            batch_size=batch_size, device=device, precision=resolve_precision(precision, device),
        )  # fmt: skip
        labels = class_values(self.preparation)[classes]
        if out is not None:
            write_label(Path(out), labels, geometry)
        array = np.ascontiguousarray(geometry.turn_back(labels))
        return array[0] if geometry.picture else array


def load(
    source: Path | str | Sequence[Path | str], *, revision: str | None = None, trust_code: bool = False
) -> Segmenter:
    """A fine-tuned network ready to segment; or several, whose scores are averaged.

    Args:
        source: run folder of a fine-tuning, folder made by `jcl export --to hub`, or `owner/name` of a model on the
            Hugging Face Hub, which is downloaded (and kept, so that it is there without a network afterwards). Several
            of them have to prepare scans alike (`jcl predict` takes also others); `info` is that of the first.
        revision: branch, tag or commit of a model on the hub.
        trust_code: build also a network that the folder names as `package.module:Class`, which imports that module.

    Raises:
        UsageError: the hub is asked for and the package huggingface_hub is missing; or the folder names a network that
            is not one of jcl's, and `trust_code` is off.
        DataError: there is no such folder or model, it is damaged, or several do not agree.
    """
    several = [source] if isinstance(source, (str, Path)) else list(source)
    folders = [Path(each) if Path(each).exists() else _download(str(each), revision) for each in several]
    members = load_members(folders, partial(load_trained, trust_code=trust_code))
    check_prepared_alike(members)
    network, info = members[0].network, members[0].info
    if len(members) > 1:
        network = Mean(member.network for member in members).eval()
    return Segmenter(network=network, classes=tuple(info["class_names"]), preparation=info["recipe"], info=info)


def load_trained(folder: Path, *, trust_code: bool = False) -> tuple[Backbone, dict[str, Any]]:
    """The network of a run folder of a fine-tuning or of a folder for the hub, and what is recorded with it.

    Raises:
        UsageError: it names a network that is not one of jcl's, and `trust_code` is off.
        DataError: neither, not finished, or damaged.
    """
    if not is_for_hub(folder):
        return load_network(folder, trust_code=trust_code)
    weights, info = read_for_hub(folder)
    network = backbones.restore(info["backbone"], folder / CONFIG, weights, trust_code=trust_code)
    check_dimensions(network, info["recipe"], folder / CONFIG)
    return network.eval(), info


def read_trained(folder: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Weights of the network alone of a run of either kind or of a folder for the hub, and what is recorded with it.

    Raises:
        DataError: none of these, not finished, or damaged.
    """
    if is_for_hub(folder):
        return read_for_hub(folder)
    there = read_json(folder / "run.json") if (folder / "run.json").is_file() else {}
    if not isinstance(there, dict) or cast("dict[str, Any]", there).get("kind") != "pretrain":
        info = read_run(folder, "finetune")
        return read_model(folder), info
    info = read_run(folder, "pretrain")
    head = "backbone."
    return {n.removeprefix(head): tensor for n, tensor in read_model(folder).items() if n.startswith(head)}, info


def is_for_hub(folder: Path) -> bool:
    """Whether a folder is one that `jcl export --to hub` writes."""
    return (folder / CONFIG).exists() and not (folder / "run.json").exists()


def read_for_hub(folder: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Weights and `config.json` of a folder for the hub.

    Raises:
        DataError: it is not one, or damaged.
    """
    content: object = read_json(folder / CONFIG)
    info = cast("dict[str, Any]", content) if isinstance(content, dict) else {}
    if info.get("library_name") != "jcl" or any(key not in info for key in NEEDED):
        raise DataError(f"{folder / CONFIG}: not what `jcl export --to hub` writes; is it a model of another program?")
    if info.get("format") != FORMAT:
        raise DataError(f"{folder}: a model of format {info.get('format')}; this jcl reads format {FORMAT}")
    check_preparation(info["recipe"], info["backbone"], folder / CONFIG)
    return read_weights(folder / WEIGHTS, str(info["sha256"])), info


def _download(name: str, revision: str | None) -> Path:
    """The folder in which the hub's own cache keeps a model."""
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", name):
        raise DataError(f"{name}: no such folder, and no model of the hub (these are named owner/name)")
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise UsageError(f"{name}: no such folder; to get it from the hub: pip install 'jcl-seg[hub]'") from error
    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=[CONFIG, WEIGHTS]))
    except (OSError, ValueError) as error:  # all errors of the hub and of the network are of these
        reason = " ".join(str(error).split())[:200]
        raise DataError(f"{name}: no such folder, and it cannot be had from the hub ({reason})") from error


def _sources(scan: Path | str | Sequence[Path | str]) -> list[Source]:
    if not isinstance(scan, (str, Path)):
        return [Path(part) for part in scan]
    if not Path(scan).is_dir():
        return [Path(scan)]
    series = find_series(Path(scan))
    if len(series) != 1:
        raise DataError(f"{scan}: {len(series)} DICOM series; one is needed, `jcl predict` takes folders of any number")
    if series[0].problem:
        raise DataError(series[0].problem)
    return [SliceFiles(Path(scan), series[0].files)]
