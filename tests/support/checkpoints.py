"""Checkpoints as the authors' programs save them, of networks of ours or of anything else."""

from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from jcl.backbones.macl_unet import MACLUNet
from jcl.training.authors_layout import PROGRAMS, their_name


def authors_state(network: MACLUNet, program: str, *, decoder: bool = True) -> OrderedDict[str, Tensor]:
    """A network's encoder, and decoder, by the program's names, with biases before the batch normalisations.

    The running means are those that give the same outputs.
    """
    found: OrderedDict[str, Tensor] = OrderedDict()
    for name, tensor in network.state_dict().items():
        if not name.startswith("encoder.") and not (decoder and name.startswith("decoder.")):
            continue
        theirs, value = their_name(name, program), tensor.clone()
        if name.endswith("running_mean"):
            stem, _, layer = theirs.removesuffix(".running_mean").rpartition(".")
            bias = torch.linspace(-1, 1, len(value))
            found[f"{stem}.{int(layer) - 1}.bias"], value = bias, value + bias
        found[theirs] = value
    if program == "macl":
        found["target_instance_projector.2.weight"] = torch.ones(2, 2)
    assert all(name.startswith((*PROGRAMS[program], "target")) for name in found)
    return found


def save(path: Path, state: Mapping[str, Tensor]) -> Path:
    """As `latest.pth` of MACL's program."""
    torch.save({"net": state}, path)
    return path
