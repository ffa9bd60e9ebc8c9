"""What every method has to do, for each that is there."""

import copy
import os
import socket
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path

import pytest
import torch
from torch import distributed, multiprocessing, nn

from jcl import backbones, methods
from jcl.backbones._transfer import transfer
from jcl.data.batches import SliceBatch
from jcl.data.blocks import BlockBatch
from jcl.training.optim import set_learning_rate, sgd
from support.awake import awake

SETTINGS = {
    "jcl": {"projection": 16},
    "byol": {"projection": 16, "hidden": 32},
    "moco": {"projection": 16, "queue": 24},
    "simclr": {"projection": 16},
    "simsiam": {"projection": 32, "bottleneck": 16},
    "swav": {"projection": 16, "hidden": 32, "prototypes": 24, "queue": 12},
    "pcl": {"projection": 16},
    "gcl": {"projection": 16},
    "simtriplet": {"projection": 32, "bottleneck": 8},
    "desd": {"prototypes": 64, "hidden": 32, "bottleneck": 16},
    "dira": {"projection": 16, "discriminator_width": 4},
}
"""Small projections, so that the tests are quick; everything else is as it comes."""


PUBLISHED = {
    "pcl": {"projection": 32, "batch_statistics": "view", "weight": 1.4286},
    "gcl": {"program": "pcl", "projection": 32, "batch_statistics": "view", "weight": 1.4286},
    "dira": {"queue": 24, "adversary": "least-squares", "discriminator": "program"},
    "desd": {"final_rate": 0.2133, "decay": "weights", "clip": 3.0},
    **{name: {"augment": "own"} for name in ("simclr", "moco", "byol", "simsiam")},
    "swav": {"augment": "own", "small_crops": 2, "temperature": 0.1},
    "simtriplet": {"neighbours": "store", "batch_statistics": "view"},
}
"""Settings that make a method what its authors publish, or what others publish of it, besides its sizes."""

CONTRASTED = ("jcl", "pcl", "simclr")
"""Methods that are tried on every backbone; the others are tried on the U-Net."""

PAIRS = [(m, b) for b in backbones.available(2) for m in (methods.available() if b == "unet" else CONTRASTED)]
BLOCKS = [(m, "unet3d") for m in methods.available() if 3 in methods.load(m).dimensions]
CASES = [*PAIRS, *((m, "unet", "published") for m in PUBLISHED), *BLOCKS]

OF_BLOCKS = {"jcl": {"blocks": 1}, "gcl": {"region": 1}, "moco": {"queue": 24}}
"""Settings that fit a network of two levels, and blocks of a few voxels."""
STRIDES = ((1, 2, 2), (2, 2, 2))


def batch(seed: int = 0) -> SliceBatch:
    generator = torch.Generator().manual_seed(seed)
    return SliceBatch(
        images=torch.rand(6, 1, 64, 64, generator=generator),
        positions=torch.linspace(0.1, 1, 6),
        volumes=torch.tensor([0, 0, 1, 1, 2, 2]),
        neighbours=torch.rand(6, 1, 64, 64, generator=generator),
    )


def blocks(seed: int = 0) -> BlockBatch:
    """Blocks of three volumes of 20 slices, near each other and not."""
    centres = torch.tensor([[5, 9, 9], [30, 20, 9], [6, 10, 9], [31, 21, 40], [8, 30, 9], [7, 9, 11]])
    extents = torch.tensor([40, 48, 48]).repeat(6, 1)
    return BlockBatch(
        images=torch.rand(6, 1, 8, 16, 16, generator=torch.Generator().manual_seed(seed)),
        positions=centres[:, 0] / 40,
        volumes=torch.tensor([0, 0, 1, 1, 2, 2]),
        depths=extents[:, 0],
        aspects=torch.tensor([1.0, 1.0, 2.0, 2.0, 5.0, 5.0]),
        centres=centres,
        extents=extents,
    )


def batch_of(method: torch.nn.Module, seed: int = 0) -> SliceBatch:
    """Slices, or blocks for a network that sees them."""
    return batch(seed) if backbones.dimensions_of(method.backbone) == 2 else blocks(seed)


def make(name: str, backbone: str = "unet", variant: str = "") -> torch.nn.Module:
    torch.manual_seed(0)
    deep = {"strides": STRIDES} if backbone == "unet3d" else {}
    network = awake(backbones.load(backbone)(in_channels=1, classes=3, width=4, **deep))
    settings = {
        **SETTINGS.get(name, {}),
        **(PUBLISHED[name] if variant == "published" else {}),
        **(OF_BLOCKS.get(name, {}) if deep else {}),
    }
    return without_dropout(methods.load(name)(network, **settings))


def without_dropout(method: torch.nn.Module) -> torch.nn.Module:
    """Dropout draws from PyTorch's own generator, not from that of the views."""
    for module in method.modules():
        if isinstance(module, nn.modules.dropout._DropoutNd):
            module.p = 0.0
    return method


def losses_of(method, b: SliceBatch, seed: int = 0) -> dict[str, torch.Tensor]:
    return method(method.views(b, torch.Generator().manual_seed(seed)), b)


@pytest.fixture(params=CASES, ids="-".join)
def method(request):
    return make(*request.param)


def test_the_loss_is_a_finite_scalar(method):
    for name, value in losses_of(method, batch_of(method)).items():
        assert value.shape == (), name
        assert torch.isfinite(value), name


def test_same_generator_same_loss_other_generator_another(method):
    state = copy.deepcopy(method.state_dict())
    first = losses_of(method, batch_of(method))["loss"]
    method.load_state_dict(state)
    torch.manual_seed(99)
    assert losses_of(method, batch_of(method))["loss"] == first
    method.load_state_dict(state)
    assert losses_of(method, batch_of(method), seed=1)["loss"] != first


def test_gradients_on_exactly_the_parts_that_are_trained(method):
    with_gradient = set()
    for phase in range(method.phases):
        method.after_step(phase / method.phases)
        method.zero_grad()
        losses_of(method, batch_of(method))["loss"].backward()
        with_gradient |= {n for n, p in method.backbone.named_parameters() if p.grad is not None and p.grad.any()}
    parts = tuple(f"{part}." for part in method.pretrained_modules)
    assert with_gradient == {n for n, _ in method.backbone.named_parameters() if n.startswith(parts)}


def test_a_few_steps_lower_the_loss(method):
    for phase in range(method.phases):
        method.after_step(phase / method.phases)
        optimizer = sgd(method.parameters(), weight_decay=0.0)
        set_learning_rate(optimizer, method.learning_rate / 10)  # as the warm-up begins
        values = []
        for _ in range(4):  # queues fill up first: while they do, the number of negatives rises and the loss with it
            losses_of(method, batch_of(method))
            method.after_step(phase / method.phases)
        for _ in range(12):
            loss = losses_of(method, batch_of(method))["loss"]
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            method.after_step(phase / method.phases)
            values.append(loss.item())
        assert values[-1] < values[0]


def test_state_round_trip(method):
    losses_of(method, batch_of(method))
    state = copy.deepcopy(method.state_dict())
    wanted = losses_of(method, batch_of(method))["loss"]
    fresh = copy.deepcopy(method)
    for parameter in fresh.parameters():
        torch.nn.init.zeros_(parameter)
    fresh.load_state_dict(state)
    assert losses_of(fresh, batch_of(method))["loss"] == wanted


def test_resumes_bit_for_bit(method):
    """Six steps at once, or three, then all that is saved put into a method that began otherwise, and three more."""

    def train(trained, optimizer, steps):
        for step in steps:
            loss = losses_of(trained, batch_of(trained, step), seed=step)["loss"]
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            trained.after_step((step + 1) / 6)

    def optimizer_of(trained):
        optimizer = sgd(trained.parameters(), weight_decay=1e-5)
        set_learning_rate(optimizer, trained.learning_rate)
        return optimizer

    other = copy.deepcopy(method)
    with torch.no_grad():
        for value in other.state_dict().values():
            value.fill_(1)
    optimizer = optimizer_of(method)
    train(method, optimizer, range(3))
    other.load_state_dict(copy.deepcopy(method.state_dict()))
    resumed = optimizer_of(other)
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    train(method, optimizer, range(3, 6))
    train(other, resumed, range(3, 6))
    for name, value in method.state_dict().items():
        assert torch.equal(other.state_dict()[name], value), name


def test_transfer_fits_a_fresh_backbone(method):
    deep = {"strides": STRIDES} if backbones.dimensions_of(method.backbone) == 3 else {}
    fresh = type(method.backbone)(in_channels=1, classes=7, width=4, **deep)
    report = transfer(fresh, method.backbone.state_dict(), method.pretrained_modules)
    assert report.loaded
    assert not report.adapted


def test_finite_in_bfloat16_and_near_float32(method):
    state = copy.deepcopy(method.state_dict())
    wanted = losses_of(method, batch_of(method))["loss"]
    method.load_state_dict(state)
    views = method.views(batch_of(method), torch.Generator().manual_seed(0))  # in float32, as the loop draws them
    with torch.autocast("cpu", torch.bfloat16):
        loss = method(views, batch_of(method))["loss"]
    loss.backward()
    assert loss.item() == pytest.approx(wanted.item(), rel=0.1, abs=0.05)  # a mean cosine may be about 0
    assert all(torch.isfinite(p.grad).all() for p in method.parameters() if p.grad is not None)


def test_two_processes_equal_one(tmp_path):
    # at 16 x 16 pixels the deepest of these residual blocks normalise two values again and again: rounding grows
    steady = [case for case in CASES if "residual_encoder_unet" not in case]
    two_processes_equal_one(make, steady, tmp_path)


def two_processes_equal_one(build: Callable[..., nn.Module], names: Sequence[tuple[str, ...]], tmp_path: Path) -> None:
    """Loss and gradient of two processes of n slices are those of one process of 2n, for all that `build` makes."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    multiprocessing.spawn(in_one_of_two_processes, (port, build, names, tmp_path), nprocs=2)
    for number, name in enumerate(names):
        local = [torch.load(tmp_path / f"{number}-{rank}.pt") for rank in range(2)]
        alone = without_batch_statistics(build(*name))
        parts = [batch_of(alone, seed) for seed in range(2)]
        views = [alone.views(part, torch.Generator().manual_seed(seed)) for seed, part in enumerate(parts)]
        views = tuple(interleave(pair, len(parts[0].images)) for pair in zip(*views, strict=True))
        given = [k for k, value in vars(parts[0]).items() if value is not None]
        whole = type(parts[0])(**{k: torch.cat([getattr(p, k) for p in parts]) for k in given})
        loss = alone(views, whole)["loss"]
        loss.backward()
        # a loss that is a mean over slices has each process's own part; training in parallel takes the mean
        assert sum(entry["loss"] for entry in local) / 2 == pytest.approx(loss.item(), rel=1e-5), name
        gradients = {key: p.grad for key, p in alone.named_parameters() if p.grad is not None}
        for key, gradient in gradients.items():
            # a bias in front of a normalisation has a gradient of 0 but for rounding, which is that of the weight's
            beside = gradients.get(key.removesuffix("bias") + "weight", gradient)
            rounding = 1e-6 * max(1.0, float(beside.abs().max()))
            assert torch.allclose(local[0][key], gradient, rtol=1e-3, atol=rounding), (name, key)


def in_one_of_two_processes(
    rank: int, port: int, build: Callable[..., nn.Module], names: Sequence[tuple[str, ...]], folder: Path
) -> None:
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    distributed.init_process_group("gloo", rank=rank, world_size=2, timeout=timedelta(seconds=120))
    for number, name in enumerate(names):
        method = without_batch_statistics(build(*name))
        loss = losses_of(method, batch_of(method, rank), seed=rank)["loss"]
        loss.backward()
        saved = {"loss": loss.item()}
        for key, parameter in method.named_parameters():
            if parameter.grad is not None:
                distributed.all_reduce(parameter.grad)
                saved[key] = parameter.grad / 2
        torch.save(saved, folder / f"{number}-{rank}.pt")
    distributed.destroy_process_group()


def without_batch_statistics(method: nn.Module) -> nn.Module:
    """Batch normalisation would take its statistics from one process's slices alone."""
    for module in method.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eval()
    return method


def interleave(views: tuple[torch.Tensor, ...], count: int) -> torch.Tensor:
    """Views of two batches of `count` slices, each k blocks of so many rows, as the views of one batch of all."""
    blocks = [view.unflatten(0, (-1, count)) for view in views]
    return torch.cat(blocks, dim=1).flatten(0, 1)


def test_unknown_names_list_what_there_is():
    with pytest.raises(methods.UsageError, match="jcl"):
        methods.load("simclr2")
    with pytest.raises(backbones.UsageError, match="unet"):
        backbones.load("vnet")
