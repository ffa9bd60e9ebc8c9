"""Numbers that are saved with a module and read without waiting for the device that it is on.

A buffer on a GPU is saved and resumed, but reading it as a Python number waits until the GPU has done all that was
asked of it before. So its value is also kept on the host.
"""

from typing import Any

import numpy as np
import torch
from torch import nn

__all__ = ["host_scalar", "register_host_scalar", "set_host_scalar"]

_HELD = "_saved_numbers"


def register_host_scalar(module: nn.Module, name: str, value: float) -> None:
    """Register the buffer `name`; an `int` stays one, a `float` has the precision of float32.

    Examples:
        >>> module = nn.Module()
        >>> register_host_scalar(module, "phase", 0)
        >>> set_host_scalar(module, "phase", 1)
        >>> host_scalar(module, "phase"), module.state_dict()["phase"]
        (1, tensor(1))
    """
    module.register_buffer(name, torch.tensor(value))
    module.__dict__.setdefault(_HELD, {})[name] = value
    if len(_held(module)) == 1:
        module.register_load_state_dict_post_hook(_read_buffers)


def host_scalar(module: nn.Module, name: str) -> Any:
    """The value, from the host."""
    return _held(module)[name]


def set_host_scalar(module: nn.Module, name: str, value: float) -> None:
    """Change the value in both places."""
    buffer = module.get_buffer(name)
    # rounded as the buffer rounds it, so that a resumed run reads what this one reads
    _held(module)[name] = float(np.float32(value)) if buffer.dtype.is_floating_point else int(value)
    buffer.fill_(value)


def _held(module: nn.Module) -> dict[str, float]:
    return module.__dict__[_HELD]


def _read_buffers(module: nn.Module, _: Any) -> None:
    held = _held(module)
    held.update({name: module.get_buffer(name).item() for name in held})
