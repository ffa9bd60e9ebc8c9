"""What the authors' own programs give, and which of our tensors theirs are.

MACL is github.com/stevezs315/MACL at 89e01cb, PCL github.com/dewenzeng/positional_cl at bf339fc. Both were run from
their unchanged files with PyTorch 2.13 on a CPU, in float64, on inputs in float32; results are rounded to float32 in
the safetensors files and are as they were in the others. Networks have width 4. Their weights are the program's first
ones (seeds 0, 1 and 2), with batch normalisations and biases without one behind them spread at random.

authors_macl_unet      the network of the pre-training: weights (`state`), four views of six slices (`in.x1` to `x4`),
                       its outputs (`eval`, `train`), running statistics after the training pass (`after_train`),
                       gradients of the loss (`step.grad`); `prebn`: biases before the batch normalisations, and outputs
authors_pcl_unet       PCL's encoder and projector: the same; `train_joint`: both views in one batch, as it does not
authors_pcl_seg        PCL's segmentation network: weights, images and logits
authors_losses         MACL's contrastive losses: six sets of rows (g0 to g5), three of pixels (d0 to d2), each with
                       gradients; positives of single volumes, counted (`mask_counts`)
authors_resampling     its L_ER (p0 to p5), and its shrinking of views (i0 to i2)
"""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
from torch import Tensor

from jcl.training.authors_layout import fold_biases, their_name

HEADS = {
    "target_instance_projector": "auxiliary_instance",
    "target_pixel_projector": "auxiliary_pixel",
    "online_instance_projector": "dominant_instance",
    "head": "projector",
}
"""Their projectors, and ours."""

MACL_LOSSES = {"global": 6.009440473800903, "dense": 4.699639191651108, "equivariance": 0.39811625809265977}
"""Of one training step on `in.x1` to `x4`, without the factor temperature / 0.07 that the program has."""

PCL_LOSS = 2.7509210438753446
"""The same of PCL."""


@cache
def tensors(name: str) -> Mapping[str, Tensor]:
    return safetensors.torch.load_file(Path(__file__).with_name(f"{name}.safetensors"))


@cache
def arrays(name: str) -> Mapping[str, Any]:
    with np.load(Path(__file__).with_name(f"{name}.npz")) as found:
        return dict(found)


def below(prefix: str, name: str) -> dict[str, Tensor]:
    """The tensors of a file whose names have a prefix, without it."""
    return {key.removeprefix(prefix): value for key, value in tensors(name).items() if key.startswith(prefix)}


def as_ours(theirs: Mapping[str, Tensor], ours: Mapping[str, Tensor], program: str) -> dict[str, Tensor]:
    """Their weights by the names of a method or network of ours; those that it has only."""
    folded = fold_biases(theirs)
    heads = {ours_: theirs_ for theirs_, ours_ in HEADS.items()}
    found: dict[str, Tensor] = {}
    for name in ours:
        part, _, rest = name.partition(".")
        wanted = f"{heads[part]}.{rest}" if part in heads else their_name(name.removeprefix("backbone."), program)
        if wanted in folded:
            found[name] = folded[wanted]
    return found
