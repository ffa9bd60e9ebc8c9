"""No step computes in float64, which a Mac's GPU has not (https://github.com/pytorch/pytorch/issues/122602).

Others have met it in a transform (https://github.com/facebookresearch/segment-anything/issues/94), in coordinates
(https://github.com/PozzettiAndrea/ComfyUI-DepthAnythingV3/issues/12) and in statistics
(https://github.com/CAREamics/MicroSplit-reproducibility/issues/22).
"""

from typing import Any

import pytest
import torch
from torch import Generator
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from jcl import backbones, methods
from jcl.stages import finetune
from jcl.training.optim import adam, sgd
from support.training import slices


class Float64Refused(TorchDispatchMode):
    """Context in which an operation that gives or takes float64 fails, as on a Mac's GPU."""

    def __torch_dispatch__(self, function: Any, types: Any, arguments: Any = (), named: Any = None) -> Any:
        result = function(*arguments, **(named or {}))
        for value in tree_leaves((arguments, named, result)):
            assert not (isinstance(value, torch.Tensor) and value.dtype == torch.float64), function
        return result


@pytest.mark.parametrize("name", methods.available())
def test_a_step_of_pre_training(name: str) -> None:
    torch.manual_seed(0)
    method = methods.build(name, backbones.load("unet")(in_channels=1, classes=2, width=2), {})
    batch, optimizer = slices(), sgd(method.parameters(), weight_decay=1e-5)
    with Float64Refused():
        method(method.views(batch, Generator().manual_seed(0)), batch)["loss"].backward()
        optimizer.step()
        method.after_step(0.5)


def test_a_step_of_fine_tuning() -> None:
    torch.manual_seed(0)
    network = backbones.load("unet")(in_channels=1, classes=2, width=2)
    batch, optimizer = slices(), adam(network.parameters())
    labels = torch.zeros(batch.images.shape[0], *batch.images.shape[2:], dtype=torch.int64)
    ranges = finetune.AffineRanges(rotation=30.0, scale=0.3, translation=0.1)
    with Float64Refused():
        matrices = finetune.random_affine(len(labels), ranges, generator=Generator().manual_seed(0))
        images, warped = finetune.warp_with_labels(batch.images, labels, matrices)
        finetune._loss(network, images, warped, torch.float32, ignore=255).backward()
        optimizer.step()
