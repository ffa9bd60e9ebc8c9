"""The authors' networks beside our own: pre-trained alike, brought in from their checkpoints, fine-tuned alike.

    python benchmarks/authors_layouts.py DATA OUT [--set la2018] [--labelled 2]

JCL and PCL each pre-train `unet`, and `macl_unet`, which is the authors' network. The latter's weights are written as
their program would save them (MACL's encoder and decoder, PCL's encoder), and come back by `jcl import`. All are
fine-tuned by the strong recipe on the same patients, and scored on the test patients of fold 0. Every run is a `jcl`
command of its own, printed as it starts; what is finished is not run again. Writes OUT/authors_layouts.md and .json.
"""

import argparse
import json
import statistics
import tempfile
from pathlib import Path

import torch
from few_labels import SETS, jcl, prepare
from safetensors.torch import load_file

from jcl.data import phantom
from jcl.training.authors_layout import NETWORK, their_name

PROGRAMS = {"jcl": "macl", "pcl": "pcl"}
"""Methods, and the programs whose checkpoints hold what they train."""

NETWORKS = ("unet", NETWORK)
SEEDS = (0, 1, 2)
PRETRAIN_STEPS, FINETUNE_STEPS, WIDTH = 1500, 1000, 16


def write_theirs(run: Path, path: Path, program: str) -> None:
    """Save a run's network as the program would: without what it does not train or keep."""
    ours = load_file(run / "model.safetensors")
    weights = {n.removeprefix("backbone."): tensor for n, tensor in ours.items() if n.startswith("backbone.")}
    parts = ("encoder.", "decoder.") if program == "macl" else ("encoder.",)
    torch.save({their_name(n, program): tensor for n, tensor in weights.items() if n.startswith(parts)}, path)


def start(given: argparse.Namespace, method: str, network: str) -> Path:
    """The run to fine-tune from; of the authors' network one that was brought in from their layout."""
    folder = given.out / given.set
    run = folder / f"{method}-{network}"
    if not (run / "model.json").exists():
        words = ("--method", method, "--backbone", network, "--width", WIDTH, "--steps", given.pretrain_steps)
        jcl("pretrain", folder / "store", "--out", run, "--fold", 0, *words, "--resume")
    if network != NETWORK:
        return run
    checkpoint, brought = folder / f"{method}.pth", folder / f"{method}-imported"
    if not brought.exists():
        write_theirs(run, checkpoint, PROGRAMS[method])
        jcl("import", checkpoint, "--from", PROGRAMS[method], "--out", brought)
    return brought


def dice_of(given: argparse.Namespace, name: str, init: tuple[object, ...], seed: int) -> float:
    """Fine-tune, evaluate, and the mean Dice in percent over the test cases."""
    folder = given.out / given.set
    run = folder / f"{name}-s{seed}"
    results = run.with_suffix(".json")
    if not results.exists():
        few = ("--patients", given.labelled, "--fold", 0, "--seed", seed, "--steps", given.steps, "--semi", "none")
        jcl("finetune", folder / "store", "--init", *init, "--out", run, *few, "--resume")
        jcl("evaluate", run, "--out", results)
    return 100 * json.loads(results.read_text())["mean"]["dice"]


def table(given: argparse.Namespace, rows: dict[tuple[str, str], list[float]]) -> str:
    """Mean over seeds, and each seed."""
    lines = [f"| {given.set}, {given.labelled} labelled | network | Dice % | of each seed |", "|---|---|---|---|"]
    for (method, network), dice in rows.items():
        each = ", ".join(f"{one:.1f}" for one in dice)
        lines.append(f"| {method} | `{network}` | {statistics.mean(dice):.1f} | {each} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run everything, one after the other, and write the table after each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="?")
    parser.add_argument("out", type=Path, nargs="?")
    parser.add_argument("--smoke", action="store_true", help="two steps on generated volumes: only whether it runs")
    parser.add_argument("--set", default="la2018", choices=list(SETS))
    parser.add_argument("--labelled", type=int, default=2)
    parser.add_argument("--seeds", nargs="+", type=int, default=list(SEEDS))
    parser.add_argument("--steps", type=int, default=FINETUNE_STEPS)
    parser.add_argument("--pretrain-steps", type=int, default=PRETRAIN_STEPS)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        if given.smoke:
            given.data, given.out, given.set = Path(temporary), Path(temporary, "out"), "hippocampus"
            phantom.write_dataset(given.data / given.set, labelled=range(12), unlabelled=(), size=32, slices=4)
            given.seeds, given.steps, given.pretrain_steps = [0], 2, 2
        if given.data is None or given.out is None:
            parser.error("DATA and OUT are needed")
        if not (given.out / given.set / "store" / "store.json").is_file():
            prepare(given.data, given.out, given.set)
        rows: dict[tuple[str, str], list[float]] = {}
        for seed in given.seeds:
            for network in NETWORKS:
                init = ("none", "--backbone", network, "--width", WIDTH)
                rows.setdefault(("random weights", network), []).append(dice_of(given, f"none-{network}", init, seed))
                for method in PROGRAMS:
                    from_run = (start(given, method, network),)
                    dice = dice_of(given, f"{method}-{network}-fine", from_run, seed)
                    rows.setdefault((method, network), []).append(dice)
                (given.out / "authors_layouts.md").write_text(table(given, rows))
        found = [{"method": method, "network": network, "dice": dice} for (method, network), dice in rows.items()]
        (given.out / "authors_layouts.json").write_text(json.dumps(found, indent=1) + "\n")
        print(table(given, rows))


if __name__ == "__main__":
    main()
