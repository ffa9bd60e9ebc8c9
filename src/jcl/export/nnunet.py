"""Pre-trained weights for nnU-Net v2: what its `-pretrained_weights` takes, and the plan of the network."""

import io
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from jcl import backbones
from jcl.data.context import taken_context
from jcl.errors import UsageError
from jcl.export.contents import contents
from jcl.files import write_atomically, write_json
from jcl.text import printable

__all__ = ["write_nnunet"]

BACKBONE = "plain_conv_unet"
CONFIGURATION = "2d"
CHECKPOINT = "checkpoint_final.pth"
HEAD = "decoder.seg_layers."
NETWORK_CLASS = "dynamic_network_architectures.architectures.unet.PlainConvUNet"
CLASSES_BY_NAME = {
    "conv_op": "torch.nn.modules.conv.Conv2d",
    "norm_op": "torch.nn.modules.instancenorm.InstanceNorm2d",
    "nonlin": "torch.nn.LeakyReLU",
}
NOTE = (
    "Written by jcl as pre-trained weights: nnU-Net's preparation of images is another, so fine-tune with it "
    "(nnUNetv2_train ... -pretrained_weights fold_0/checkpoint_final.pth), do not predict."
)


def write_nnunet(folder: Path, weights: Mapping[str, Tensor], info: Mapping[str, Any], *, what: str) -> None:
    """Write dataset.json, plans.json and fold_0/checkpoint_final.pth into an empty folder.

    The checkpoint is a pickle, as nnU-Net wants it, of tensors and plain values alone: `torch.load(weights_only=True)`
    reads it. Each weight is there under all names that nnU-Net's class has for it.

    Args:
        weights: of the network, by the names of `jcl.backbones.plain_conv_unet`; what a pre-training left out is drawn.
        info: of the run; that of a pre-training says which parts were trained.
        what: the run, for messages.

    Raises:
        UsageError: the run has another backbone, or sees slices with neighbours.
        DataError: a file cannot be written.
    """
    backbone = dict(info["backbone"])
    if backbone["name"] != BACKBONE:
        raise UsageError(
            f"{what}: its backbone is {backbone['name']}, which nnU-Net does not have;"
            f" pre-train with --backbone {BACKBONE}"
        )
    if context := taken_context(info, what):
        raise UsageError(
            f"{what}: it sees each slice with its neighbours (context {context}), which nnU-Net's 2d configuration "
            "does not; export a run of --context 0"
        )
    whole = _complete(weights, backbone)
    checkpoint = {
        "network_weights": {name: tensor for own, value in whole.items() for name, tensor in _names_of(own, value)},
        "trainer_name": "nnUNetTrainer",
        "current_epoch": 0,
        "init_args": {"configuration": CONFIGURATION, "fold": 0},
        "inference_allowed_mirroring_axes": None,
        "jcl": contents(info),
    }
    file = io.BytesIO()
    torch.save(checkpoint, file)
    (folder / "fold_0").mkdir()
    write_atomically(folder / "fold_0" / CHECKPOINT, file.getvalue())
    write_json(folder / "plans.json", _plans(backbone, info))
    write_json(folder / "dataset.json", _dataset(backbone, info))
    _tell_fresh(whole, info, what)


def _complete(weights: Mapping[str, Tensor], backbone: Mapping[str, Any]) -> dict[str, Tensor]:
    """All weights of the network; those of a part that the run does not have are drawn as for a new one."""
    settings = {name: value for name, value in backbone.items() if name != "name"}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        fresh = backbones.load(BACKBONE)(**settings).state_dict()
    return {name: weights.get(name, value).detach().cpu().contiguous() for name, value in fresh.items()}


def _names_of(name: str, value: Tensor) -> list[tuple[str, Tensor]]:
    """A weight under each of its names: layers are in `all_modules` as well, the encoder in the decoder."""
    names = [name]
    for layer, number in (("conv", 0), ("norm", 1)):
        again = re.sub(rf"(convs\.\d+)\.{layer}\.", rf"\1.all_modules.{number}.", name)
        names += [again] if again != name else []
    if name.startswith("encoder."):
        names += [f"decoder.{each}" for each in names]
    return [(each, value) for each in names]


def _tell_fresh(whole: Mapping[str, Tensor], info: Mapping[str, Any], what: str) -> None:
    """nnU-Net takes the whole network, so users have to know what of it was never trained."""
    trained = tuple(f"{part}." for part in info.get("transfers", ()))
    fresh = {name.rsplit(".", 1)[0] for name in whole if trained and not name.startswith((*trained, HEAD))}
    if fresh:
        parts = sorted({".".join(name.split(".")[:3]) for name in fresh})
        print(printable(f"{what}: not pre-trained, so random in nnU-Net too: {', '.join(parts)}"), file=sys.stderr)


def _plans(backbone: Mapping[str, Any], info: Mapping[str, Any]) -> dict[str, Any]:
    """The architecture in the form of nnU-Net's plans; the rest of a plan comes from the data of its user."""
    stages = 5
    keywords: dict[str, Any] = {
        "n_stages": stages,
        "features_per_stage": [backbone["width"] * 2**stage for stage in range(stages)],
        "kernel_sizes": [[3, 3]] * stages,
        "strides": [[1, 1], *[[2, 2]] * (stages - 1)],
        "n_conv_per_stage": [2] * stages,
        "n_conv_per_stage_decoder": [2] * (stages - 1),
        "conv_bias": True,
        "norm_op_kwargs": {"eps": 1e-5, "affine": True},
        "dropout_op": None,
        "dropout_op_kwargs": None,
        "nonlin_kwargs": {"inplace": True},
        **CLASSES_BY_NAME,
    }
    architecture = {
        "network_class_name": NETWORK_CLASS,
        "arch_kwargs": keywords,
        "_kw_requires_import": [*CLASSES_BY_NAME, "dropout_op"],
    }
    return {
        "plans_name": "jclPlans",
        "configurations": {CONFIGURATION: {"architecture": architecture}},
        "note": f"{NOTE} Copy `architecture` into the plans of your data; patch sizes have to be multiples of 16.",
        "jcl": contents(info),
    }


def _dataset(backbone: Mapping[str, Any], info: Mapping[str, Any]) -> dict[str, Any]:
    values = contents(info)
    labels = {label["name"]: label["index"] for label in values.get("labels", [{"name": "background", "index": 0}])}
    return {
        "channel_names": {str(index): f"channel {index}" for index in range(backbone["in_channels"])},
        "labels": labels,
        "numTraining": 0,
        "file_ending": ".nii.gz",
        "note": NOTE,
        "jcl": values,
    }
