"""What travels with the weights in every format: network, preparation, labels, versions, and how it was trained."""

import importlib
from collections.abc import Mapping, Sequence
from typing import Any

import jcl
from jcl.data.context import channel_names, context_of
from jcl.errors import UsageError
from jcl.training.seen_scans import SEEN
from jcl.training.shapes import SHAPES

__all__ = ["classes_of", "contents", "need", "tidy"]

OF_THE_MACHINE = (
    "store",
    "stores",
    "init",
    "out",
    "split",
    "devices",
    "workers",
    "checkpoint_minutes",
    "resume",
    "trust_code",
)
"""Settings that say where and how fast it was trained, not what: paths have no meaning elsewhere."""


def contents(info: Mapping[str, Any]) -> dict[str, Any]:
    """All of a run's `run.json` (or of what was exported of it before) that means something elsewhere.

    Keys: `jcl` (the version that exports), `backbone`, `recipe` (the preparation's settings) and `class_names`
    (fine-tuned runs only), `labels` (see `classes_of`), `channels` (what is in each channel of an image, where slices
    are seen with neighbours), the names of `jcl.training.shapes` and of `jcl.training.seen_scans` (spacings, plane,
    modalities and unit of the scans trained on), `versions` (of the training) and `training` (its settings and the
    digests of its data).
    """
    found: dict[str, Any] = {"jcl": jcl.__version__, "backbone": info["backbone"]}
    if "recipe" in info:
        found |= {"recipe": info["recipe"], "class_names": list(info["class_names"]), "labels": classes_of(info)}
        if context := context_of(info["recipe"]):
            found["channels"] = channel_names(info["recipe"]["channels"], context)
        found |= {key: info[key] for key in (*SHAPES, *SEEN) if key in info}
    return {**found, "versions": info["versions"], "training": info.get("training") or _training(info)}


def classes_of(info: Mapping[str, Any]) -> list[dict[str, Any]]:
    """For each channel of the logits: `index`, the `value` in the data set's label files, and the `name`."""
    preparation = info["recipe"]
    pairs = [(0, "background"), *zip(preparation["class_values"], preparation["classes"], strict=True)]
    return [{"index": index, "value": value, "name": name} for index, (value, name) in enumerate(pairs)]


def _training(info: Mapping[str, Any]) -> dict[str, Any]:
    settings = {name: value for name, value in info.get("settings", {}).items() if name not in OF_THE_MACHINE}
    stores: list[Any] = info.get("stores", [])
    digests = [info["store_digest"]] if "store_digest" in info else [store["digest"] for store in stores]
    initial = info.get("init") or {}
    return {
        "kind": info["kind"],
        "steps": info.get("steps"),
        "settings": settings,
        "pretrained": initial.get("run") is not None,
        "data_digests": digests,
    }


def need(what: str, extra: str, packages: Sequence[str]) -> None:
    """Import packages that are not installed with `jcl`.

    Raises:
        UsageError: one is missing; the message says how to get it.
    """
    for package in packages:
        try:
            importlib.import_module(package)
        except ImportError as error:
            raise UsageError(f"{what} needs the package {package}: pip install 'jcl-seg[{extra}]'") from error


def tidy(text: str) -> bytes:
    """A text file's bytes: without white space at the ends of its lines, and with one line end at its own."""
    return ("\n".join(line.rstrip() for line in text.strip().splitlines()) + "\n").encode()
