"""A few steps of pre-training, for the tests of methods: interrupted and not."""

import copy
from collections.abc import Callable

import torch
from torch import Generator, nn

from jcl.data.batches import SliceBatch
from jcl.training.optim import set_learning_rate, sgd


def slices(n: int = 6, *, seed: int = 0, size: int = 64) -> SliceBatch:
    """Slices of noise from three volumes or fewer, in two positions each."""
    generator = Generator().manual_seed(seed)
    return SliceBatch(
        images=torch.rand(n, 1, size, size, generator=generator),
        positions=torch.linspace(0.1, 1, n),
        volumes=torch.arange(n) // 2,
        neighbours=torch.rand(n, 1, size, size, generator=generator),
    )


def losses_of(method: nn.Module, batch: SliceBatch, seed: int = 0) -> dict[str, torch.Tensor]:
    return method(method.views(batch, Generator().manual_seed(seed)), batch)


def train(method: nn.Module, optimizer, generator: Generator, steps: range, total: int) -> None:
    set_learning_rate(optimizer, method.learning_rate)
    for step in steps:
        batch = slices(seed=step)
        loss = method(method.views(batch, generator), batch)["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        method.after_step((step + 1) / total)


def assert_resumes_bit_for_bit(make: Callable[[], nn.Module], total: int = 6) -> None:
    """Wherever a run is interrupted, the method's state at its end is that of the run that was not."""
    whole = make()
    train(whole, sgd(whole.parameters(), weight_decay=1e-5), Generator().manual_seed(0), range(total), total)
    wanted = whole.state_dict()
    for stop in (1, total // 2, total - 1):
        first, generator = make(), Generator().manual_seed(0)
        optimizer = sgd(first.parameters(), weight_decay=1e-5)
        train(first, optimizer, generator, range(stop), total)
        saved = copy.deepcopy((first.state_dict(), optimizer.state_dict(), generator.get_state()))
        torch.manual_seed(99)
        second = make()
        for tensor in second.state_dict().values():
            tensor.zero_()
        optimizer, generator = sgd(second.parameters(), weight_decay=1e-5), Generator()
        second.load_state_dict(saved[0])
        optimizer.load_state_dict(saved[1])
        generator.set_state(saved[2])
        train(second, optimizer, generator, range(stop, total), total)
        got = second.state_dict()
        assert got.keys() == wanted.keys()
        for name, value in wanted.items():
            assert torch.equal(got[name], value), (stop, name)


def assert_finite(method: nn.Module, batch: SliceBatch) -> dict[str, torch.Tensor]:
    """Losses and gradients are numbers; returns the losses."""
    method.zero_grad()
    losses = losses_of(method, batch)
    losses["loss"].backward()
    for name, value in losses.items():
        assert torch.isfinite(value), name
    for name, parameter in method.named_parameters():
        assert parameter.grad is None or torch.isfinite(parameter.grad).all(), name
    return losses


def awkward() -> dict[str, SliceBatch]:
    """Batches that are legal and seldom."""
    b = slices()
    return {
        "two slices": slices(2),
        "the same slice over and over": SliceBatch(b.images[:1].repeat(6, 1, 1, 1), b.positions, b.volumes),
        "empty slices": SliceBatch(torch.zeros_like(b.images), b.positions, b.volumes),
        "slices of one volume": SliceBatch(b.images, b.positions, torch.zeros_like(b.volumes)),
        "one slice of each volume": SliceBatch(b.images, b.positions, torch.arange(6)),
        "all at one position": SliceBatch(b.images, torch.full_like(b.positions, 0.5), b.volumes),
    }
