"""Writes plain_conv_unet.json: names, shapes and an answer of the network that nnU-Net's planner asks for.

In an environment of its own; the package asks for timm, which this network does not use:

    python -m venv nnunet-environment
    nnunet-environment/bin/pip install torch==2.13.0 numpy
    nnunet-environment/bin/pip install --no-deps dynamic-network-architectures==0.4.4
    nnunet-environment/bin/python tests/oracles/make_plain_conv_unet.py

Two channels, three classes, five stages from width 2, in float64. Weights and image follow a formula (`wave`), so that
they need not be stored. The settings are those of the ExperimentPlanner of nnunetv2 2.8.1 for two dimensions.
"""

import importlib.metadata
import json
import math
from pathlib import Path

import torch
from dynamic_network_architectures.architectures.unet import PlainConvUNet
from torch import nn


def wave(shape: tuple[int, ...], phase: int) -> torch.Tensor:
    """sin of 1, 2, 3, … plus the phase, over the root of the values that a row of the tensor has."""
    values = torch.sin(torch.arange(1, math.prod(shape) + 1, dtype=torch.float64) + phase)
    return (values / math.sqrt(math.prod(shape[1:]))).reshape(shape)


def main() -> None:
    network = PlainConvUNet(
        input_channels=2,
        n_stages=5,
        features_per_stage=[2, 4, 8, 16, 32],
        conv_op=nn.Conv2d,
        kernel_sizes=[[3, 3]] * 5,
        strides=[[1, 1]] + [[2, 2]] * 4,
        n_conv_per_stage=[2] * 5,
        num_classes=3,
        n_conv_per_stage_decoder=[2] * 4,
        conv_bias=True,
        norm_op=nn.InstanceNorm2d,
        norm_op_kwargs={"eps": 1e-5, "affine": True},
        nonlin=nn.LeakyReLU,
        nonlin_kwargs={"inplace": True},
        deep_supervision=False,
    ).double()
    for phase, (_, parameter) in enumerate(sorted(network.named_parameters())):
        parameter.data.copy_(wave(tuple(parameter.shape), phase))
    with torch.no_grad():
        logits = network(wave((2, 2, 32, 48), phase=0))
    content = {
        "made by": f"dynamic-network-architectures {importlib.metadata.version('dynamic-network-architectures')}, "
        f"torch {torch.__version__}",
        "state": {name: list(tensor.shape) for name, tensor in network.state_dict().items()},
        "parameters": [name for name, _ in network.named_parameters()],
        "logits": logits[:, :, ::4, ::4].tolist(),
    }
    Path(__file__).with_name("plain_conv_unet.json").write_text(json.dumps(content) + "\n")


if __name__ == "__main__":
    main()
