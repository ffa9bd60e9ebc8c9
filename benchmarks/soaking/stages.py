"""The stages of the path, small, and what has to be the same of their results after whatever has happened."""

import gzip
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from jcl.data.phantom import write_dataset

RECIPE = """
title = "Soak"
notes = "Random weights and a pre-training, on generated volumes."
folds = 2
run_folds = [0]

[stores.phantom]
source = "volumes"
size = 24

[pretrain]
width = 2
steps = 20
batch_size = 4
precision = "float32"
compile = "off"
kernels = "off"
checkpoint_minutes = 0.002

[finetune]
steps = 20
precision = "float32"
compile = "off"
kernels = "off"
checkpoint_minutes = 0.002

[methods.Random]
method = "none"

[methods.SimCLR]
method = "simclr"

[[tables]]
name = "soak"
title = "Soak"
methods = ["Random", "SimCLR"]
pretrain_on = ["phantom"]
finetune_on = "phantom"
patients = [1]
"""

TRAINING = (
    "--folds 2 --width 2 --batch-size 2 --kernels off --compile off --precision float32 --checkpoint-minutes 0.002 "
    "--resume"
)


@dataclass(frozen=True)
class Stage:
    """A command, the file or folder that it writes, and those that it reads."""

    command: str
    out: str
    reads: tuple[str, ...]

    @property
    def arguments(self) -> list[str]:
        """Those of the command line."""
        return self.command.split()


STAGES = {
    "prepare": Stage("prepare volumes --out store --size 24 --strict --workers 2", "store", ("volumes",)),
    "pretrain": Stage(f"pretrain store --out pre --fold 0 --steps 60 --devices cpu {TRAINING}", "pre", ("store",)),
    "pretrain in two": Stage(
        f"pretrain store --out two --method simclr --fold 0 --steps 60 --devices cpu:2 {TRAINING}", "two", ("store",)
    ),
    "finetune": Stage(
        f"finetune store --init pre --out fine --steps 60 --devices cpu {TRAINING}", "fine", ("store", "pre")
    ),
    "predict": Stage("predict fine volumes/imagesTr --out segmented --devices cpu", "segmented", ("fine", "volumes")),
    "evaluate": Stage("evaluate fine --out results.json --devices cpu", "results.json", ("fine", "store")),
    "export": Stage("export fine --to hub --out hub --results results.json", "hub", ("fine", "results.json")),
    "benchmark": Stage("benchmark recipe.toml --data . --out bench --workers 0", "bench", ("volumes",)),
    "benchmark in two": Stage("benchmark recipe.toml --data . --out wide --workers 2", "wide", ("volumes",)),
    "report": Stage("report bench --out report.html", "report.html", ("bench",)),
}

SMOKE = ("prepare", "pretrain")
"""What is done in seconds."""

TRAINED = ("model.json", "model.safetensors", "split.json")


def write_inputs(folder: Path) -> None:
    """Generated volumes, some of other patients, and the recipe."""
    for name, seed in (("volumes", 1), ("others", 2)):
        write_dataset(folder / name, labelled=[0, 1, 2, 3], unlabelled=[10, 11], seed=seed, size=24, slices=4)
    (folder / "recipe.toml").write_text(RECIPE)


def results(folder: Path, stage: Stage) -> dict[str, str]:
    """Digest of each file that the stage has made, but for those that say when it was, or where."""
    out = folder / stage.out
    return {path.relative_to(folder).as_posix(): _digest(path) for path in sorted(_files(out, stage.out))}


def _files(out: Path, kind: str) -> Iterator[Path]:
    match kind:
        case "pre" | "two" | "fine":
            yield from (out / name for name in TRAINED if (out / name).exists())
        case "bench" | "wide":
            yield from out.glob("tasks/*/results.json")
            yield from out.glob("tasks/*/run/model.safetensors")
        case "report.html":
            yield from out.parent.glob("report*.csv")
        case _ if out.is_file():
            yield out
        case _:
            yield from (path for path in out.rglob("*") if path.is_file() and path.name != ".lock")


def _digest(path: Path) -> str:
    content = path.read_bytes()
    if path.suffix == ".gz":
        content = gzip.decompress(content)
    return hashlib.sha256(content).hexdigest()
