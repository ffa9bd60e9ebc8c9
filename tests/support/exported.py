"""A fine-tuned run to export, whose network answers with every class all over an image."""

from pathlib import Path
from typing import Any

import torch
from torch import Generator, nn

from jcl.backbones.unet import UNet
from jcl.backbones.unet3d import UNet3D
from jcl.data.block_plan import with_block
from jcl.data.context import span_of, with_context
from support.thresholds import make_recipe_of, write_run

STRIDES = [[1, 2, 2], [2, 2, 2]]

LABELS = {200: "Myo", 500: "LV", 600: "RV"}


def random_network(classes: int = 4, channels: int = 1) -> UNet:
    """Small, with running statistics that are not those of a new network."""
    torch.manual_seed(0)
    network = UNet(in_channels=channels, classes=classes, width=2)
    generator = Generator().manual_seed(0)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(std=0.1, generator=generator)
            module.running_var.uniform_(0.2, 0.6, generator=generator)
    with torch.no_grad():  # no class is the likeliest everywhere
        logits = network.eval()(torch.rand(2, channels, 64, 64, generator=generator))
        network.head.bias -= logits.mean((0, 2, 3))
    return network


def random_volume_network(block: tuple[int, int, int], classes: int = 4) -> UNet3D:
    """The like of it for blocks."""
    torch.manual_seed(0)
    network = UNet3D(in_channels=1, classes=classes, width=2, strides=STRIDES)
    generator = Generator().manual_seed(0)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm3d):
            module.running_mean.normal_(std=0.1, generator=generator)
            module.running_var.uniform_(0.2, 0.6, generator=generator)
    with torch.no_grad():
        logits = network.eval()(torch.rand(2, 1, *block, generator=generator))
        network.head.bias -= logits.mean((0, 2, 3, 4))
    return network


def write_random_volume_run(run: Path, block: tuple[int, int, int], **preparation: Any) -> Path:
    recipe = make_recipe_of(LABELS, **{"padded": (40, 56), "clip": (1.0, 99.0), **preparation})
    backbone = {"name": "unet3d", "strides": STRIDES}
    return write_run(run, random_volume_network(block), with_block(recipe, block), backbone=backbone)


def write_random_run(run: Path, *, context: int = 0, **preparation: Any) -> Path:
    recipe = make_recipe_of(LABELS, **{"padded": (40, 56), "clip": (1.0, 99.0), **preparation})
    return write_run(run, random_network(channels=span_of(context)), with_context(recipe, context))
