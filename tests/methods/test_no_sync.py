"""No operator of a training step makes the host wait for a GPU, whatever the method.

Run on a CPU, where nothing waits: the operators are those that have to read a tensor to know what to return. A copy of
numbers drawn on the host to the device is none of them. Not seen: `tolist`, `numpy` and `cpu`, which are no operators
here.
"""

import math

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from jcl import backbones, methods
from jcl.data.batches import SliceBatch
from jcl.data.blocks import BlockBatch
from jcl.training.optim import set_learning_rate, sgd

WAITING = {
    "_local_scalar_dense",
    "_unique2",
    "bincount",
    "equal",
    "is_nonzero",
    "item",
    "masked_select",
    "nonzero",
    "repeat_interleave",
    "unique_consecutive",
    "unique_dim",
}
"""Operators whose result, or its shape, depends on values."""

OF_BLOCKS = {
    "jcl": [{"blocks": 1}, {"blocks": 1, "position_axes": "all", "invariant": "intensity"}],
    "gcl": [{"region": 1}],
    "mae": [{}, {"sparse": True}],
    "moco": [{"queue": 24}],
    **{name: [{}] for name in ("byol", "pcl", "simclr", "simsiam")},
}
"""Methods for blocks, and some of their settings."""

VARIANTS = {
    "jcl": [
        {},
        {"views": "paper", "pairing": "cross", "connection": "ema"},
        {"invariant": "intensity", "dense_form": "byol", "elastic": 0.05},
        {"stages": "two"},
        {"batch_statistics": "view", "resample": "align_corners", "hidden_units": "decoder"},
    ],
    "pcl": [{}, {"batch_statistics": "view"}],
    "gcl": [{}, {"program": "pcl", "batch_statistics": "view"}],
    "simtriplet": [{}, {"neighbours": "store", "batch_statistics": "view"}],
    "moco": [{"queue": 24}],
    "byol": [{}, {"augment": "own"}],
    "swav": [
        {"prototypes": 24, "queue": 12, "queue_from": 0.0},
        {"prototypes": 24, "augment": "own", "small_crops": 1},
    ],
    "desd": [{"prototypes": 64}],
    "dira": [{"discriminator_width": 4}, {"discriminator_width": 4, "queue": 24, "adversary": "bce"}],
    "mae": [{}, {"sparse": True, "normalise": False, "patch": 5}],
}


class Waits(TorchDispatchMode):
    """Collects what would wait."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func._schema.name.removeprefix("aten::")
        if name in WAITING or (name in ("index", "index_put_", "index_put") and chooses_by_mask(args[1])):
            self.found.append(name)
        return func(*args, **(kwargs or {}))


def chooses_by_mask(indices) -> bool:
    return any(index is not None and index.dtype in (torch.bool, torch.uint8) for index in indices)


@pytest.mark.parametrize(
    ("name", "settings"), [(name, s) for name in methods.available() for s in VARIANTS.get(name, [{}])]
)
def test_a_step_waits_for_nothing(name, settings):
    torch.manual_seed(0)
    method = methods.load(name)(backbones.load("unet")(in_channels=1, classes=2, width=4), **settings)
    batch = SliceBatch(
        images=torch.rand(6, 1, 64, 64),
        positions=torch.linspace(0.1, 1, 6),
        volumes=torch.arange(6) // 2,
        depths=torch.full((6,), 10),
        neighbours=torch.rand(6, 1, 64, 64),
    )
    no_step_waits(method, batch)


@pytest.mark.parametrize(("name", "settings"), [(name, s) for name in OF_BLOCKS for s in OF_BLOCKS[name]])
def test_a_step_on_blocks_waits_for_nothing(name, settings):
    torch.manual_seed(0)
    backbone = backbones.load("unet3d")(in_channels=1, classes=2, width=2, strides=((1, 2, 2), (2, 2, 2)))
    centres = torch.arange(18).view(6, 3)
    batch = BlockBatch(
        images=torch.rand(6, 1, 8, 16, 16),
        positions=centres[:, 0] / 20,
        volumes=torch.arange(6) // 2,
        depths=torch.full((6,), 20),
        aspects=torch.full((6,), 2.0),
        centres=centres,
        extents=torch.full((6, 3), 20),
    )
    no_step_waits(methods.load(name)(backbone, **settings), batch)


def no_step_waits(method: torch.nn.Module, batch: SliceBatch) -> None:
    optimizer, generator = sgd(method.parameters(), weight_decay=1e-5), torch.Generator().manual_seed(0)
    set_learning_rate(optimizer, 0.001)
    steps = 4 * method.phases
    with Waits() as waits:
        for step in range(steps):
            losses = method(method.views(batch, generator), batch)
            optimizer.zero_grad()
            losses["loss"].backward()
            optimizer.step()
            method.after_step((step + 1) / steps)
    assert waits.found == []
    assert math.isfinite(losses["loss"].item())


@pytest.mark.parametrize(
    "wait",
    [
        lambda x: float(x.sum()),
        lambda x: bool(x.any()),
        lambda x: x[x > 0],
        lambda x: torch.where(x > 0),
        lambda x: x.unique(),
        lambda x: x.masked_select(x > 0),
        lambda x: x.clone().index_put_((x > 0,), torch.tensor(0.0)),
        lambda x: torch.equal(x, x),
    ],
)
def test_what_waits_is_noticed(wait):
    with Waits() as waits:
        wait(torch.tensor([0.0, 1.0, 2.0]))
    assert waits.found
