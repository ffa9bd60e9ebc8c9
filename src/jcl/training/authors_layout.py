"""The names that the programs of MACL and PCL give to the weights of their network, and those of `macl_unet`."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from jcl import backbones
from jcl.errors import DataError

__all__ = ["PROGRAMS", "Adopted", "adopt", "fold_biases", "program_of", "their_name"]

NETWORK = "macl_unet"

PROGRAMS = {"macl": ("share_encoder", "online_decoder"), "pcl": ("encoder", "decoder")}
"""What each calls encoder and decoder; PCL has a decoder in its segmentation network only."""

LEFT_OUT = (
    "target_instance_projector.",
    "online_instance_projector.",
    "target_pixel_projector.",
    "head.",
    "decoder.head.",
)
"""Of either: projectors, which end with the pre-training, and classes of another task."""

FIRST = "encoder.blocks.0.0.weight"


@dataclass(frozen=True)
class Adopted:
    """Weights of `macl_unet` by their names there, and the settings with which it has them."""

    in_channels: int
    width: int
    parts: tuple[str, ...]
    """Names of the submodules that they are of: the encoder, and all decoder blocks or none."""
    weights: dict[str, Tensor]


def program_of(weights: Mapping[str, Tensor]) -> str:
    """Whose checkpoint it is, by its names.

    Raises:
        DataError: neither's.
    """
    for program, (encoder, _) in PROGRAMS.items():
        if any(name.startswith(f"{encoder}.") for name in weights):
            return program
    like = " or ".join(their_name(FIRST, program) for program in PROGRAMS)
    raise DataError(f"neither of MACL nor of PCL: it has {next(iter(weights)):.80}, where theirs have {like}")


def adopt(weights: Mapping[str, Tensor], program: str) -> Adopted:
    """The weights of a checkpoint as those of `macl_unet`, whose width and channels are found from their shapes.

    Raises:
        DataError: a tensor is missing, has another shape, is not finite, or is none of theirs.
    """
    first = weights.get(their_name(FIRST, program))
    if first is None or first.ndim != 4:
        raise DataError(f"{their_name(FIRST, program)} is missing or no convolution, so that this is none of {program}")
    width, in_channels = first.shape[:2]
    with torch.device("meta"):  # names and shapes alone
        network = backbones.load(NETWORK)(in_channels=in_channels, classes=2, width=width)
    given = {name: tensor for name, tensor in fold_biases(weights).items() if not name.startswith(LEFT_OUT)}
    decodes = program == "macl" or any(name.startswith("decoder.") for name in given)
    parts = network.submodule_names(network.blocks if decodes else 0)
    own = network.state_dict()
    names = {their_name(n, program): n for n in own if n.startswith(tuple(f"{part}." for part in parts))}
    _check(given, {theirs: own[name] for theirs, name in names.items()}, program)
    return Adopted(in_channels, width, parts, {n: given[theirs].to(own[n].dtype) for theirs, n in names.items()})


def _check(given: Mapping[str, Tensor], wanted: Mapping[str, Tensor], program: str) -> None:
    if missing := [name for name in wanted if name not in given]:
        raise DataError(
            f"{missing[0]} is missing ({len(missing)} of {len(wanted)} tensors of {program}); it was cut short, or is "
            "of another network"
        )
    if surplus := [name for name in given if name not in wanted]:
        raise DataError(f"{surplus[0]:.80} is no tensor of {program} ({len(surplus)} such); it is of another network")
    for name, tensor in wanted.items():
        if given[name].shape != tensor.shape:
            shapes = f"{tuple(given[name].shape)}, where {tuple(tensor.shape)} belongs to the width of its first layer"
            raise DataError(f"{name} has shape {shapes}; it is of another network")
        if not torch.isfinite(given[name]).all():
            raise DataError(f"{name} is NaN or infinite, so that nothing can be computed with it; take another one")


def their_name(name: str, program: str) -> str:
    """What the program calls a tensor of `macl_unet`.

    Examples:
        >>> their_name("encoder.blocks.1.3.weight", "macl"), their_name("decoder.0.units.1.bias", "pcl")
        ('share_encoder.contr_2_2.0.weight', 'decoder.expand_4_1.1.bias')
    """
    encoder, decoder = PROGRAMS[program]
    match name.split("."):
        case ["encoder", "blocks", "4", layer, kind]:
            return f"{encoder}.center.{layer}.{kind}"
        case ["encoder", "blocks", level, layer, kind]:
            return f"{encoder}.contr_{int(level) + 1}_{_unit(layer)}.{kind}"
        case ["decoder", block, "up", kind]:
            return f"{decoder}.upscale{5 - int(block)}.{kind}"
        case ["decoder", block, "units", layer, kind]:
            return f"{decoder}.expand_{4 - int(block)}_{_unit(layer)}.{kind}"
        case _:
            return name


def _unit(layer: str) -> str:
    """Number of the unit and of the layer in it, from that in two units of three layers."""
    unit, within = divmod(int(layer), 3)
    return f"{unit + 1}.{within}"


def fold_biases(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights without biases right before a batch normalisation, by their own names.

    A normalisation takes such a bias out again: by the mean of the batch in training, and afterwards by the running
    mean, of which it is therefore taken off.
    """
    folded = dict(weights)
    for name, mean in weights.items():
        before, _, layer = name.removesuffix(".running_mean").rpartition(".")
        bias = f"{before}.{int(layer) - 1}.bias" if name.endswith(".running_mean") and layer.isdecimal() else ""
        if bias in weights and weights[bias].shape == mean.shape:
            folded[name] = mean - folded.pop(bias)
    return folded
