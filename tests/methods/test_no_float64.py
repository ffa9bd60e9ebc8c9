"""No step computes in float64, which a Mac's GPU has not (https://github.com/pytorch/pytorch/issues/122602).

Others have met it in a transform (https://github.com/facebookresearch/segment-anything/issues/94), in coordinates
(https://github.com/PozzettiAndrea/ComfyUI-DepthAnythingV3/issues/12) and in statistics
(https://github.com/CAREamics/MicroSplit-reproducibility/issues/22).
"""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Generator
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from jcl import backbones, methods
from jcl.augment.labelled import augment
from jcl.config import FinetuneConfig
from jcl.losses.segmentation import LOSSES
from jcl.stages import finetune
from jcl.training.averaging import averaged_copy, update_average
from jcl.training.optim import adam, sgd
from jcl.training.recipes import RECIPES, settle
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
    batch, optimizer = replace(slices(), depths=torch.full((6,), 10)), sgd(method.parameters(), weight_decay=1e-5)
    with Float64Refused():
        method(method.views(batch, Generator().manual_seed(0)), batch)["loss"].backward()
        optimizer.step()
        method.after_step(0.5)


@pytest.mark.parametrize("recipe", list(RECIPES))
def test_a_step_of_fine_tuning(recipe: str) -> None:
    torch.manual_seed(0)
    network = backbones.load("unet")(in_channels=1, classes=2, width=2)
    average, batch, optimizer = averaged_copy(network), slices(), adam(network.parameters())
    labels = torch.zeros(batch.images.shape[0], *batch.images.shape[2:], dtype=torch.int64)
    config = settle(FinetuneConfig(store=Path("store"), init="none", out=Path("out"), recipe=recipe), None)
    assert config.loss is not None
    loss = partial(LOSSES[config.loss], ignore=255)
    with Float64Refused():
        images, warped = augment(batch.images, labels, finetune._ranges(config), generator=Generator().manual_seed(0))
        finetune._loss(network, images, warped, torch.float32, loss).backward()
        optimizer.step()
        update_average(average, network, step=1, decay=0.99)
