"""Tensors out of a checkpoint that another program saved with PyTorch, without running what else is in the file."""

import pickle
import re
import warnings
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from jcl.data.imagefile.contents import describe
from jcl.errors import DataError
from jcl.files import check_regular, read_error

__all__ = ["read_checkpoint"]

PLACES = ("net", "model_state_dict", "state_dict", "model")
"""Keys under which programs put the tensors of the network beside those of the optimiser."""

DAMAGED = "no checkpoint of PyTorch, or cut short; copy it again from its origin"


class _Unread:
    """In the place of NumPy's numbers, as losses that were saved beside the tensors: takes anything, does nothing."""

    def __init__(self, *values: object) -> None: ...

    def __setstate__(self, state: object) -> None: ...


UNREAD: list[Callable[..., Any] | tuple[Callable[..., Any], str]] = [
    type(name, (_Unread,), {"__module__": module})
    for module, name in (("numpy.core.multiarray", "scalar"), ("numpy._core.multiarray", "scalar"), ("numpy", "dtype"))
]


def read_checkpoint(path: Path) -> dict[str, Tensor]:
    """The tensors of a network by their names, less the prefix of `DataParallel`; on the CPU.

    Nothing that the file names is imported or called but what PyTorch builds tensors with.

    Raises:
        DataError: the file cannot be read, is no checkpoint, cut short, larger unpacked than it is, or has no tensors
            with names; or something is in it that is neither tensor nor number, for which code would have to run.
    """
    _check_file(path)
    try:
        with torch.serialization.safe_globals(UNREAD), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of old or odd formats, which are read or refused in any case
            content: object = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        named = re.search(r"GLOBAL ([\w.]+)", str(error))
        if named is None:
            raise DataError(f"{path}: {DAMAGED}") from error
        raise DataError(
            f"{path}: holds {named[1]:.80}, which would run code when it is opened; it was not opened. Save the state "
            "dict alone"
        ) from error
    except MemoryError:
        raise
    except Exception as error:  # whatever PyTorch makes of bytes that are not what they seem
        raise DataError(f"{path}: {DAMAGED}") from error
    return _network_in(content, path)


def _check_file(path: Path) -> None:
    """What can be said before anything is unpacked."""
    check_regular(path)
    try:
        with path.open("rb") as file:
            start = file.read(1024)
        if not start:
            raise DataError(f"{path}: is empty (0 bytes); copy it again from its origin")
        if start.startswith(b"PK"):
            with zipfile.ZipFile(path) as archive:
                if any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()):
                    raise DataError(f"{path}: is packed, as PyTorch packs no checkpoint; unpack it")
        elif found := describe(start):
            raise DataError(f"{path}: is {found[0]}, and no checkpoint of PyTorch; {found[1]}")
    except zipfile.BadZipFile as error:
        raise DataError(f"{path}: {DAMAGED}") from error
    except OSError as error:
        raise read_error(path, error) from error


def _network_in(content: object, path: Path) -> dict[str, Tensor]:
    values = cast("Mapping[str, Any]", content) if isinstance(content, Mapping) else {}
    values = next((values[place] for place in PLACES if isinstance(values.get(place), Mapping)), values)
    found = {str(name): tensor.detach() for name, tensor in values.items() if isinstance(tensor, Tensor)}
    if not found:
        raise DataError(f"{path}: has no tensors with names; give the checkpoint of a network")
    if odd := [name for name, tensor in found.items() if not _is_plain(tensor)]:
        raise DataError(f"{path}: {odd[0]:.80} claims more values than the file has; copy it again from its origin")
    while all(name.startswith("module.") for name in found):
        found = {name.removeprefix("module."): tensor for name, tensor in found.items()}
    return found


def _is_plain(tensor: Tensor) -> bool:
    """Whether all its values are in memory: a view can make thousands of millions of one."""
    if tensor.layout is not torch.strided or tensor.device.type != "cpu":
        return False
    return tensor.numel() * tensor.element_size() <= tensor.untyped_storage().nbytes()
