"""Fine-tuned runs whose network is known: the class of a pixel follows from its own intensity alone."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch

from jcl.backbones import Backbone
from jcl.backbones.unet import UNet
from jcl.data.context import context_of, span_of
from jcl.data.datasets import DatasetSpec
from jcl.data.preparation import make_preparation
from jcl.data.splits import Split, write_split
from jcl.training.run_folder import save_model, start_run

STEEP = 50.0
"""Logits per unit of intensity; soft enough for probabilities to be interpolated sensibly."""


def threshold_network(*thresholds: float, channels: int = 1) -> UNet:
    """A U-Net that gives class k where the intensity (of the last channel, at least 0) exceeds k thresholds.

    One channel of the first block's convolutions and of the last decoder block's hands the pixel through;
    all other weights are 0.
    """
    network = UNet(in_channels=channels, classes=len(thresholds) + 1, width=2)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            parameter.zero_()
            if parameter.ndim == 1 and name.endswith("weight"):
                parameter.fill_(1)  # of a batch normalisation, whose running mean is 0 and variance 1
        first, last = network.encoder.blocks[0], network.decoder[-1].units
        first[0].weight[0, channels - 1, 1, 1] = 1
        first[3].weight[0, 0, 1, 1] = 1
        last[0].weight[0, 2, 1, 1] = 1  # channels 0 and 1 come from below, 2 and 3 are the skip
        last[3].weight[0, 0, 1, 1] = 1
        for module in network.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.running_var.fill_(1 - module.eps)
        for number in range(1, len(thresholds) + 1):
            network.head.weight[number, 0] = number * STEEP
            network.head.bias[number] = -sum(thresholds[:number]) * STEEP
    return network.eval()


def make_recipe_of(labels: dict[int, str], *, padded: tuple[int, int] = (16, 16), **spec: Any) -> dict[str, Any]:
    """A preparation as a store has it; intensities go from the smallest to the largest value of the volume."""
    settings = {"name": "folder", "labels": labels, "clip": (0.0, 100.0), **spec}
    return {**make_preparation(DatasetSpec(**settings), labels, size_given=False), "padded": list(padded)}


def write_run(
    run: Path,
    network: Backbone,
    preparation: dict[str, Any],
    *,
    backbone: Mapping[str, Any] = MappingProxyType({}),
    store: str = "nowhere",
    digest: str = "",
    split: Split | None = None,
    **more: Any,
) -> Path:
    """A finished run folder of a fine-tuning."""
    described = {
        "name": "unet",
        "in_channels": span_of(context_of(preparation)) * preparation["channels"],
        "classes": len(preparation["classes"]) + 1,
        "width": 2,
        **backbone,
    }
    info = {**more, "kind": "finetune", "settings": {}, "backbone": described, "class_names": preparation["classes"]}
    start_run(run, {**info, "store": store, "store_digest": digest, "recipe": preparation})
    save_model(run, network)
    write_split(run / "split.json", split or Split(("a",), (), ("b",)))
    return run
