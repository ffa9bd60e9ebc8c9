"""Every pre-training method on real volumes: the same budget, then the paper's recipe on M labelled patients.

    python benchmarks/all_methods.py DATA OUT [--sets la2018 mscmr] [--methods jcl simclr …] [--labelled 4]

DATA holds one folder with a dataset.json for each set. Every run is a `jcl` command of its own, printed as it starts;
what is finished is not run again, and what was interrupted goes on. Writes OUT/all_methods.md, with the mean Dice
over the test cases of fold 0, and OUT/all_methods.png, with losses and collapse monitor of each pre-training.
"""

import argparse
import json
import statistics
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt
from few_labels import SETS, jcl, prepare

METHODS = (
    "jcl", "pcl", "gcl", "simclr", "moco", "byol", "swav", "simsiam", "simtriplet", "desd", "dira", "mae",
)  # fmt: skip
PRETRAIN_STEPS = 1000
FINETUNE_STEPS = 600


def pretrain(out: Path, name: str, method: str, width: int, steps: int) -> None:
    """One method on the training patients of fold 0, with its defaults; its seconds go into a file beside the run."""
    run = out / name / method
    seconds = run.with_suffix(".seconds")
    if seconds.exists():
        return
    begun = time.monotonic()
    command = ("pretrain", out / name / "store", "--method", method, "--out", run, "--width", width)
    jcl(*command, "--fold", 0, "--steps", steps, "--resume")
    seconds.write_text(f"{time.monotonic() - begun:.0f}\n")


def score(out: Path, name: str, method: str, count: int, seed: int, width: int) -> None:
    """Fine-tune from a method, or from random weights, and evaluate."""
    run = out / name / f"{method}-m{count}-s{seed}"
    results = run.with_suffix(".json")
    if results.exists():
        return
    init = ("--init", "none", "--width", width) if method == "none" else ("--init", out / name / method)
    few = ("--patients", count, "--fold", 0, "--seed", seed, "--steps", FINETUNE_STEPS)
    jcl("finetune", out / name / "store", *init, "--out", run, *few, "--recipe", "paper", "--semi", "none", "--resume")
    jcl("evaluate", run, "--out", results)


def dice_of(out: Path, name: str, method: str, count: int, seeds: Sequence[int]) -> list[float]:
    """Mean Dice in percent over the test cases, for each seed."""
    files = [out / name / f"{method}-m{count}-s{seed}.json" for seed in seeds]
    return [100 * json.loads(file.read_text())["mean"]["dice"] for file in files]


def log_of(out: Path, name: str, method: str) -> list[dict[str, float]]:
    """What a pre-training logged."""
    return [json.loads(line) for line in (out / name / method / "log.jsonl").read_text().splitlines()]


def table(out: Path, name: str, methods: Sequence[str], count: int, seeds: Sequence[int]) -> str:
    """Dice as mean and standard deviation over the seeds, gain over random weights, and how the pre-training ended."""
    none = dice_of(out, name, "none", count, seeds)
    lines = [
        f"| {name}, {count} labelled | Dice % | gain | gain of each seed | loss, first | last | spread | alignment |",
        "|---|---|---|---|---|---|---|---|",
        f"| none | {statistics.mean(none):.1f} ± {statistics.stdev(none):.1f} | | | | | | |",
    ]
    for method in methods:
        dice = dice_of(out, name, method, count, seeds)
        gains = [after - before for after, before in zip(dice, none, strict=True)]
        first, last = (log_of(out, name, method)[place] for place in (0, -1))
        ended = " | ".join(f"{entry:.2f}" for entry in (first["loss"], *(last[k] for k in MONITORED if k in last)))
        ended += " |" * sum(key not in last for key in MONITORED)  # MAE has no pairs
        cell = f"{statistics.mean(dice):.1f} ± {statistics.stdev(dice):.1f}"
        each = ", ".join(f"{gain:+.1f}" for gain in gains)
        lines.append(f"| {method} | {cell} | **{statistics.mean(gains):+.1f}** | {each} | {ended} |")
    return "\n".join(lines) + "\n"


MONITORED = ("loss", "feature_std", "alignment")


def draw(out: Path, sets: Sequence[str], methods: Sequence[str]) -> None:
    """A column a method, a row a quantity: the loss (of its own scale), and the monitor from 0 to 1."""
    figure, axes = plt.subplots(3, len(methods), figsize=(1.7 * len(methods), 4.8), layout="constrained", squeeze=False)
    for column, method in enumerate(methods):
        for name in sets:
            log = log_of(out, name, method)
            for row, key in enumerate(key for key in MONITORED if key in log[0]):
                axes[row, column].plot([e["step"] for e in log], [e[key] for e in log], label=name, linewidth=0.7)
        axes[0, column].set_title(method, fontsize=9)
        for row in (1, 2):
            axes[row, column].set_visible(axes[row, column].has_data())
            axes[row, column].set_ylim(-0.1, 1.1)
            axes[row, column].tick_params(labelleft=column == 0)
    for row, key in enumerate(MONITORED):
        axes[row, 0].set_ylabel(key.replace("feature_std", "spread"))
    for axis in axes.flat:
        axis.tick_params(labelsize=6)
    axes[0, 0].legend(fontsize=6)
    figure.savefig(out / "all_methods.png", dpi=90)


def main() -> None:
    """Run everything, some commands at a time; the sets' pre-trainings first, so that their curves can be looked at."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="?")
    parser.add_argument("out", type=Path, nargs="?")
    parser.add_argument("--smoke", action="store_true", help="only whether the methods and commands are known")
    parser.add_argument("--sets", nargs="+", default=["la2018", "mscmr"], choices=list(SETS))
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=METHODS)
    parser.add_argument("--labelled", type=int, default=4)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--width", type=int, default=16)
    parser.add_argument("--steps", type=int, default=PRETRAIN_STEPS, help="of each pre-training")
    parser.add_argument("--jobs", type=int, default=2)
    given = parser.parse_args()
    if given.smoke or given.data is None or given.out is None:
        jcl("methods")
        return
    with ThreadPoolExecutor(given.jobs) as pool:
        for name in given.sets:
            if not (given.out / name / "store" / "store.json").is_file():
                prepare(given.data, given.out, name)
        every = [(name, method) for method in ("none", *given.methods) for name in given.sets]
        for future in [pool.submit(run, given, name, method) for name, method in every]:
            future.result()
    text = "\n".join(table(given.out, name, given.methods, given.labelled, given.seeds) for name in given.sets)
    (given.out / "all_methods.md").write_text(text)
    draw(given.out, given.sets, given.methods)
    print(text)


def run(given: argparse.Namespace, name: str, method: str) -> None:
    """One pre-training and all that comes from it."""
    if method != "none":
        pretrain(given.out, name, method, given.width, given.steps)
    for seed in given.seeds:
        score(given.out, name, method, given.labelled, seed, given.width)


if __name__ == "__main__":
    main()
