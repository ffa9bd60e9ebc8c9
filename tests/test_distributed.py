"""What two processes gather; tests/methods/test_contract.py shows that every method trains the same on both."""

import os
import socket
from datetime import timedelta
from pathlib import Path

import torch
from torch import distributed, multiprocessing

from jcl.distributed import gather, processes


def test_one_process_has_its_own_rows():
    rows = torch.randn(3, 2)
    assert processes() == 1
    assert gather(rows) is rows


def test_two_processes_have_the_rows_of_both_and_the_gradient_of_their_own(tmp_path):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    multiprocessing.spawn(gather_and_save, (port, tmp_path), nprocs=2)
    found = [torch.load(tmp_path / f"{rank}.pt") for rank in range(2)]
    wanted = torch.cat([local_rows(0), local_rows(1)]).requires_grad_()
    wanted.pow(3).sum().backward()
    for rank in range(2):
        assert torch.equal(found[rank]["rows"], wanted)
        assert torch.equal(found[rank]["gradient"], 2 * wanted.grad[3 * rank : 3 * rank + 3])


def local_rows(rank: int) -> torch.Tensor:
    return torch.randn(3, 2, generator=torch.Generator().manual_seed(rank))


def gather_and_save(rank: int, port: int, folder: Path) -> None:
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    distributed.init_process_group("gloo", rank=rank, world_size=2, timeout=timedelta(seconds=60))
    own = local_rows(rank).requires_grad_()
    rows = gather(own)
    rows.pow(3).sum().backward()
    torch.save({"rows": rows.detach(), "gradient": own.grad}, folder / f"{rank}.pt")
    distributed.destroy_process_group()
