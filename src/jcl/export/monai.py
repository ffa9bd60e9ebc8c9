"""A MONAI bundle: TorchScript and a config with which MONAI alone segments scans as `jcl predict` does."""

import importlib.metadata
import io
import warnings
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from jcl.backbones import Backbone
from jcl.data.block_plan import Block, block_of
from jcl.data.context import context_of
from jcl.data.intensities import window_of
from jcl.data.label_values import HIGHEST, label_type
from jcl.data.through_plane import through_of
from jcl.errors import DataError
from jcl.export.anysize import AnySize, check_same, fixed_size, sizes_to_check
from jcl.export.card import scores_of, table_of
from jcl.export.contents import contents, tidy
from jcl.files import write_atomically, write_json
from jcl.inference.windows import OVERLAP, SIGMA
from jcl.training.checkpoint import write_weights

__all__ = ["write_monai"]

SCHEMA = "https://github.com/Project-MONAI/MONAI-extra-test-data/releases/download/0.8.1/meta_schema_20240725.json"
TESTED = {"monai": "1.6.1", "pytorch-ignite": "0.5.5", "nibabel": "5.4.2", "fire": "0.7.1"}
"""Versions that the bundle's own run is tested with; those installed are recorded where there are any."""

README = """
# {title}

A {backbone} for {names}, exported by jcl {version} as a MONAI bundle. It needs MONAI, ignite, nibabel and fire; jcl is
not needed. Not a medical device.

In this folder:

```
python -m monai.bundle run --config_file configs/inference.json --dataset_dir SCANS --output_dir SEGMENTATIONS
```

segments each NIfTI file of `SCANS` into a file of the same name, on the scan's own grid, with these values:

{labels}

`scripts/slices.py` turns slices to the orientation of the training and resamples them, both invertibly; all other steps
are MONAI's own. `models/model.ts` takes {sizes}; `models/model.safetensors` has the same weights by name.
How the training data were prepared, and the training itself, are under `jcl` in `configs/metadata.json`.
{scores}"""


def write_monai(folder: Path, network: Backbone, info: Mapping[str, Any], results: Path | None) -> None:
    """Write the bundle into an empty folder.

    Raises:
        DataError: TorchScript answers otherwise than PyTorch, the results cannot be read, or a file cannot be written.
    """
    values = contents(info)
    script, sizes = _as_torchscript(network, info["recipe"], what=str(folder))
    for name in ("configs", "models", "docs", "scripts"):
        (folder / name).mkdir()
    write_atomically(folder / "models" / "model.ts", script)
    write_weights(folder / "models" / "model.safetensors", network.state_dict())
    scores = None if results is None else scores_of(results)
    write_json(folder / "configs" / "metadata.json", _metadata(values, scores, sizes))
    write_json(folder / "configs" / "inference.json", _inference(values))
    here = Path(__file__).parent
    write_atomically(folder / "scripts" / "slices.py", (here / "bundle_slices.py").read_bytes())
    write_atomically(folder / "scripts" / "__init__.py", b"")
    write_atomically(folder / "docs" / "README.md", tidy(_readme(values, scores, sizes)))
    write_atomically(folder / "LICENSE", _licence())


def _as_torchscript(network: Backbone, preparation: Mapping[str, Any], *, what: str) -> tuple[bytes, str]:
    """The network as TorchScript, and the sizes that it takes; checked against the network."""
    stride, channels = network.stride, network.in_channels
    if block := block_of(preparation):
        content = _trace(network, torch.rand(2, channels, *block))
        _check(content, network, [(1, *block), (3, *block)], what)
        return content, f"blocks of {' x '.join(map(str, block))} voxels only"
    padded = (int(preparation["padded"][0]), int(preparation["padded"][1]))
    height, width = fixed_size(padded, stride)
    try:
        content = _trace(AnySize(network, stride).eval(), torch.rand(2, channels, height + 1, width + 2 * stride - 1))
        _check(content, network, sizes_to_check(padded, stride), what)
        return content, f"images of any size above {stride} x {stride}"
    except (DataError, RuntimeError):
        content = _trace(network, torch.rand(2, channels, height, width))
        _check(content, network, [(1, height, width), (3, height, width)], what)
        return content, f"images of {height} x {width} only"


def _trace(network: nn.Module, image: Float[Tensor, "b c *space"]) -> bytes:
    file = io.BytesIO()
    with warnings.catch_warnings(), torch.no_grad():
        # what bundles hold is deprecated in PyTorch; and whether an image that fits has to be padded is asked in vain
        warnings.simplefilter("ignore")
        traced = torch.jit.trace(network, image)
        torch.jit.save(cast("torch.jit.ScriptModule", traced), file)
    return _without_places(file)


def _without_places(file: io.BytesIO) -> bytes:
    """TorchScript without what only its error messages use: the paths of the sources on this machine."""
    kept = io.BytesIO()
    with zipfile.ZipFile(file) as before, zipfile.ZipFile(kept, "w") as after:
        for entry in before.infolist():
            if not entry.filename.endswith(".debug_pkl"):
                after.writestr(zipfile.ZipInfo(entry.filename), before.read(entry))
    return kept.getvalue()


def _check(content: bytes, network: Backbone, batches: Sequence[tuple[int, ...]], what: str) -> None:
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        loaded = torch.jit.load(io.BytesIO(content))
        check_same(network, loaded, batches, channels=network.in_channels, what=what)


def _metadata(values: Mapping[str, Any], scores: Mapping[str, Any] | None, sizes: str) -> dict[str, Any]:
    preparation, names = values["recipe"], ", ".join(values["class_names"])
    channels = values.get("channels") or ["image"] * preparation["channels"]
    classes = {str(label["index"]): label["name"] for label in values["labels"]}
    block = block_of(preparation)
    sides: list[Any] = ["*", "*"] if block is None else [*block]
    shape: dict[str, Any] = {"spatial_shape": sides, "dtype": "float32", "is_patch_data": block is not None}
    image = {
        "type": "image", "format": "magnitude", "modality": preparation["modality"] or "n/a",
        "num_channels": len(channels),
        "value_range": [0, 1] if preparation["normalisation"] == "minmax" else [],
        "channel_def": {str(index): name for index, name in enumerate(channels)}, **shape,
    }  # fmt: skip
    return {
        "schema": SCHEMA,
        "version": "1.0.0",
        "changelog": {"1.0.0": f"exported by jcl {values['jcl']}"},
        "monai_version": _version("monai"),
        "pytorch_version": torch.__version__.split("+")[0],
        "numpy_version": importlib.metadata.version("numpy"),
        "required_packages_version": {name: _version(name) for name in TESTED if name != "monai"},
        "name": f"Segmentation of {names}",
        "task": f"Segmentation of {names}, {'slice by slice' if block is None else 'block by block'}",
        "description": f"A {values['backbone']['name']} for {sizes}; slices as scripts/slices.py turns them.",
        "authors": "the user of jcl who trained it",
        "copyright": "that of the user who trained it, and of the training data",
        "data_source": preparation["title"] or preparation["dataset"],
        "intended_use": "research; not a medical device",
        "references": ["Zeng et al. 2023, arXiv:2309.11876"],
        **({"eval_metrics": scores["mean"]} if scores else {}),
        "network_data_format": {
            "inputs": {"image": image},
            "outputs": {
                "pred": {
                    "type": "image", "format": "labels", "num_channels": len(classes), "value_range": [],
                    "channel_def": classes, **shape,
                }
            },
        },
        "jcl": dict(values),
    }  # fmt: skip


def _inference(values: Mapping[str, Any]) -> dict[str, Any]:
    """The config of `monai.bundle run`; every step answers one of `jcl predict`."""
    preparation, labels = values["recipe"], values["labels"]
    targets = [label["value"] for label in labels]
    kind = label_type(min(0, *targets), max(targets)) or "int64"
    block = block_of(preparation)
    script = "$torch.jit.load(@bundle_root + '/models/model.ts', map_location=@device).eval()"
    softmax = [{"_target_": "Activationsd", "keys": "pred", "softmax": True}] if block is None else []
    return {
        "imports": ["$import glob", "$import numpy", "$import torch"],
        "bundle_root": ".",
        "dataset_dir": "$@bundle_root + '/images'",
        "output_dir": "$@bundle_root + '/segmentations'",
        "batch_size": 16 if block is None else 4,
        "device": "$torch.device('cuda:0' if torch.cuda.is_available() else 'cpu')",
        "datalist": "$sorted(glob.glob(@dataset_dir + '/*.nii') + glob.glob(@dataset_dir + '/*.nii.gz'))",
        "network": script if block is None else {"_target_": "scripts.slices.BlockProbabilities", "network": script},
        "preprocessing": {"_target_": "Compose", "transforms": _preparation(preparation)},
        "dataset": {
            "_target_": "Dataset",
            "data": "$[{'image': file} for file in @datalist]",
            "transform": "@preprocessing",
        },
        "dataloader": {"_target_": "DataLoader", "dataset": "@dataset", "batch_size": 1, "num_workers": 0},
        "inferer": _inferer(block),
        "postprocessing": {
            "_target_": "Compose",
            "transforms": [
                *softmax,
                {
                    "_target_": "Invertd", "keys": "pred", "orig_keys": "image", "transform": "@preprocessing",
                    "nearest_interp": False, "to_tensor": True,
                },
                {"_target_": "AsDiscreted", "keys": "pred", "argmax": True},
                {
                    "_target_": "MapLabelValued", "keys": "pred",
                    "orig_labels": [label["index"] for label in labels], "target_labels": targets,
                    "dtype": "$numpy.int64" if max(targets) > HIGHEST else "$numpy.int32",
                },
                {
                    "_target_": "SaveImaged", "keys": "pred", "output_dir": "@output_dir", "output_postfix": "",
                    "separate_folder": False, "resample": False, "output_dtype": f"$numpy.{kind}",
                },
            ],
        },
        "evaluator": {
            "_target_": "SupervisedEvaluator", "device": "@device", "val_data_loader": "@dataloader",
            "network": "@network", "inferer": "@inferer", "postprocessing": "@postprocessing",
        },
        "run": ["$@evaluator.run()"],
    }  # fmt: skip


def _inferer(block: Block | None) -> dict[str, Any]:
    """Whole slices, or windows as `jcl.inference.windows` slides them, over rows, columns and slices."""
    if block is None:
        return {"_target_": "SliceInferer", "roi_size": [-1, -1], "spatial_dim": 2, "sw_batch_size": "@batch_size"}
    return {
        "_target_": "SlidingWindowInferer", "roi_size": [*block[1:], block[0]], "sw_batch_size": "@batch_size",
        "overlap": OVERLAP, "mode": "gaussian", "sigma_scale": SIGMA,
    }  # fmt: skip


def _preparation(preparation: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The preparation in MONAI's transforms, on (channels, rows, columns, slices)."""
    scaling = _scaling(preparation)
    fit = preparation["size"] if preparation.get("fit") else None
    context, through = context_of(preparation), through_of(preparation)
    padding = {"_target_": "SpatialPadd", "keys": "image", "spatial_size": [*preparation["padded"], -1]}
    return [
        {"_target_": "LoadImaged", "keys": "image", "ensure_channel_first": True, "image_only": True},
        {"_target_": "scripts.slices.TurnSlicesd", "keys": "image"},
        *scaling,
        *([{"_target_": "scripts.slices.ResampleThroughd", "keys": "image", "spacing": through}] if through else []),
        {"_target_": "scripts.slices.ResampleSlicesd", "keys": "image", "spacing": preparation["spacing"], "fit": fit},
        *([padding] if block_of(preparation) is None else []),
        *([{"_target_": "scripts.slices.AddNeighboursd", "keys": "image", "context": context}] if context else []),
    ]


def _scaling(preparation: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Clipping, to percentiles or to a window, and what follows it."""
    window, zscore = window_of(preparation), preparation["normalisation"] == "zscore"
    if window is None:
        low, high = preparation["clip"]
        clip = {"keys": "image", "lower": low, "upper": high, "channel_wise": True}
        if zscore:
            clipped = {"_target_": "ClipIntensityPercentilesd", **clip}
        else:
            clipped = {"_target_": "ScaleIntensityRangePercentilesd", **clip, "b_min": 0.0, "b_max": 1.0, "clip": True}
    else:
        low, high = window
        bounds = {"b_min": low, "b_max": high} if zscore else {"b_min": 0.0, "b_max": 1.0}
        clipped = {"_target_": "ScaleIntensityRanged", "keys": "image", "a_min": low, "a_max": high, **bounds}
        clipped["clip"] = True
    normal = {"_target_": "NormalizeIntensityd", "keys": "image", "channel_wise": True}
    return [clipped, normal] if zscore else [clipped]


def _readme(values: Mapping[str, Any], scores: Mapping[str, Any] | None, sizes: str) -> str:
    names = ", ".join(values["class_names"])
    return README.format(
        title=f"Segmentation of {names}", backbone=values["backbone"]["name"], names=names, version=values["jcl"],
        labels="\n".join(f"- {label['value']}: {label['name']}" for label in values["labels"]), sizes=sizes,
        scores="" if scores is None else f"\n## Scores\n\n{table_of(scores)}\n",
    )  # fmt: skip


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return TESTED[package]


def _licence() -> bytes:
    """That of the programs in the bundle; the weights are their owner's."""
    return tidy(
        "The programs in this bundle (scripts, configs) come from jcl and are under the Apache License 2.0,\n"
        "https://www.apache.org/licenses/LICENSE-2.0. The weights are of the person who trained them, under the terms\n"
        "of the training data; put your licence here.\n"
    )
