"""Few labels on real volumes: JCL against no pre-training, M labelled patients, several seeds.

    python benchmarks/few_labels.py DATA OUT [--sets la2018 mscmr …] [--seeds 0 1 2] [--jobs 2]

DATA holds one folder with a dataset.json for each set. Every run is a `jcl` command of its own, printed as it
starts; what is finished is not run again, and what was interrupted goes on. Writes OUT/few_labels.md and
OUT/few_labels.png.
"""

import argparse
import json
import os
import shlex
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt


@dataclass(frozen=True)
class Set:
    """How a data set is prepared, for how long it is pre-trained, and on how many patients it is fine-tuned."""

    spacing: float | None
    size: int
    pretrain_steps: int
    labelled: tuple[int, ...]


SETS = {
    "la2018": Set(2.4, 64, 6000, (1, 2, 4)),
    "mscmr": Set(5.0, 64, 6000, (2, 6)),
    "chaos": Set(5.0, 64, 3000, (1, 4)),
    "hippocampus": Set(None, 64, 3000, (2, 4, 8)),
}
INITS = ("none", "jcl")
FINETUNE_STEPS = 1000


def jcl(*words: object) -> None:
    """Run one command with one thread, and stop everything if it fails."""
    command = [sys.executable, "-m", "jcl", *map(str, words)]
    print("$ jcl", shlex.join(map(str, words)), flush=True)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def prepare(data: Path, out: Path, name: str) -> None:
    """The store of a set."""
    chosen = SETS[name]
    spacing = ("--spacing", chosen.spacing) if chosen.spacing else ()
    jcl("prepare", data / name, "--out", out / name / "store", "--size", chosen.size, "--workers", 1, *spacing)


def pretrain(out: Path, name: str, width: int) -> None:
    """JCL on the training patients of fold 0, with the defaults of the method."""
    run = out / name / "jcl"
    steps = ("--steps", SETS[name].pretrain_steps)
    jcl("pretrain", out / name / "store", "--out", run, "--width", width, "--fold", 0, *steps, "--resume")


def score(out: Path, name: str, init: str, count: int, seed: int, width: int) -> None:
    """Fine-tune and evaluate."""
    run = out / name / f"{init}-m{count}-s{seed}"
    results = run.with_suffix(".json")
    if results.exists():
        return
    source = ("--init", out / name / "jcl") if init == "jcl" else ("--init", "none", "--width", width)
    store = out / name / "store"
    few = ("--patients", count, "--fold", 0, "--seed", seed, "--steps", FINETUNE_STEPS, "--recipe", "paper")
    jcl("finetune", store, *source, "--out", run, *few, "--resume")
    jcl("evaluate", run, "--out", results)


def table(out: Path, sets: Sequence[str], seeds: Sequence[int]) -> str:
    """Mean Dice over the test cases in percent: mean and standard deviation over seeds, and the gain."""
    lines = [
        "| set | labelled | test cases | from scratch | JCL | gain | gain of each seed |",
        "|---|---|---|---|---|---|---|",
    ]
    for name in sets:
        for count in SETS[name].labelled:
            dice = {init: [dice_of(out, name, init, count, seed) for seed in seeds] for init in INITS}
            gains = [b - a for a, b in zip(dice["none"], dice["jcl"], strict=True)]
            cells = [f"{statistics.mean(d):.1f} ± {statistics.stdev(d):.1f}" for d in dice.values()]
            cases = len(json.loads((out / name / f"none-m{count}-s{seeds[0]}.json").read_text())["cases"])
            each = ", ".join(f"{gain:+.1f}" for gain in gains)
            lines.append(
                f"| {name} | {count} | {cases} | {' | '.join(cells)} | **{statistics.mean(gains):+.1f}** | {each} |"
            )
    return "\n".join(lines) + "\n"


def dice_of(out: Path, name: str, init: str, count: int, seed: int) -> float:
    """Mean Dice in percent over the test cases of one run."""
    results = json.loads((out / name / f"{init}-m{count}-s{seed}.json").read_text())
    return 100 * results["mean"]["dice"]


def draw(out: Path, sets: Sequence[str], seeds: Sequence[int]) -> None:
    """A picture for each set: the Dice of every run over M, and the losses of the pre-training over its steps."""
    figure, axes = plt.subplots(2, len(sets), figsize=(3.2 * len(sets), 5.6), layout="constrained", squeeze=False)
    for name, top, bottom in zip(sets, axes[0], axes[1], strict=True):
        counts = SETS[name].labelled
        for init, colour, shift in (("none", "tab:grey", -0.08), ("jcl", "tab:blue", 0.08)):
            values = [[dice_of(out, name, init, count, seed) for seed in seeds] for count in counts]
            places = [i + shift for i in range(len(counts))]
            top.plot(places, [statistics.mean(v) for v in values], color=colour, label=init)
            for place, found in zip(places, values, strict=True):
                top.plot([place] * len(found), found, ".", color=colour)
        top.set(title=name, xticks=range(len(counts)), xticklabels=counts, xlabel="labelled patients")
        log = [json.loads(line) for line in (out / name / "jcl" / "log.jsonl").read_text().splitlines()]
        for key in ("global", "dense", "feature_std"):
            bottom.plot([entry["step"] for entry in log], [entry[key] for entry in log], label=key, linewidth=0.8)
        bottom.set(xlabel="steps of pre-training", ylim=(0, 4))
    axes[0, 0].set_ylabel("Dice %")
    axes[0, 0].legend()
    axes[1, 0].legend()
    figure.savefig(out / "few_labels.png", dpi=90)


def main() -> None:
    """Run everything, two commands at a time."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="?")
    parser.add_argument("out", type=Path, nargs="?")
    parser.add_argument("--smoke", action="store_true", help="only whether the sets and commands are known")
    parser.add_argument("--sets", nargs="+", default=list(SETS), choices=list(SETS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--width", type=int, default=16)
    parser.add_argument("--jobs", type=int, default=2)
    given = parser.parse_args()
    if given.smoke or given.data is None or given.out is None:
        jcl("finetune", "--help")
        return
    begun = time.monotonic()
    with ThreadPoolExecutor(given.jobs) as pool:
        for name in given.sets:
            prepare(given.data, given.out, name)
        first = {name: pool.submit(pretrain, given.out, name, given.width) for name in given.sets}
        for future in first.values():
            future.result()
        # the fewest labels of every set first: an interrupted comparison still has its main rows
        rest = [
            pool.submit(score, given.out, name, init, SETS[name].labelled[rank], seed, given.width)
            for rank in range(max(len(SETS[name].labelled) for name in given.sets))
            for name in given.sets
            if rank < len(SETS[name].labelled)
            for seed in given.seeds
            for init in INITS
        ]
        for future in rest:
            future.result()
    text = table(given.out, given.sets, given.seeds)
    (given.out / "few_labels.md").write_text(text)
    draw(given.out, given.sets, given.seeds)
    print(text, f"\n{(time.monotonic() - begun) / 60:.0f} minutes")


if __name__ == "__main__":
    main()
