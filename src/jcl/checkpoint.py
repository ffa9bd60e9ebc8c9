"""Weights and training state on disk: safetensors and JSON, written atomically, with digests."""

import hashlib
import json
import os
import shutil
import struct
import time
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_safetensors
from safetensors.torch import save as save_safetensors
from torch import Generator, Tensor, nn

from jcl.distributed import gather_states, is_first, processes, rank
from jcl.errors import DataError

KEPT = 2
"""Checkpoints kept; the older one serves when the newest is corrupt."""

MOST_HEADER_BYTES = 64 * 2**20


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file that is there whole or not at all, also after a power cut.

    Raises:
        DataError: the disk is full, or the folder cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise DataError(
            f"{path}: cannot be written ({error.strerror}); free some space or choose another folder"
        ) from error


def write_json(path: Path, value: Any) -> None:
    """Write JSON atomically; NaN is refused, since other programs cannot read it."""
    write_atomically(path, (json.dumps(value, indent=1, allow_nan=False) + "\n").encode())


def read_json(path: Path) -> Any:
    """Read JSON.

    Raises:
        DataError: the file is missing or no JSON.
    """
    try:
        return json.loads(path.read_bytes())
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise DataError(f"{path}: not a JSON file ({error}); it is damaged") from error


def write_weights(path: Path, tensors: Mapping[str, Tensor]) -> str:
    """Write tensors as safetensors; returns the SHA-256 of the file."""
    content = save_safetensors({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()})
    write_atomically(path, content)
    return hashlib.sha256(content).hexdigest()


def read_weights(path: Path, digest: str | None = None) -> dict[str, Tensor]:
    """Read safetensors, checked against their digest. Nothing else is accepted, pickles least of all.

    Raises:
        DataError: missing, damaged, not safetensors, or not the file that the digest belongs to.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    if digest is not None and hashlib.sha256(content).hexdigest() != digest:
        raise DataError(f"{path}: damaged (its digest is not the recorded one); train again or restore it")
    if _is_pickle(content):
        raise DataError(f"{path}: a pickle, which can run code when it is opened; convert it to safetensors first")
    if len(content) < 8 or struct.unpack("<Q", content[:8])[0] > min(len(content), MOST_HEADER_BYTES):
        raise DataError(f"{path}: not a safetensors file, or cut short")
    try:
        return load_safetensors(content)
    except (SafetensorError, ValueError, KeyError) as error:
        raise DataError(f"{path}: not a readable safetensors file ({error})") from error


def _is_pickle(content: bytes) -> bool:
    """Whether it begins as files of `torch.save` do, or as any pickle since protocol 2.

    A safetensors file whose header is 0x280 to 0x580 bytes long begins as a pickle does; the header's brace parts them.
    """
    return content[:2] == b"PK" or (content[:1] == b"\x80" and 2 <= content[1] <= 5 and content[8:9] != b"{")


class Checkpointer:
    """Saves and restores all that a training needs to go on: weights, optimiser, generators, and the step.

    The schedule and the order of the batches follow from the step.
    """

    def __init__(
        self, run: Path, model: nn.Module, optimizer: torch.optim.Optimizer, generator: Generator, *, minutes: float
    ) -> None:
        """`minutes` lie between two checkpoints (see `is_due`)."""
        self.run, self.model, self.optimizer, self.generator = run, model, optimizer, generator
        self.seconds = 60 * minutes
        self.last = time.monotonic()

    def restore(self) -> int:
        """Load the newest checkpoint that is whole, and return its step; 0 if there is none.

        A damaged one is passed over with a warning.
        """
        for folder in _checkpoints(self.run):
            try:
                info = read_json(folder / "state.json")
                weights = read_weights(folder / "model.safetensors", info["sha256"]["model.safetensors"])
                state = read_weights(folder / "state.safetensors", info["sha256"]["state.safetensors"])
            except (DataError, KeyError, TypeError) as error:
                warnings.warn(f"checkpoint passed over: {error}; going on from the one before it", stacklevel=2)
                continue
            self.model.load_state_dict(weights)
            _restore_optimizer(self.optimizer, state)
            self.generator.set_state(_own(state["generator"]))
            torch.set_rng_state(_own(state["torch_generator"]))
            if "cuda_generator" in state and torch.cuda.is_available():
                torch.cuda.set_rng_state(_own(state["cuda_generator"]))
            return int(info["step"])
        return 0

    def save(self, step: int) -> None:
        """Write a checkpoint, and drop all but the newest two. It gets its name when all of it is on disk.

        With several processes all have to call it: the first writes, with the generators of every one.
        """
        generators = {
            "generator": gather_states(self.generator.get_state()),
            "torch_generator": gather_states(torch.get_rng_state()),
        }
        if torch.cuda.is_initialized():
            generators["cuda_generator"] = gather_states(torch.cuda.get_rng_state())
        self.last = time.monotonic()
        if is_first():
            self._write(step, generators)
            self.last = time.monotonic()

    def _write(self, step: int, generators: Mapping[str, Tensor]) -> None:
        folder = self.run / "checkpoints"
        temporary = folder / f".step-{step:09d}.tmp"
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        state = {
            f"optimizer.{index}.{name}": value
            for index, values in self.optimizer.state_dict()["state"].items()
            for name, value in values.items()
            if isinstance(value, Tensor)
        }
        state |= generators
        digests = {
            "model.safetensors": write_weights(temporary / "model.safetensors", self.model.state_dict()),
            "state.safetensors": write_weights(temporary / "state.safetensors", state),
        }
        write_json(temporary / "state.json", {"step": step, "sha256": digests})
        target = folder / f"step-{step:09d}"
        shutil.rmtree(target, ignore_errors=True)
        temporary.rename(target)
        for old in _checkpoints(self.run)[KEPT:]:
            shutil.rmtree(old, ignore_errors=True)

    def is_due(self) -> bool:
        """Whether the last checkpoint is old enough for another."""
        return time.monotonic() - self.last >= self.seconds


def _own(states: Tensor) -> Tensor:
    """This process's row of the states that `gather_states` put together."""
    # a copy, since PyTorch reads a generator's state from the start of its storage, whatever row a view shows
    return states[rank()].clone() if processes() > 1 else states


def _checkpoints(run: Path) -> list[Path]:
    """Finished checkpoint folders, the newest first."""
    return sorted((run / "checkpoints").glob("step-*"), reverse=True)


def _restore_optimizer(optimizer: torch.optim.Optimizer, state: Mapping[str, Tensor]) -> None:
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    values: dict[int, dict[str, Tensor]] = {}
    for key, tensor in state.items():
        if key.startswith("optimizer."):
            _, index, name = key.split(".", 2)
            like = parameters[int(index)]
            # the memory format of the parameter, so that steps stay as fast as before the interruption
            placed = torch.empty_like(like, dtype=tensor.dtype).copy_(tensor) if tensor.shape == like.shape else tensor
            values.setdefault(int(index), {})[name] = placed
    whole = optimizer.state_dict()
    whole["state"] = values
    optimizer.load_state_dict(whole)
