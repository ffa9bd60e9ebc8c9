"""Pre-trained weights for nnU-Net v2: what its `-pretrained_weights` takes, and the plan of the network."""

import io
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from jcl import backbones
from jcl.backbones import Backbone, dimensions_of, growth
from jcl.backbones._nnunet import BLOCKS
from jcl.data.context import taken_context
from jcl.errors import UsageError
from jcl.export.contents import contents
from jcl.files import write_atomically, write_json
from jcl.text import printable

__all__ = ["write_nnunet"]

ARCHITECTURES = "dynamic_network_architectures.architectures.unet"
CLASSES = {
    "plain_conv_unet": "PlainConvUNet",
    "plain_conv_unet3d": "PlainConvUNet",
    "residual_encoder_unet": "ResidualEncoderUNet",
    "residual_encoder_unet3d": "ResidualEncoderUNet",
}
"""Networks that nnU-Net has, and what they are called there."""
CONFIGURATIONS = {2: "2d", 3: "3d_fullres"}
CHECKPOINT = "checkpoint_final.pth"
HEAD = "decoder.seg_layers."
NOTE = (
    "Written by jcl as pre-trained weights: nnU-Net's preparation of images is another, so fine-tune with it "
    "(nnUNetv2_train ... -pretrained_weights fold_0/checkpoint_final.pth), do not predict."
)


def write_nnunet(folder: Path, weights: Mapping[str, Tensor], info: Mapping[str, Any], *, what: str) -> None:
    """Write dataset.json, plans.json and fold_0/checkpoint_final.pth into an empty folder.

    The checkpoint is a pickle, as nnU-Net wants it, of tensors and plain values alone: `torch.load(weights_only=True)`
    reads it. Each weight is there under all names that nnU-Net's class has for it.

    Args:
        weights: of the network, by the names of `jcl.backbones`; what a pre-training left out is drawn.
        info: of the run; that of a pre-training says which parts were trained.
        what: the run, for messages.

    Raises:
        UsageError: the run has another backbone, or sees slices with neighbours.
        DataError: a file cannot be written.
    """
    backbone = dict(info["backbone"])
    if backbone["name"] not in CLASSES:
        raise UsageError(
            f"{what}: its backbone is {backbone['name']}, which nnU-Net does not have;"
            f" pre-train with --backbone {', '.join(list(CLASSES)[:-1])} or {list(CLASSES)[-1]}"
        )
    if context := taken_context(info, what):
        raise UsageError(
            f"{what}: it sees each slice with its neighbours (context {context}), which nnU-Net's 2d configuration "
            "does not; export a run of --context 0"
        )
    network = _new_network(backbone)
    whole = {name: weights.get(name, value).detach().cpu().contiguous() for name, value in network.state_dict().items()}
    checkpoint = {
        "network_weights": {name: tensor for own, value in whole.items() for name, tensor in _names_of(own, value)},
        "trainer_name": "nnUNetTrainer",
        "current_epoch": 0,
        "init_args": {"configuration": CONFIGURATIONS[dimensions_of(network)], "fold": 0},
        "inference_allowed_mirroring_axes": None,
        "jcl": contents(info),
    }
    file = io.BytesIO()
    torch.save(checkpoint, file)
    (folder / "fold_0").mkdir()
    write_atomically(folder / "fold_0" / CHECKPOINT, file.getvalue())
    write_json(folder / "plans.json", _plans(network, CLASSES[backbone["name"]], info))
    write_json(folder / "dataset.json", _dataset(backbone, info))
    _tell_fresh(whole, info, what)


def _new_network(backbone: Mapping[str, Any]) -> Backbone:
    """The network of the run, its weights drawn anew: those of a part that the run does not have are taken from it."""
    settings = {name: value for name, value in backbone.items() if name != "name"}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return backbones.load(backbone["name"])(**settings)


def _names_of(name: str, value: Tensor) -> list[tuple[str, Tensor]]:
    """A weight under each of its names: layers are in `all_modules` as well, the encoder in the decoder."""
    names = [name]
    for layer, number in (("conv", 0), ("norm", 1)):
        again = re.sub(rf"(convs\.\d+|conv[12]|skip\.\d+)\.{layer}\.", rf"\1.all_modules.{number}.", name)
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


def _plans(network: Backbone, kind: str, info: Mapping[str, Any]) -> dict[str, Any]:
    """The architecture in the form of nnU-Net's plans; the rest of a plan comes from the data of its user."""
    sides, stages = dimensions_of(network), network.blocks + 1
    strides: Sequence[Sequence[int]] = getattr(network, "strides", ((2,) * sides,) * network.blocks)
    residual = kind == "ResidualEncoderUNet"
    classes = {
        "conv_op": f"torch.nn.modules.conv.Conv{sides}d",
        "norm_op": f"torch.nn.modules.instancenorm.InstanceNorm{sides}d",
        "nonlin": "torch.nn.LeakyReLU",
    }
    keywords: dict[str, Any] = {
        "n_stages": stages,
        "features_per_stage": list(network.feature_channels),
        "kernel_sizes": [[3] * sides] * stages,
        "strides": [[1] * sides, *map(list, strides)],
        **({"n_blocks_per_stage": list(BLOCKS[:stages])} if residual else {"n_conv_per_stage": [2] * stages}),
        "n_conv_per_stage_decoder": [1 if residual else 2] * (stages - 1),
        "conv_bias": True,
        "norm_op_kwargs": {"eps": 1e-5, "affine": True},
        "dropout_op": None,
        "dropout_op_kwargs": None,
        "nonlin_kwargs": {"inplace": True},
        **classes,
    }
    architecture = {
        "network_class_name": f"{ARCHITECTURES}.{kind}",
        "arch_kwargs": keywords,
        "_kw_requires_import": [*classes, "dropout_op"],
    }
    whole = growth(network, network.blocks)
    multiples = str(whole[0]) if sides == 2 else " x ".join(map(str, whole))
    return {
        "plans_name": "jclPlans",
        "configurations": {CONFIGURATIONS[sides]: {"architecture": architecture}},
        "note": f"{NOTE} Copy `architecture` into the plans of your data; patches have to be multiples of {multiples}.",
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
