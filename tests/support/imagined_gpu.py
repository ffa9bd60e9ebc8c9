"""A GPU that is not there: training steps whose tensors have a shape and a device, and no values.

Whatever would wait for the GPU, since it asks for a value (`item`, `nonzero`, a mask as an index) or copies in
a way that is waited for, and whatever mixes tensors of two devices, is an error there: it is found without a GPU. In
bfloat16 nothing runs, since `torch.autocast` does not know the device. A process of its own runs this, since PyTorch's
device of one's own is for a whole process:

    python -m support.imagined_gpu

It prints a JSON object, of each step what went wrong, or null.
"""

import json
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import torch
from torch import Generator, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils import backend_registration
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from jcl import backbones, methods, semi
from jcl.augment.batches import augment_batch
from jcl.augment.labelled import LabelledRanges
from jcl.augment.spatial import AffineRanges
from jcl.data.batches import SliceBatch
from jcl.data.blocks import BlockBatch
from jcl.losses.segmentation import LOSSES
from jcl.parallel.sending import send
from jcl.training.averaging import averaged_copy, update_average
from jcl.training.optim import adam, clip_each, sgd

DEVICE = "imagined"
COUNT, CLASSES = 8, 3
SIDES = {2: (64, 64), 3: (16, 32, 32)}
NETWORKS = {2: "unet", 3: "unet3d"}

VARIANTS: Mapping[str, Mapping[str, Mapping[str, Any]]] = {
    "jcl": {
        "views of the paper": {"views": "paper", "pairing": "cross"},
        "ema": {"connection": "ema"},
        "as its authors": {
            "batch_statistics": "view",
            "resample": "align_corners",
            "invariant": "intensity",
            "elastic": 0.05,
        },
    },
    "simclr": {"own augmentation": {"augment": "own"}},
    "moco": {"own augmentation": {"augment": "own"}},
    "byol": {"own augmentation": {"augment": "own"}},
    "swav": {"own augmentation": {"augment": "own"}},
    "gcl": {"as in PCL's program": {"program": "pcl"}},
    "dira": {"with a queue": {"queue": 16}},
    "mae": {"sparse": {"sparse": True}},
}


class _Module(backend_registration._DummyBackendModule):
    """What `torch.autocast` asks a device for."""

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.bfloat16, torch.float16]


class WaitsError(Exception):
    """The CPU would wait for the device."""


class Imagined(TorchDispatchMode):
    """Within it the device is there; what the CPU computes by itself, as draws of a generator, has values as ever."""

    def __init__(self) -> None:
        super().__init__()
        self.fake = FakeTensorMode()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        to = None if kwargs.get("device") is None else torch.device(kwargs["device"]).type
        ours = [isinstance(leaf, FakeTensor) for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
        if to != DEVICE and not any(ours):
            return func(*args, **kwargs)
        if any(ours) and (to == "cpu" or (func is torch.ops.aten.copy_.default and not ours[0])):
            raise WaitsError("values are copied to the CPU")
        sends = to == DEVICE and not any(ours) and any(isinstance(leaf, torch.Tensor) for leaf in args)
        if sends and not kwargs.get("non_blocking"):
            raise WaitsError("a copy to the device that is waited for, without non_blocking")
        with self.fake:
            return func(*tree_map(self._imagined, args), **tree_map(self._imagined, kwargs))

    def _imagined(self, leaf: Any) -> Any:
        real = isinstance(leaf, torch.Tensor) and not isinstance(leaf, FakeTensor)
        return self.fake.from_tensor(leaf) if real else leaf


def imagine(module: nn.Module) -> nn.Module:
    """The module with its parameters and buffers on the device; those that it shares stay shared."""
    seen: dict[int, torch.Tensor] = {}
    for part in module.modules():
        for table in (part._parameters, part._buffers):
            for name, tensor in table.items():
                if tensor is not None and id(tensor) not in seen:
                    there = send(tensor.detach(), torch.device(DEVICE))
                    learned = isinstance(tensor, nn.Parameter)
                    seen[id(tensor)] = nn.Parameter(there, requires_grad=tensor.requires_grad) if learned else there
                if tensor is not None:
                    table[name] = seen[id(tensor)]
    return module


def batch_of(dimensions: int, *, labels: bool = False) -> SliceBatch:
    """Read by the CPU, and brought to the device as a training does it."""
    sides = SIDES[dimensions]
    given: dict[str, Any] = {
        "images": torch.rand(COUNT, 1, *sides),
        "positions": torch.rand(COUNT),
        "volumes": torch.arange(COUNT),
        "depths": torch.full((COUNT,), 40),
    }
    if labels:
        given["labels"] = torch.randint(0, CLASSES, (COUNT, *sides))
    if dimensions == 3:
        around = tuple(2 * side for side in sides)
        given |= {"aspects": torch.ones(COUNT), "surroundings": torch.rand(COUNT, 1, *around)}
        given |= {"centres": torch.ones(COUNT, 3, dtype=torch.long), "extents": torch.full((COUNT, 3), 80)}
        if labels:
            given["label_surroundings"] = torch.randint(0, CLASSES, (COUNT, *around))
    return (BlockBatch if dimensions == 3 else SliceBatch)(**given).to(torch.device(DEVICE))


def pretraining(name: str, settings: Mapping[str, Any], dimensions: int) -> None:
    """Two steps of a method, as `jcl.stages.pretrain` does them."""
    network = backbones.load(NETWORKS[dimensions])(in_channels=1, classes=CLASSES, width=4)
    built = methods.load(name)(network, **settings)
    with Imagined():
        method = imagine(built)
        optimizer = sgd(method.parameters(), weight_decay=1e-4, decays_all=built.decays_all)
        generator = Generator().manual_seed(0)
        for step in range(2):
            optimizer.zero_grad()
            batch = batch_of(dimensions)
            views = method.views(batch, generator)
            losses = method(views, batch)
            losses["loss"].backward()
            if built.clip:
                clip_each(method.parameters(), built.clip)
            optimizer.step()
            method.after_step((step + 1) / 2)


def ranges(recipe: str) -> LabelledRanges:
    return LabelledRanges(affine=AffineRanges(), elastic=0.05, intensity=1.0 if recipe == "strong" else 0.0)


def finetuning(recipe: str, loss: str, dimensions: int, ignore: int | None) -> None:
    """Two steps on labelled slices or blocks, as `jcl.stages.finetune` does them."""
    built = backbones.load(NETWORKS[dimensions])(in_channels=1, classes=CLASSES, width=4)
    with Imagined():
        network = imagine(built)
        optimizer, generator = adam(network.parameters(), weight_decay=0.0), Generator().manual_seed(0)
        for _ in range(2):
            images, labels = augment_batch(batch_of(dimensions, labels=True), ranges(recipe), generator=generator)
            logits = network(images)
            optimizer.zero_grad()
            LOSSES[loss](logits, labels, ignore=ignore).backward()
            optimizer.step()


def technique(name: str, dimensions: int) -> None:
    """Two steps with slices or blocks without labels as well."""

    def another() -> backbones.Backbone:
        return backbones.load(NETWORKS[dimensions])(in_channels=1, classes=CLASSES, width=4)

    supervision = semi.Supervision(loss=LOSSES["dice_cross_entropy"], ranges=ranges("strong"), another=another)
    built = semi.build(name, another(), supervision, {})
    with Imagined():
        model = imagine(built)
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        optimizer, generator = adam(trained, weight_decay=0.0), Generator().manual_seed(0)
        for step in range(2):
            views = model.views(batch_of(dimensions, labels=True), batch_of(dimensions), generator)
            losses = model(views, semi.Progress(step, 2))
            optimizer.zero_grad()
            losses["loss"].backward()
            optimizer.step()
            model.after_step(semi.Progress(step + 1, 2))


def averaging() -> None:
    """The average of the weights that the strong recipe keeps."""
    network = backbones.load("unet")(in_channels=1, classes=CLASSES, width=4)
    average = averaged_copy(network)
    with Imagined():
        network, average = imagine(network), imagine(average)
        update_average(average, network, step=1, decay=0.99)


def asks() -> None:
    """What has to be found: a value is asked for."""
    with Imagined():
        torch.rand(3, device=DEVICE).sum().item()


def mixes() -> None:
    """What has to be found: two devices."""
    with Imagined():
        torch.rand(3, device=DEVICE) + torch.rand(3)


def steps() -> Iterator[tuple[str, Callable[[], None]]]:
    """All of them by name."""
    yield "a value is asked for", asks
    yield "devices are mixed", mixes
    for name in methods.available():
        for dimensions in methods.load(name).dimensions:
            plain: dict[str, Mapping[str, Any]] = {
                "": {"region": 1, "blocks": 3} if (name, dimensions) == ("gcl", 3) else {}
            }
            variants = {**plain, **VARIANTS.get(name, {})} if dimensions == 2 else plain
            for what, settings in variants.items():
                title = f"{name} in {dimensions} dimensions{f', {what}' if what else ''}"
                yield title, partial(pretraining, name, settings, dimensions)
    for dimensions in (2, 3):
        for recipe in ("paper", "strong"):
            for loss in LOSSES:
                for ignore in (None, 255):
                    title = f"{recipe}, {loss} in {dimensions} dimensions, ignoring {ignore}"
                    yield title, partial(finetuning, recipe, loss, dimensions, ignore)
        for name in semi.available():
            yield f"{name} in {dimensions} dimensions", partial(technique, name, dimensions)
    yield "the average of the weights", averaging


def problem(step: Callable[[], None]) -> str | None:
    """What goes wrong in a step, and where in jcl."""
    try:
        step()
    except Exception as error:
        frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "/jcl/" in frame.filename]
        places = [f"{frame.filename.rpartition('/jcl/')[2]}:{frame.lineno} {frame.line}" for frame in frames[-2:]]
        first = str(error).partition("\n")[0]
        return f"{type(error).__name__}: {first} ({' > '.join(places)})"
    return None


def main() -> None:
    backend_registration._setup_privateuseone_for_python_backend(DEVICE, backend_module=_Module())
    json.dump({name: problem(step) for name, step in steps()}, sys.stdout, indent=1)


if __name__ == "__main__":
    main()
