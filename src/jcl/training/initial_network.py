"""The network of a fine-tuning: which one, its layers, and the weights that it begins with."""

import hashlib
from pathlib import Path
from typing import Any

import torch

from jcl import backbones
from jcl.backbones._transfer import pretrained_modules_of, transfer
from jcl.config import FinetuneConfig
from jcl.data.context import span_of
from jcl.data.store import Store
from jcl.errors import DataError, UsageError, foreign_code
from jcl.training.checkpoint import read_weights
from jcl.training.run_folder import read_model, read_run, weights_digest

__all__ = ["build_network", "choose_backbone", "initial_backbone", "take_initial_weights"]

SPARE = 10_000_000
"""Values that a first layer for many channels, and a last one for many classes, may have."""


def initial_backbone(config: FinetuneConfig) -> dict[str, Any]:
    """Name and settings of the network of the initial run; {} where there is none."""
    has_run = config.init != "none" and not _is_weights_file(Path(config.init))
    return read_run(Path(config.init), "pretrain")["backbone"] if has_run else {}


def choose_backbone(config: FinetuneConfig, store: Store) -> dict[str, Any]:
    """Name and settings of the network: those of the initial run, unless they are given or there is none.

    Raises:
        UsageError: what is given does not fit the initial run.
    """
    given = initial_backbone(config)
    for key, value in (("name", config.backbone), ("width", config.width)):
        if value is not None and key in given and given[key] != value:
            raise UsageError(f"{key} {value} does not fit {config.init}, which has {given[key]}; leave it out")
    name: str = given.get("name") or config.backbone or "unet"
    if ":" in name and config.backbone is None and not config.trust_code:  # before its width is asked for
        raise foreign_code(Path(config.init, "run.json"), "network", name)
    return {
        "name": name,
        "in_channels": span_of(config.context or 0) * store.channels,
        "classes": len(store.class_names) + 1,
        "width": given.get("width") or config.width or backbones.default_width(name),
        **{key: given[key] for key in ("strides",) if key in given},
    }


def build_network(config: FinetuneConfig, backbone: dict[str, Any]) -> backbones.Backbone:
    """What the user typed is imported; what only the initial run's file says, as `rebuild` allows.

    Raises:
        DataError: the file's network is not that of its weights.
    """
    if config.backbone is None:
        _check_described(config, backbone)
        return backbones.rebuild(backbone, Path(config.init, "run.json"), trust_code=config.trust_code)
    return backbones.load(config.backbone)(**{key: value for key, value in backbone.items() if key != "name"})


def _check_described(config: FinetuneConfig, backbone: dict[str, Any]) -> None:
    """See that the initial run's file describes a network about as large as its weights, before memory is taken for it.

    That all of them fit is seen when they are taken over; the first and the last layer may be others.
    """
    if config.init == "none" or _is_weights_file(Path(config.init)) or ":" in backbone["name"]:
        return
    file = Path(config.init, "run.json")
    try:
        with torch.device("meta"):  # of the shapes alone, which may be of any size
            described = backbones.rebuild(backbone, file)
    except RuntimeError as error:
        raise DataError(f"{file}: its network is larger than any can be; restore it") from error
    said = sum(tensor.numel() for tensor in described.state_dict().values())
    found = sum(tensor.numel() for tensor in read_model(Path(config.init)).values())
    if said > 2 * found + SPARE:
        raise DataError(f"{file}: its network has {said} values, and its weights {found}; restore it")


def take_initial_weights(config: FinetuneConfig, network: backbones.Backbone) -> dict[str, Any]:
    """Carry the initial weights over; returns what `run.json` records of it.

    Raises:
        DataError: they cannot be read, or do not fit.
    """
    if config.init == "none":
        return {"run": None, "report": "from random weights"}
    path = Path(config.init)
    if _is_weights_file(path):
        weights, parts, digest = read_weights(path), None, hashlib.sha256(path.read_bytes()).hexdigest()
    else:
        weights = {k.removeprefix("backbone."): t for k, t in read_model(path).items() if k.startswith("backbone.")}
        parts, digest = read_run(path, "pretrain")["transfers"], weights_digest(path)
    try:
        report = transfer(network, weights, parts or pretrained_modules_of(network, weights), adapt=config.adapt)
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
    return {"run": config.init, "digest": digest, "report": f"from {config.init}: {report}"}


def _is_weights_file(path: Path) -> bool:
    return path.is_file() or path.suffix == ".safetensors"
