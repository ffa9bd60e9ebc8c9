"""A folder for the Hugging Face Hub: weights, config and model card; `jcl.load` and `jcl predict` take it."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from jcl.data.block_plan import block_of
from jcl.data.context import context_of
from jcl.errors import DataError
from jcl.export.card import licence_tag, scores_of, table_of
from jcl.export.contents import contents, need, tidy
from jcl.files import write_atomically, write_json
from jcl.inference.segmenter import CONFIG, FORMAT, WEIGHTS
from jcl.text import markdown_text
from jcl.training.checkpoint import write_weights

__all__ = ["PACKAGES", "push", "write_hub"]

PACKAGES = ("huggingface_hub",)
TAGS = ("medical-imaging", "image-segmentation", "label-efficient", "self-supervised-learning", "pytorch")

CARD = """
---
library_name: jcl
pipeline_tag: image-segmentation
license: {licence_tag}
tags: {tags}
---

# {title}

A {backbone} that segments {names} in {modality} {parts}, fine-tuned with
[jcl](https://arxiv.org/abs/2309.11876) {version}{pretrained}. Not a medical device.

## Use

```python
import jcl

segmenter = jcl.load("{repo}")
labels = segmenter.segment("scan.nii.gz", out="segmentation.nii.gz")
```

or, for many scans, DICOM among them, after a download: `jcl predict FOLDER scans --out segmentations`.
Scans are prepared as the training data were; the recipe is in `{config}`.{seen}

## Labels

{labels}

## Training

- Data: {data}. Licence of the data: {licence}. Digest of the prepared store: {digests}.
- Weights: SHA-256 `{sha256}`, which is checked at every loading.
- Steps: {steps}. Versions: {versions}.
{scores}"""


def write_hub(folder: Path, network: nn.Module, info: Mapping[str, Any], results: Path | None, repo: str) -> None:
    """Write weights, config and model card into an empty folder.

    Args:
        results: of `jcl evaluate`, for the scores in the card.
        repo: what the example in the card loads.

    Raises:
        DataError: the results cannot be read, or a file cannot be written.
    """
    digest = write_weights(folder / WEIGHTS, network.state_dict())
    values = contents(info)
    head = {"format": FORMAT, "library_name": "jcl", "kind": "finetune"}
    write_json(folder / CONFIG, {**head, **values, "sha256": digest}, seal=True)
    write_atomically(folder / "README.md", tidy(_card(values, results, repo, digest)))


def push(folder: Path, repo: str) -> str:
    """Upload the folder to a model on the hub, which is made if it is not there; returns its address.

    Raises:
        UsageError: the package huggingface_hub is missing.
        DataError: no network, no permission, no such name.
    """
    need("--push", "hub", PACKAGES)
    from huggingface_hub import HfApi

    try:
        api = HfApi()
        address = api.create_repo(repo, exist_ok=True)
        api.upload_folder(folder_path=folder, repo_id=repo, commit_message="Exported by jcl")
    except (OSError, ValueError) as error:  # all errors of the hub and of the network are of these
        reason = " ".join(str(error).split())[:200]
        raise DataError(f"{repo}: the upload failed ({reason}); {folder} is whole, so try again with it") from error
    return str(address)


def _card(values: Mapping[str, Any], results: Path | None, repo: str, digest: str) -> str:
    recipe, training = values["recipe"], values["training"]
    names, digests = markdown_text(", ".join(values["class_names"])), training["data_digests"] or ["–"]
    scores = "" if results is None else f"\n## Scores\n\n{table_of(scores_of(results))}\n"
    return CARD.format(
        tags=json.dumps(list(TAGS)), title=f"Segmentation of {names}", backbone=values["backbone"]["name"],
        names=names, parts="slices" if block_of(recipe) is None else "volumes",
        modality=markdown_text(recipe["modality"] or "medical"), version=values["versions"]["jcl"],
        pretrained=", from a pre-training without labels" if training["pretrained"] else "", repo=repo, config=CONFIG,
        seen=_seen(recipe),
        labels="\n".join(f"- {label['value']}: {markdown_text(label['name'])}" for label in values["labels"]),
        data=markdown_text(recipe["title"] or recipe["dataset"]), sha256=digest,
        licence=markdown_text(recipe.get("licence", "") or "not known; add it here before you publish"),
        licence_tag=licence_tag(recipe.get("licence", "")),
        digests=", ".join(f"`{digest}`" for digest in digests),
        steps=training["steps"], versions=", ".join(f"{name} {text}" for name, text in values["versions"].items()),
        scores=scores,
    )  # fmt: skip


def _seen(recipe: Mapping[str, Any]) -> str:
    """Said only of a network for which a slice is not enough."""
    if block := block_of(recipe):
        sides = " x ".join(map(str, block))
        return f"\nIt sees blocks of {sides} voxels (slices, rows, columns), which slide over a scan."
    context = context_of(recipe)
    several = "slice" if context == 1 else f"{context} slices"
    return f"\nIt sees each slice together with the {several} on either side (2.5-D)." if context else ""
