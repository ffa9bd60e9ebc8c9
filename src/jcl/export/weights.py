"""Pre-trained weights to start from elsewhere: a run folder without places and patients, its data sheet and card."""

import json
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from jcl.data.datasets import load_spec, spec_names
from jcl.data.splits import read_split
from jcl.data.store import Store
from jcl.errors import DataError, UsageError
from jcl.export.card import licence_tag
from jcl.export.contents import contents, tidy
from jcl.files import write_atomically, write_json
from jcl.text import markdown_text
from jcl.training.run_folder import FORMAT, read_model, read_run, save_weights

__all__ = ["data_sheet", "write_pretrained"]

MOST_BYTES = 10_000_000
"""Of weights that a package may carry."""

KEPT = ("kind", "backbone", "transfers", "steps", "precision", "kernels", "compiled", "processes", "versions")
"""Of `run.json`, what means something elsewhere as it is."""

CARD = """
---
library_name: jcl
pipeline_tag: image-segmentation
license: {licence_tag}
tags: {tags}
---

# {title}

Encoder and decoder of a {backbone} of width {width}, pre-trained without labels by `{method}` with jcl {version}. They
segment nothing by themselves: they are what a fine-tuning starts from. Not a medical device.

## Use

```
jcl finetune store --init {name} --patients 4 --out fine
```

## Data

- {data}, {modality}. Licence: {licence}. From: {source}.
- {seen}. Digest of the prepared store: {digests}. No label was read.
- The SHA-256 of each image is in `run.json`: a fine-tuning that would test on one of them is refused.

## Training

- Method `{method}`, {steps} steps of {batch} slices, seed {seed}; all settings are in `run.json`.
- Versions: {versions}.
- Weights: {precision}, {parts}; the digest is in `model.json` and checked at every loading.

## Limits

Trained on one data set: what it gains on another organ, contrast or scanner has to be measured. The weights are
under the licence of the data.
"""


def write_pretrained(folder: Path, run: Path, name: str) -> None:
    """Write the weights of a finished pre-training into an empty folder, with all that is said of them.

    Args:
        folder: to write to.
        run: of the pre-training; its stores are looked at where they still are.
        name: what the card calls it.

    Raises:
        DataError: no pre-training, not finished, damaged, without a store that is known, or too large.
    """
    info = read_run(run, "pretrain")
    if info["settings"].get("block"):
        raise UsageError(f"{run}: trained on blocks, whose weights are not exported")
    weights = {key: _half(t) for key, t in read_model(run).items() if key.startswith("backbone.")}
    sheet, seen = data_sheet(info, run)
    places = ("out", "stores", "split", "watch", "tracker")
    settings = {key: value for key, value in contents(info)["training"]["settings"].items() if key not in places}
    record = {
        **{key: info[key] for key in KEPT if key in info},
        "stores": [{"path": "", "digest": digest} for digest in sheet["digests"]],
        "seen_images": seen,
        "settings": settings,
    }
    save_weights(folder, weights)
    if (size := (folder / "model.safetensors").stat().st_size) > MOST_BYTES:
        most = f"more than {MOST_BYTES / 1e6:g}; take a smaller --width"
        raise DataError(f"{run}: {size / 1e6:.1f} MB of weights, {most}")
    write_json(folder / "run.json", {"format": FORMAT, **record}, seal=True)
    write_json(folder / "sheet.json", sheet, seal=True)
    write_atomically(folder / "README.md", tidy(_card(info, sheet, settings, name)))


def data_sheet(info: Mapping[str, Any], run: Path) -> tuple[dict[str, Any], list[str]]:
    """What the weights were trained on and by; and the SHA-256 of each image of that, so that none is tested on.

    Raises:
        DataError: a store that is not there any more, whose licence nobody can tell.
    """
    split = read_split(run / "split.json") if (run / "split.json").is_file() else None
    parts: list[dict[str, Any]] = []
    for number, entry in enumerate(info["stores"]):
        with closing(Store.open(Path(entry["path"]))) as store:
            if store.digest != entry["digest"]:
                raise DataError(f"{store.path}: another store than the run was trained on; restore it")
            parts.append(_of_store(store, None if split is None or number else set(split.train)))
    if not parts:
        raise DataError(f"{run}: records no store, so that nobody knows what it was trained on")
    images = sorted({digest for part in parts for digest in part.pop("images")})
    return {
        "data": parts,
        "digests": [entry["digest"] for entry in info["stores"]],
        "licence": ", ".join(dict.fromkeys(str(part["licence"] or "not known") for part in parts)),
        "backbone": info["backbone"],
        "method": info["settings"]["method"],
        "steps": info["steps"],
        "trained_by": f"jcl {info['versions']['jcl']}, torch {info['versions']['torch']}",
    }, images


def _of_store(store: Store, used: set[str] | None) -> dict[str, Any]:
    preparation = store.preparation
    spec = load_spec(preparation["dataset"]) if preparation["dataset"] in spec_names() else None
    cases = [record for record in store.cases if used is None or record.patient in used]
    return {
        "dataset": preparation["dataset"],
        "title": preparation.get("title") or (spec.title if spec else ""),
        "licence": preparation.get("licence") or (spec.licence if spec else ""),
        "source": spec.source_url if spec else "",
        "modality": preparation.get("modality") or "",
        "patients": len({record.patient for record in cases}),
        "volumes": len(cases),
        "slices": sum(record.slices for record in cases),
        "images": [digest for record in cases for _, digest in record.source.get("images", [])],
    }


def _half(tensor: Tensor) -> Tensor:
    """In float16 where that loses no more than digits: counters stay whole, and large values what they are."""
    small = tensor.is_floating_point() and float(tensor.abs().max() if tensor.numel() else 0) < 60_000
    return tensor.to(torch.float16) if small else tensor


def _card(info: Mapping[str, Any], sheet: Mapping[str, Any], settings: Mapping[str, Any], name: str) -> str:
    parts: Sequence[Mapping[str, Any]] = sheet["data"]
    volumes, slices = (sum(part[key] for part in parts) for key in ("volumes", "slices"))
    return CARD.format(
        licence_tag=licence_tag(sheet["licence"]),
        tags=json.dumps(["medical-imaging", "self-supervised-learning", "pre-trained", "pytorch"]),
        title=markdown_text(name), name=name, version=info["versions"]["jcl"],
        backbone=info["backbone"]["name"], width=info["backbone"]["width"], method=settings["method"],
        data=markdown_text("; ".join(part["title"] or part["dataset"] for part in parts)),
        modality=markdown_text(", ".join(dict.fromkeys(part["modality"] or "modality not known" for part in parts))),
        licence=markdown_text(sheet["licence"]),
        source=", ".join(part["source"] or "not recorded" for part in parts),
        seen=f"{volumes} volumes of {sum(part['patients'] for part in parts)} patients, {slices} slices",
        digests=", ".join(f"`{digest}`" for digest in sheet["digests"]),
        steps=info["steps"], batch=settings["batch_size"], seed=settings["seed"],
        versions=", ".join(f"{key} {text}" for key, text in info["versions"].items()),
        precision="float16", parts=", ".join(f"`{part}`" for part in info["transfers"]),
    )  # fmt: skip
