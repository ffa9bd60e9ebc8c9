"""Writes nnunet_networks.json: names, shapes and answers of nnU-Net's networks, of two and three dimensions.

In the environment of make_plain_conv_unet.py:

    nnunet-environment/bin/python tests/oracles/make_nnunet_networks.py

Two channels, three classes, width 2, in float64; weights and images follow the formula of make_plain_conv_unet.py. All
names of a state dict, each with its shape, are kept as one digest, since most of them are second names of a parameter.
"""

import hashlib
import importlib.metadata
import json
from pathlib import Path

import torch
from dynamic_network_architectures.architectures.unet import PlainConvUNet, ResidualEncoderUNet
from make_plain_conv_unet import wave
from torch import nn

NETWORKS = {
    "plain_conv_unet3d": (PlainConvUNet, [[1, 2, 2], [2, 2, 2]], [2, 4, 8], (2, 2, 4, 16, 24)),
    "residual_encoder_unet": (ResidualEncoderUNet, [[2, 2]] * 4, [2, 4, 8, 16, 32], (2, 2, 32, 48)),
    "residual_encoder_unet3d": (ResidualEncoderUNet, [[1, 2, 2], [2, 2, 2]], [2, 4, 8], (2, 2, 4, 16, 24)),
}
"""Class, strides behind the first level, channels, shape of the images."""


def main() -> None:
    version = importlib.metadata.version("dynamic-network-architectures")
    content = {"made by": f"dynamic-network-architectures {version}, torch {torch.__version__}"}
    for name, (kind, strides, channels, shape) in NETWORKS.items():
        sides, stages = len(strides[0]), len(channels)
        residual = kind is ResidualEncoderUNet
        own = {"n_blocks_per_stage": [1, 3, 4, 6, 6][:stages]} if residual else {"n_conv_per_stage": [2] * stages}
        network = kind(
            input_channels=2,
            n_stages=stages,
            features_per_stage=channels,
            conv_op=nn.Conv2d if sides == 2 else nn.Conv3d,
            kernel_sizes=[[3] * sides] * stages,
            strides=[[1] * sides, *strides],
            num_classes=3,
            n_conv_per_stage_decoder=[1 if residual else 2] * (stages - 1),
            conv_bias=True,
            norm_op=nn.InstanceNorm2d if sides == 2 else nn.InstanceNorm3d,
            norm_op_kwargs={"eps": 1e-5, "affine": True},
            nonlin=nn.LeakyReLU,
            nonlin_kwargs={"inplace": True},
            deep_supervision=False,
            **own,
        ).double()
        for phase, (_, parameter) in enumerate(sorted(network.named_parameters())):
            parameter.data.copy_(wave(tuple(parameter.shape), phase))
        with torch.no_grad():
            logits = network(wave(shape, phase=0))
        state = {key: list(tensor.shape) for key, tensor in sorted(network.state_dict().items())}
        content[name] = {
            "state": hashlib.sha256(json.dumps(state).encode()).hexdigest(),
            "parameters": {key: list(parameter.shape) for key, parameter in network.named_parameters()},
            "image": shape,
            "logits": logits[..., ::4, ::4].tolist(),
        }
    Path(__file__).with_name("nnunet_networks.json").write_text(json.dumps(content) + "\n")


if __name__ == "__main__":
    main()
