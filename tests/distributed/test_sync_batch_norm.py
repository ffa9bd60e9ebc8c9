"""Batch normalisation over two processes is that of one with the slices of both."""

from pathlib import Path

import torch
from torch import nn

from jcl.distributed.sync_batch_norm import SharedBatchNorm, convert_sync_batchnorm
from support.groups import in_two_processes

LAYERS = {
    "images": lambda: nn.BatchNorm2d(3),
    "rows": lambda: nn.BatchNorm1d(3, affine=False),
    "average of all": lambda: nn.BatchNorm2d(3, momentum=None),
    "without running statistics": lambda: nn.BatchNorm2d(3, track_running_stats=False),
}


def inputs(name: str) -> torch.Tensor:
    """Of both processes together; a large mean, at which the mean square less the squared mean is useless."""
    shape = (8, 3) if name == "rows" else (8, 3, 4, 5)
    return torch.randn(shape, generator=torch.Generator().manual_seed(1)) + 100


def wanted(output: torch.Tensor) -> torch.Tensor:
    """Some loss: a mean over slices, so that the mean over processes is that of all."""
    return (output * torch.linspace(-1, 2, output[0].numel()).view_as(output[0])).square().flatten(1).sum(1).mean()


def make(name: str) -> nn.Sequential:
    torch.manual_seed(0)
    layer = LAYERS[name]()
    if layer.affine:
        nn.init.normal_(layer.weight)
        nn.init.normal_(layer.bias)
    return nn.Sequential(layer)


def normalise_and_save(number: int, folder: Path) -> None:
    for name in LAYERS:
        net = make(name)
        weight, state = net[0].weight, list(net.state_dict())
        convert_sync_batchnorm(net, torch.device("cpu"))
        assert isinstance(net[0], SharedBatchNorm)
        assert net[0].weight is weight
        assert list(net.state_dict()) == state
        own = inputs(name)[4 * number : 4 * number + 4].requires_grad_()
        output = net(own)
        wanted(output).backward()
        again = net.eval()(own)
        saved = {"output": output, "gradient": own.grad, "eval": again, "state": net.state_dict()}
        saved["weight"] = None if weight is None else weight.grad
        torch.save(saved, folder / f"{name}-{number}.pt")


def test_two_processes_normalise_as_one(tmp_path):
    in_two_processes(normalise_and_save, tmp_path)
    for name in LAYERS:
        found = [torch.load(tmp_path / f"{name}-{number}.pt") for number in range(2)]
        net, x = make(name).double(), inputs(name).double().requires_grad_()
        output = net(x)
        wanted(output).backward()
        near = {"rtol": 1e-4, "atol": 1e-4}  # float32 has 7 digits, and the mean takes 2 of them
        assert torch.allclose(torch.cat([f["output"] for f in found]).double(), output, **near), name
        assert torch.allclose(torch.cat([f["gradient"] for f in found]).double() / 2, x.grad, **near), name
        if net[0].track_running_stats:  # else evaluation takes the statistics of each process's slices
            assert torch.allclose(torch.cat([f["eval"] for f in found]).double(), net.eval()(x), **near), name
        for key, value in net.state_dict().items():
            for process in found:
                assert torch.allclose(process["state"][key].double(), value.double(), **near), (name, key)
        if found[0]["weight"] is not None:
            mean = (found[0]["weight"] + found[1]["weight"]).double() / 2
            assert torch.allclose(mean, net[0].weight.grad, **near), name


def test_one_process_keeps_its_layers():
    net = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2))
    convert_sync_batchnorm(net, torch.device("cpu"))
    assert type(net[1]) is nn.BatchNorm2d


def test_alone_it_is_the_usual_one():
    shared, usual = SharedBatchNorm(3), nn.BatchNorm2d(3)
    x = torch.randn(2, 3, 4, 4)
    assert torch.equal(shared(x), usual(x))
