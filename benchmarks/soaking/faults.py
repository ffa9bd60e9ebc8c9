"""What goes wrong while a command runs: each fault strikes once, and may have to be undone before all can be right."""

import contextlib
import os
import random
import resource
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from soaking.process import Work
from soaking.stages import Stage

WITHOUT_DIGEST = ("log.jsonl", "run.log", "log.txt", ".lock", ".lock.json", "dataset.json", "tensorboard")
"""Files of which a byte may change unnoticed: they decide no result, or are what a user writes."""


@dataclass
class Struck:
    """What was done, in words, the file that it was done to if any, and how to put it right."""

    words: str
    file: Path | None = None
    undo: Callable[[], None] = lambda: None


Fault = Callable[[Work, Path, Stage, random.Random], Struck | None]
"""Strikes a command that works on a stage in a folder; None where there was nothing to strike."""


def kill(work: Work, folder: Path, stage: Stage, rng: random.Random) -> Struck:
    """`kill -9` of the process."""
    return _signal(work.pid, signal.SIGKILL)


def kill_child(work: Work, folder: Path, stage: Stage, rng: random.Random) -> Struck | None:
    """`kill -9` of one of the processes that it has started."""
    while not (children := work.descendants()):
        if work.wait(0.01):
            return None
    return _signal(rng.choice(children), signal.SIGKILL)


def terminate(work: Work, folder: Path, stage: Stage, rng: random.Random) -> Struck:
    """SIGTERM, as a scheduler sends it."""
    return _signal(work.pid, signal.SIGTERM)


def interrupt(work: Work, folder: Path, stage: Stage, rng: random.Random) -> Struck:
    """SIGINT to all its processes, as Ctrl-C in a terminal sends it."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(work.pid, signal.SIGINT)
    return Struck("SIGINT")


def fill_disk(work: Work, folder: Path, stage: Stage, rng: random.Random) -> Struck:
    """The disk has no room but for some pages; where it cannot be one of its own, files may not grow any more."""
    if not folder.parent.is_mount():
        limit = rng.randrange(4000)
        with contextlib.suppress(ProcessLookupError):
            resource.prlimit(work.pid, resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
        return Struck(f"no file over {limit} bytes")
    filling, pages = folder.parent / "filling", rng.randrange(8)
    with filling.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(bytes(2**20)):
            pass
    os.truncate(filling, max(0, filling.stat().st_size // 4096 - pages) * 4096)
    return Struck(f"{4 * pages} kB left", undo=filling.unlink)


def replace_store(work: Work, folder: Path, stage: Stage, rng: random.Random) -> Struck | None:
    """Another store takes the place of the one that it reads: once it does, since before it may be given any."""
    if "store" not in stage.reads:
        return None
    while not work.has_open(folder / "store"):
        if work.wait(0.01):
            return None
    store, other, away = folder / "store", folder / "other", folder / "away"

    def undo() -> None:
        store.rename(other)
        away.rename(store)

    store.rename(away)
    other.rename(store)
    return Struck("store replaced", store, undo)


def lose_output(work: Work, folder: Path, stage: Stage, rng: random.Random) -> Struck:
    """Nobody reads its output any more, which was a pipe."""
    work.stop_listening()
    return Struck("pipe closed")


def flip_input(work: Work, folder: Path, stage: Stage, rng: random.Random) -> Struck | None:
    """A byte changes in something that it reads; but in no scan of a benchmark, which names it and goes on without."""
    names = [name for name in stage.reads if name != "volumes" or not stage.arguments.startswith("benchmark")]
    return _flip([folder / name for name in names], rng)


def flip_output(work: Work, folder: Path, stage: Stage, rng: random.Random) -> Struck | None:
    """It is killed, and a byte changes in what it has written."""
    kill(work, folder, stage, rng)
    if work.wait(60) and work.code == 0:
        return None  # it was faster
    return _flip([folder / stage.out], rng) or Struck("SIGKILL, and nothing to flip")


FAULTS: dict[str, Fault] = {
    "kill -9": kill,
    "kill -9 of a child": kill_child,
    "SIGTERM": terminate,
    "SIGINT": interrupt,
    "full disk": fill_disk,
    "store replaced": replace_store,
    "output lost": lose_output,
    "byte flipped in what it reads": flip_input,
    "kill -9, then byte flipped in what it wrote": flip_output,
}

CUT_SHORT = ("kill -9", "kill -9, then byte flipped in what it wrote")
"""Faults that leave a command no time for words."""


def _signal(pid: int, number: signal.Signals) -> Struck:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
    return Struck(number.name)


def _flip(places: list[Path], rng: random.Random) -> Struck | None:
    found = [path for place in places for path in ([place] if place.is_file() else sorted(place.rglob("*")))]
    files = [path for path in found if not set(path.parts) & set(WITHOUT_DIGEST) and path.is_file()]
    files = [path for path in files if path.stat().st_size]
    if not files:
        return None
    path = rng.choice(files)
    content = path.read_bytes()
    place, bit = rng.randrange(len(content)), 1 << rng.randrange(8)
    _write_byte(path, place, content[place] ^ bit)

    def undo() -> None:
        if path.exists() and path.stat().st_size == len(content):
            _write_byte(path, place, content[place])

    return Struck(f"bit {bit} of byte {place} of {'/'.join(path.parts[-3:])}", path, undo)


def _write_byte(path: Path, place: int, value: int) -> None:
    with path.open("r+b", buffering=0) as file:
        file.seek(place)
        file.write(bytes([value]))
