"""Weights and training state on disk: safetensors and JSON, written atomically, with digests."""

import hashlib
import shutil
import struct
import time
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_safetensors
from safetensors.torch import save as save_safetensors
from torch import Generator, Tensor, nn

from jcl.data.imagefile.contents import describe
from jcl.distributed.comm import gather_states, is_main_process, rank, world_size
from jcl.distributed.device import generator_state, restore_generator
from jcl.errors import DataError, JclError
from jcl.files import (
    FETCH,
    check_regular,
    read_error,
    read_json,
    sync_folder,
    write_atomically,
    write_error,
    write_json,
)

KEPT = 2
"""Checkpoints kept; the older one serves when the newest is corrupt."""

MOST_HEADER_BYTES = 64 * 2**20

AVERAGE = "average."
"""Before the names of the averaged weights in a checkpoint's state."""


def write_weights(path: Path, tensors: Mapping[str, Tensor]) -> str:
    """Write tensors as safetensors; returns the SHA-256 of the file.

    Raises:
        JclError: one is not finite, so that a whole file of earlier steps is not replaced by this one.
        WriteError: the disk is full, or the file cannot be written.
    """
    if name := _not_finite(tensors):
        raise JclError(f"{path}: not written, {name} became NaN or infinite; try a lower --learning-rate")
    content = save_safetensors({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()})
    write_atomically(path, content)
    return hashlib.sha256(content).hexdigest()


def read_weights(path: Path, digest: str | None = None) -> dict[str, Tensor]:
    """Read safetensors, checked against their digest. Nothing else is accepted, pickles least of all.

    Raises:
        DataError: missing, damaged, not safetensors, not the file that the digest belongs to, or not finite.
    """
    check_regular(path)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise read_error(path, error) from error
    if not content:
        raise DataError(f"{path}: is empty (0 bytes); train again or restore it")
    if (found := describe(content[:1024])) and found[1] == FETCH:
        raise DataError(f"{path}: is {found[0]}; {FETCH}")
    if digest is not None and hashlib.sha256(content).hexdigest() != digest:
        raise DataError(f"{path}: damaged (its digest is not the recorded one); train again or restore it")
    if _is_pickle(content):
        raise DataError(f"{path}: a pickle, which can run code when it is opened; convert it to safetensors first")
    if len(content) < 8 or struct.unpack("<Q", content[:8])[0] > min(len(content), MOST_HEADER_BYTES):
        raise DataError(f"{path}: not a safetensors file, or cut short; train again or restore it")
    try:
        tensors = load_safetensors(content)
    except (SafetensorError, ValueError, KeyError) as error:
        raise DataError(f"{path}: a safetensors file with a damaged header; train again or restore it") from error
    if name := _not_finite(tensors):
        raise DataError(f"{path}: {name} is NaN or infinite, so that nothing can be computed with it; train again")
    return tensors


def _not_finite(tensors: Mapping[str, Tensor]) -> str | None:
    """The name of the first that is not finite."""
    floats = ((name, tensor) for name, tensor in tensors.items() if tensor.is_floating_point())
    return next((name for name, tensor in floats if not bool(torch.isfinite(tensor).all())), None)


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
        self,
        run: Path,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        generator: Generator,
        *,
        minutes: float,
        average: nn.Module | None = None,
    ) -> None:
        """`minutes` lie between two checkpoints (see `is_due`); an `average` is saved with the model."""
        self.average = average
        self.run, self.model, self.optimizer, self.generator = run, model, optimizer, generator
        self.device = next(model.parameters()).device
        self.seconds = 60 * minutes
        self.last = time.monotonic()

    def restore(self) -> int:
        """Load the newest checkpoint that is whole, and return its step; 0 if there is none.

        A damaged one is passed over with a warning, and one that was cut short is removed.
        """
        if is_main_process():
            for left in (self.run / "checkpoints").glob(".step-*.tmp"):
                shutil.rmtree(left, ignore_errors=True)
        folders = _checkpoints(self.run)
        for number, folder in enumerate(folders, 1):
            try:
                step, digests = read_state(folder)
                weights = read_weights(folder / "model.safetensors", digests["model.safetensors"])
                state = read_weights(folder / "state.safetensors", digests["state.safetensors"])
            except DataError as error:
                then = (
                    "from the one before it" if number < len(folders) else "from the first step, as there is no other"
                )
                warnings.warn(f"checkpoint passed over: {error}; going on {then}", stacklevel=2)
                continue
            self.model.load_state_dict(weights)
            if self.average is not None:
                self.average.load_state_dict(_below(AVERAGE, state))
            _restore_optimizer(self.optimizer, state)
            self.generator.set_state(_own(state["generator"]))
            torch.set_rng_state(_own(state["torch_generator"]))
            if (name := f"{self.device.type}_generator") in state:
                restore_generator(self.device, _own(state[name]))
            return step
        return 0

    def save(self, step: int) -> None:
        """Write a checkpoint, and drop all but the newest two. It gets its name when all of it is on disk.

        With several processes all have to call it: the first writes, with the generators of every one.
        """
        generators = {
            "generator": gather_states(self.generator.get_state()),
            "torch_generator": gather_states(torch.get_rng_state()),
        }
        if (own := generator_state(self.device)) is not None:
            generators[f"{self.device.type}_generator"] = gather_states(own)
        self.last = time.monotonic()
        if is_main_process():
            try:
                self._write(step, generators)
            except OSError as error:
                raise write_error(self.run / "checkpoints", error) from error
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
        if self.average is not None:
            state |= {AVERAGE + name: value for name, value in self.average.state_dict().items()}
        state |= generators
        digests = {
            "model.safetensors": write_weights(temporary / "model.safetensors", self.model.state_dict()),
            "state.safetensors": write_weights(temporary / "state.safetensors", state),
        }
        write_json(temporary / "state.json", {"step": step, "sha256": digests}, seal=True)
        target = folder / f"step-{step:09d}"
        shutil.rmtree(target, ignore_errors=True)
        temporary.rename(target)
        sync_folder(folder)  # before those that it replaces are gone
        for old in _checkpoints(self.run)[KEPT:]:
            shutil.rmtree(old, ignore_errors=True)

    def foreseen_bytes(self, seconds: float) -> int:
        """Bytes on the disk at most during a run of so many seconds: final weights, and the checkpoints."""
        weights = sum(tensor.nbytes for tensor in self.model.state_dict().values())
        states = (value for values in self.optimizer.state.values() for value in values.values())
        more = sum(value.nbytes for value in states if isinstance(value, Tensor))
        saved = min(KEPT + 1, int(seconds / self.seconds)) if self.seconds else KEPT + 1
        average = {} if self.average is None else self.average.state_dict()
        return weights + saved * (weights + more + sum(tensor.nbytes for tensor in average.values()))

    def is_due(self) -> bool:
        """Whether the last checkpoint is old enough for another."""
        return time.monotonic() - self.last >= self.seconds


def read_state(folder: Path) -> tuple[int, dict[str, str]]:
    """The step of a checkpoint, and the digests of its files.

    Raises:
        DataError: `state.json` is missing or damaged, or of another step than the name of the folder.
    """
    path = folder / "state.json"
    info: object = read_json(path)
    values = cast("dict[str, Any]", info) if isinstance(info, dict) else {}
    step, digests = values.get("step"), values.get("sha256")
    if not isinstance(digests, dict) or not {"model.safetensors", "state.safetensors"} <= set(cast("Any", digests)):
        raise DataError(f"{path}: damaged (it has no digests)")
    if type(step) is not int or folder.name != f"step-{step:09d}":
        raise DataError(f"{path}: damaged (it is of step {step!r:.20}, and its folder is {folder.name})")
    return step, {str(name): str(digest) for name, digest in cast("dict[str, Any]", digests).items()}


def _below(prefix: str, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors whose names have the prefix, without it."""
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}


def _own(states: Tensor) -> Tensor:
    """This process's row of the states that `gather_states` put together."""
    # a copy, since PyTorch reads a generator's state from the start of its storage, whatever row a view shows
    return states[rank()].clone() if world_size() > 1 else states


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
