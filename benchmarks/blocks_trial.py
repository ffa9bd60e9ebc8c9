"""What settings a fine-tuning of blocks wants, beside slices of the same patients, on real volumes.

    python benchmarks/blocks_trial.py DATA OUT [--sets la2018 hippocampus] [--seeds 0 1] [--ways "blocks" "slices"]

Patients are those of `recipe_trial.py`: only training patients of fold 0 take part, a few of them trained on and up to
eight others scored; from random weights. Slices are trained for `STEPS` steps, blocks for those of `SETS`, which take
about as long. What is finished is not run again. Writes OUT/blocks_trial.md, with the processor time of each training.
"""

import argparse
import contextlib
import io
import json
import statistics
import tempfile
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any, NamedTuple

import recipe_trial

from jcl.config import PrepareConfig
from jcl.data import blocks, phantom
from jcl.stages.prepare import prepare

STEPS = 1000
"""Of a fine-tuning on slices of 64 x 64 pixels, U-Net of width 16."""


class Blocks(NamedTuple):
    """How a set is seen in blocks."""

    through: float | None
    """Through-plane spacing that it is resampled to, in mm."""
    block: tuple[int, int, int]
    steps: int


SETS = {
    "la2018": Blocks(2.4, (16, 32, 32), 600),
    "hippocampus": Blocks(None, (16, 32, 32), 600),
}

WAYS: dict[str, dict[str, Any]] = {
    "slices": {},
    "slices, context 1": {"context": 1},
    "blocks": {},
    "blocks, large": {"block": (32, 48, 32)},
    "blocks without surroundings": {},
    "blocks, rate 2e-3": {"learning_rate": 2e-3},
    "blocks, rate 4e-3": {"learning_rate": 4e-3},
    "blocks, rate 8e-3": {"learning_rate": 8e-3},
    "blocks, log of Dice": {"loss": "log_dice_cross_entropy"},
}

NETWORK = {"backbone": "unet3d", "width": 8, "batch_size": 4}


@contextlib.contextmanager
def without_surroundings() -> Generator[None]:
    """Blocks by themselves, turned within themselves."""
    before = blocks.margin_of
    blocks.margin_of = lambda _: (0, 0, 0)
    try:
        yield
    finally:
        blocks.margin_of = before


def begin(source: Path, out: Path, name: str, size: int = 64) -> None:
    """A store of slices and one of blocks, with the same patients."""
    spacing, _ = recipe_trial.SETS[name]
    for kind, through in (("slices", None), ("blocks", SETS[name].through)):
        folder = out / kind
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / "store").exists():
            prepare(
                PrepareConfig(
                    source=source, out=folder / "store", size=size, spacing=spacing, spacing_through=through, workers=1
                )
            )
        recipe_trial.begin(source, folder, name, ["none"], 0)


def score(out: Path, name: str, way: str, seed: int, steps: int | None) -> tuple[float, float]:
    """Mean Dice in percent, and seconds of processor time."""
    kind = way.partition(",")[0].split()[0]
    network = {"block": SETS[name].block, **NETWORK} if kind == "blocks" else {}
    settings = {"recipe": "strong", "compile": "off", **network, **WAYS[way]}
    used = out / kind / f"{recipe_trial.file_name(way)}-{seed}.seconds"
    begun = time.process_time()
    count = steps or (STEPS if kind == "slices" else SETS[name].steps)
    if way == "blocks, large":  # three times the voxels
        count = -(-count // 3)
    alone = without_surroundings() if way.endswith("without surroundings") else contextlib.nullcontext()
    with alone:
        dice = recipe_trial.score(out / kind, "none", way, seed, count, settings)
    if not used.exists():
        used.write_text(json.dumps(time.process_time() - begun))
    return dice, json.loads(used.read_text())


def table(found: dict[str, dict[str, list[tuple[float, float]]]], sets: list[str]) -> str:
    """Mean over draws, each draw, and the mean time."""
    lines = [f"| | {' | '.join(sets)} |", f"|---|{'---|' * len(sets)}"]
    for way, of in found.items():
        cells = [
            f"{statistics.mean(d for d, _ in of[name]):.1f} ({', '.join(f'{d:.1f}' for d, _ in of[name])}), "
            f"{statistics.mean(s for _, s in of[name]):.0f} s"
            if of.get(name)
            else ""
            for name in sets
        ]
        lines.append(f"| {way} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run everything, one after the other, and write the table after each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="?")
    parser.add_argument("out", type=Path, nargs="?")
    parser.add_argument("--smoke", action="store_true", help="two steps on generated volumes: only whether it runs")
    parser.add_argument("--sets", nargs="+", default=list(SETS), choices=list(SETS))
    parser.add_argument("--ways", nargs="+", default=list(WAYS), choices=list(WAYS), metavar="WAY")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1])
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        steps, size = None, 64
        if given.smoke:
            given.data, given.out = Path(temporary), Path(temporary, "out")
            phantom.write_dataset(given.data / "hippocampus", labelled=range(14), unlabelled=(), size=32, slices=8)
            given.sets, given.seeds, given.ways = ["hippocampus"], [0], ["slices", "blocks without surroundings"]
            steps, size = 1, 32
        for name in given.sets:
            with contextlib.redirect_stderr(io.StringIO()):
                begin(given.data / name, given.out / name, name, size)
        found: dict[str, dict[str, list[tuple[float, float]]]] = {}
        for seed in given.seeds:
            for way in given.ways:
                for name in given.sets:
                    with contextlib.redirect_stderr(io.StringIO()):
                        dice, seconds = score(given.out / name, name, way, seed, steps)
                    found.setdefault(way, {}).setdefault(name, []).append((dice, seconds))
                    print(f"{way} {name} seed {seed}: {dice:.1f}, {seconds:.0f} s", flush=True)
                    (given.out / "blocks_trial.md").write_text(table(found, given.sets))
        print(table(found, given.sets))


if __name__ == "__main__":
    main()
