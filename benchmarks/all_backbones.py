"""Every backbone on real volumes, from random weights and from JCL: the paper's table 6 in small.

    python benchmarks/all_backbones.py DATA OUT [--set la2018] [--backbones unet ukan …] [--labelled 2]

DATA holds one folder with a dataset.json for each set. Every run is a `jcl` command of its own, printed as it starts;
what is finished is not run again, and what was interrupted goes on. Writes OUT/all_backbones.md: Dice over the test
cases of fold 0 from either start, and what a network costs. All have a width of 8, so that two cores get through: an
eighth of the papers' where those are 64, a quarter of 32, half of 16 (U-KAN).
"""

import argparse
import json
import statistics
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from few_labels import SETS, jcl, prepare
from torch.utils.flop_counter import FlopCounterMode

from jcl import backbones

WIDTHS = {"unet": 8, "attention_unet": 8, "uctransnet": 8, "bcdunet": 8, "rolling_unet": 8, "ukan": 8}
PRETRAIN_STEPS = 800
FINETUNE_STEPS = 500
STARTS = ("none", "jcl")


def pretrain(given: argparse.Namespace, name: str) -> None:
    """JCL with its defaults on the training patients of fold 0."""
    folder = given.out / given.set
    command = ("pretrain", folder / "store", "--backbone", name, "--width", WIDTHS[name], "--out", folder / name)
    if not (folder / name / "model.json").exists():
        jcl(*command, "--fold", 0, "--steps", given.steps, "--precision", "float32", "--resume")


def score(given: argparse.Namespace, name: str, start: str, seed: int) -> None:
    """Fine-tune from JCL or from random weights, and evaluate."""
    folder = given.out / given.set
    run = folder / f"{name}-{start}-s{seed}"
    results = run.with_suffix(".json")
    if results.exists():
        return
    init = ("none", "--backbone", name, "--width", WIDTHS[name]) if start == "none" else (folder / name,)
    few = ("--patients", given.labelled, "--fold", 0, "--seed", seed, "--steps", FINETUNE_STEPS, "--semi", "none")
    jcl("finetune", folder / "store", "--init", *init, "--out", run, *few, "--precision", "float32", "--resume")
    jcl("evaluate", run, "--out", results)


def dice_of(given: argparse.Namespace, name: str, start: str) -> list[float]:
    """Mean Dice in percent over the test cases, for each seed."""
    files = [given.out / given.set / f"{name}-{start}-s{seed}.json" for seed in given.seeds]
    return [100 * json.loads(file.read_text())["mean"]["dice"] for file in files]


def cost(name: str, width: int, size: int) -> tuple[int, float]:
    """Parameters, and 10^9 operations (a multiplication with its addition counts 2) of a forward pass of one slice."""
    network = backbones.load(name)(in_channels=1, classes=2, width=width).eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(torch.zeros(1, 1, size, size))
    return sum(p.numel() for p in network.parameters()), counter.get_total_flops() / 1e9


def rate_of(given: argparse.Namespace, name: str) -> float:
    """Slices a second of the pre-training, the median over its log."""
    log = (given.out / given.set / name / "log.jsonl").read_text().splitlines()
    return statistics.median(json.loads(line)["slices_per_second"] for line in log)


def table(given: argparse.Namespace, names: Sequence[str]) -> str:
    """Dice as mean and standard deviation over the seeds, the gain of each seed, and the cost of the network."""
    lines = [
        f"| {given.set}, {given.labelled} labelled | width | parameters | GFLOP | pre-training, slices/s "
        "| random, Dice % | JCL, Dice % | gain | gain of each seed |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name in names:
        none, pre = dice_of(given, name, "none"), dice_of(given, name, "jcl")
        gains = [after - before for after, before in zip(pre, none, strict=True)]
        count, operations = cost(name, WIDTHS[name], given.size)
        cells = [f"{statistics.mean(dice):.1f} ± {statistics.stdev(dice):.1f}" for dice in (none, pre)]
        lines.append(
            f"| {name} | {WIDTHS[name]} | {count / 1e6:.2f} M | {operations:.2f} | {rate_of(given, name):.0f} | "
            f"{' | '.join(cells)} | **{statistics.mean(gains):+.1f}** | {', '.join(f'{gain:+.1f}' for gain in gains)} |"
        )
    return "\n".join(lines) + "\n"


def run(given: argparse.Namespace, name: str) -> None:
    """One pre-training and all that comes from it."""
    pretrain(given, name)
    for seed in given.seeds:
        for start in STARTS:
            score(given, name, start, seed)


def main() -> None:
    """Run everything, some backbones at a time."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="?")
    parser.add_argument("out", type=Path, nargs="?")
    parser.add_argument("--smoke", action="store_true", help="only what each backbone costs")
    parser.add_argument("--set", default="la2018", choices=list(SETS))
    parser.add_argument("--backbones", nargs="+", default=list(WIDTHS), choices=list(WIDTHS))
    parser.add_argument("--labelled", type=int, default=2)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--size", type=int, default=64, help="side of a slice, for the cost")
    parser.add_argument("--steps", type=int, default=PRETRAIN_STEPS, help="of each pre-training")
    parser.add_argument("--jobs", type=int, default=2)
    given = parser.parse_args()
    if given.smoke or given.data is None or given.out is None:
        for name in given.backbones:
            count, operations = cost(name, WIDTHS[name], given.size)
            print(f"{name:<16}{count / 1e6:6.2f} M {operations:6.2f} GFLOP")
        return
    if not (given.out / given.set / "store" / "store.json").is_file():
        prepare(given.data, given.out, given.set)
    with ThreadPoolExecutor(given.jobs) as pool:
        for future in [pool.submit(run, given, name) for name in given.backbones]:
            future.result()
    text = table(given, given.backbones)
    (given.out / "all_backbones.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
