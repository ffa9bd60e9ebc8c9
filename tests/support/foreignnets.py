"""Networks of others as backbones: MONAI's, and one of this package treated as a stranger."""

import torch
from torch import Tensor, nn

from jcl.backbones._adapter import Adapted, adapt
from jcl.backbones.plain_conv_unet import PlainConvUNet


def plain(*, in_channels: int = 1, classes: int = 3, width: int = 4) -> Adapted:
    """nnU-Net's layout: an upsampling and a stage, joined by concatenation."""
    return adapt(PlainConvUNet(in_channels=in_channels, classes=classes, width=width), **PLAIN)


PLAIN = {
    "encoder": [f"encoder.stages.{n}" for n in range(5)],
    "decoder": [(f"decoder.transpconvs.{n}", f"decoder.stages.{n}") for n in range(4)],
    "head": "decoder.seg_layers.3",
}


def basic_unet(*, in_channels: int, classes: int, width: int) -> Adapted:
    """The last of its six numbers of features is that of the last decoder block."""
    from monai.networks.nets import BasicUNet

    features = (width, 2 * width, 4 * width, 8 * width, 16 * width, width)
    net = BasicUNet(spatial_dims=2, in_channels=in_channels, out_channels=classes, features=features)
    return adapt(
        net,
        encoder=["conv_0", "down_1", "down_2", "down_3", "down_4"],
        decoder=["upcat_4", "upcat_3", "upcat_2", "upcat_1"],
        head="final_conv",
    )


def attention_unet(*, in_channels: int, classes: int, width: int) -> Adapted:
    """Each layer holds the next deeper one, and a decoder block of three submodules."""
    from monai.networks.nets import AttentionUnet

    channels = [width * 2**level for level in range(5)]
    net = AttentionUnet(
        spatial_dims=2, in_channels=in_channels, out_channels=classes, channels=channels, strides=[2] * 4
    )
    layers = ["model.1" + n * ".submodule.1" for n in range(4)]
    return adapt(
        net,
        encoder=["model.0", *(f"{layer}.submodule.0" for layer in layers[:-1]), f"{layers[-1]}.submodule"],
        decoder=[(attend, f"{x}.upconv", f"{x}.attention", f"{x}.merge") for x in reversed(layers)],
        head="model.2",
    )


def attend(upconv: nn.Module, attention: nn.Module, merge: nn.Module, x: Tensor, skip: Tensor) -> Tensor:
    up = upconv(x)
    return merge(torch.cat([attention(g=up, x=skip), up], dim=1))


def dyn_unet(*, in_channels: int, classes: int, width: int) -> Adapted:
    """Its state dict has every tensor twice."""
    from monai.networks.nets import DynUNet

    net = DynUNet(
        spatial_dims=2,
        in_channels=in_channels,
        out_channels=classes,
        kernel_size=[3] * 5,
        strides=[1, 2, 2, 2, 2],
        upsample_kernel_size=[2] * 4,
        filters=[width * 2**level for level in range(5)],
    )
    return adapt(
        net,
        encoder=["input_block", "downsamples.0", "downsamples.1", "downsamples.2", "bottleneck"],
        decoder=[f"upsamples.{n}" for n in range(4)],
        head="output_block",
    )
