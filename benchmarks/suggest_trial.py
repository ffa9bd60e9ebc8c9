"""Whether the patients that `jcl suggest` names are worth labelling first: against random ones, on real volumes.

    python benchmarks/suggest_trial.py DATA OUT [--sets la2018 mscmr] [--seeds 0 1 2 3 4] [--steps 500]

Patients, stores, pre-trainings and scores are those of `recipe_trial.py`, whose OUT may be taken: only training
patients of fold 0 take part, up to eight of them are scored, and whom to label is chosen among the others.

`random` and `suggested`: a cold start, with a pre-training of the training patients and no label. The random ones are
other patients for each seed, the suggested ones the same, trained with each seed. `more random` and `more by doubt`:
the random ones of the seed are labelled, and as many are added, either at random or those that the run of `random`
suggests; all are trained anew from the pre-training.

What is finished is not run again, and what was interrupted goes on.
Writes OUT/suggest_trial.md and OUT/suggest_trial.json.
"""

import argparse
import contextlib
import io
import itertools
import json
import os
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path

from recipe_trial import DRAWS, SETS, begin, file_name, score

from jcl.config import SuggestConfig
from jcl.data import phantom
from jcl.data.splits import Split, read_split, write_split
from jcl.stages.suggest import suggest

WAYS = ("random", "suggested", "more random", "more by doubt")


def split_of(out: Path, way: str, patients: int, seed: int) -> str:
    """Name of the split that a way trains by, in `split-NAME.json`; it is written where no draw has it."""
    if way == "random":
        return str(seed)
    if way == "suggested":
        write_chosen(out, way, choose(out, out / "jcl", patients))
        return way
    first, second = (read_split(out / f"split-{draw}.json").train for draw in (seed, (seed + 1) % DRAWS))
    more = choose(out, out / f"jcl-random-{seed}", patients) if way == "more by doubt" else second
    name = f"{file_name(way)}-{seed}"
    write_chosen(out, name, (*first, *more))
    return name


def choose(out: Path, run: Path, patients: int) -> tuple[str, ...]:
    """Whom to label next by a run, a pre-training or a fine-tuning."""
    return suggest(SuggestConfig(store=out / "store", run=(run,), patients=patients, slices=1, among="all")).patients


def write_chosen(out: Path, name: str, chosen: Sequence[str]) -> None:
    """A split of these labelled patients; held back are those of all."""
    drawn = read_split(out / "split-0.json")
    write_split(out / f"split-{name}.json", Split(tuple(chosen), drawn.validation, drawn.test))


def table(found: dict[str, dict[str, list[float]]]) -> str:
    """Mean and standard deviation of each way on each set, and each run."""
    lines = ["| set | patients | mean Dice ± deviation | each |\n", "|---|---|---|---|\n"]
    for name, ways in found.items():
        for way, dice in ways.items():
            deviation = f" ± {statistics.stdev(dice):.1f}" if len(dice) > 1 else ""
            each = ", ".join(f"{one:.1f}" for one in dice)
            lines.append(f"| {name} | {way} | {statistics.mean(dice):.1f}{deviation} | {each} |\n")
    return "".join(lines)


def main() -> None:
    """Run everything, one after the other, and write the table after each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="?")
    parser.add_argument("out", type=Path, nargs="?")
    parser.add_argument("--smoke", action="store_true", help="two steps on generated volumes: only whether it runs")
    parser.add_argument("--sets", nargs="+", default=["la2018", "mscmr"], choices=list(SETS))
    parser.add_argument("--ways", nargs="+", default=list(WAYS), choices=list(WAYS))
    parser.add_argument("--seeds", nargs="+", type=int, default=list(range(DRAWS)), choices=range(DRAWS))
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--pretrain-steps", type=int, default=1500)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        if given.smoke:
            given.data, given.out = Path(temporary), Path(temporary, "out")
            phantom.write_dataset(given.data / "hippocampus", labelled=range(24), unlabelled=(), size=32, slices=4)
            given.sets, given.seeds, given.steps, given.pretrain_steps = ["hippocampus"], [0], 2, 2
        found: dict[str, dict[str, list[float]]] = {}
        for name in given.sets:
            (given.out / name).mkdir(parents=True, exist_ok=True)
            with contextlib.redirect_stderr(io.StringIO()):
                begin(given.data / name, given.out / name, name, ["jcl"], given.pretrain_steps)
        for seed in given.seeds:
            for name, way in itertools.product(given.sets, given.ways):
                out = given.out / name
                with contextlib.redirect_stderr(io.StringIO()):
                    split = split_of(out, way, SETS[name][1], seed)
                    dice = score(out, "jcl", way, seed, given.steps, {"recipe": "strong"}, split)
                found.setdefault(name, {}).setdefault(way, []).append(dice)
                chosen = ", ".join(read_split(out / f"split-{split}.json").train)
                print(f"{name} {way} seed {seed} ({chosen}): {dice:.1f}", flush=True)
                (given.out / "suggest_trial.md").write_text(table(found))
                (given.out / "suggest_trial.json").write_text(json.dumps(found, indent=1) + os.linesep)
        print(table(found))


if __name__ == "__main__":
    main()
