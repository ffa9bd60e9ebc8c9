"""Two processes that make a group, for the tests of what they do together."""

import os
import socket
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import torch
from torch import distributed, multiprocessing


def in_two_processes(function: Callable[..., None], *arguments: Any) -> None:
    """Call `function(rank, *arguments)` in two processes that have found each other."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    multiprocessing.spawn(_call, (port, function, arguments), nprocs=2)


def _call(rank: int, port: int, function: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    torch.set_num_threads(1)
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    distributed.init_process_group("gloo", rank=rank, world_size=2, timeout=timedelta(seconds=120))
    function(rank, *arguments)
    distributed.destroy_process_group()
