"""Whether the patients that `jcl suggest` names are worth labelling first: against random ones, on real volumes.

    python benchmarks/suggest_trial.py DATA OUT [--sets la2018 mscmr] [--seeds 0 1 2 3 4] [--steps 500]

A cold start: a pre-training of the training patients, and no label. Patients, stores, pre-trainings and scores are
those of `recipe_trial.py`, whose OUT may be taken: only training patients of fold 0 take part, up to eight of them are
scored, and whom to label is chosen among the others. The random ones are other patients for each seed, the suggested
ones the same, trained with each seed. What is finished is not run again, and what was interrupted goes on.
Writes OUT/suggest_trial.md and OUT/suggest_trial.json.
"""

import argparse
import contextlib
import io
import json
import os
import statistics
import tempfile
from pathlib import Path

from recipe_trial import SETS, begin, score

from jcl.config import SuggestConfig
from jcl.data import phantom
from jcl.data.splits import Split, read_split, write_split
from jcl.stages.suggest import suggest

WAYS = ("random", "suggested")


def choose(out: Path, patients: int) -> tuple[str, ...]:
    """Whom to label by the pre-training; their split is written."""
    found = suggest(
        SuggestConfig(store=out / "store", run=(out / "jcl",), patients=patients, slices=1, among="all")
    ).patients
    drawn = read_split(out / "split-0.json")
    write_split(out / "split-suggested.json", Split(tuple(found), drawn.validation, drawn.test))
    return tuple(found)


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
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2, 3, 4])
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--pretrain-steps", type=int, default=1500)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        if given.smoke:
            given.data, given.out = Path(temporary), Path(temporary, "out")
            phantom.write_dataset(given.data / "hippocampus", labelled=range(14), unlabelled=(), size=32, slices=4)
            given.sets, given.seeds, given.steps, given.pretrain_steps = ["hippocampus"], [0], 2, 2
        found: dict[str, dict[str, list[float]]] = {}
        for name in given.sets:
            out = given.out / name
            out.mkdir(parents=True, exist_ok=True)
            with contextlib.redirect_stderr(io.StringIO()):
                begin(given.data / name, out, name, ["jcl"], given.pretrain_steps)
                chosen = choose(out, SETS[name][1])
            print(f"{name}: suggested {', '.join(chosen)}", flush=True)
        for seed in given.seeds:
            for name in given.sets:
                for way in WAYS:
                    split = "suggested" if way == "suggested" else None
                    with contextlib.redirect_stderr(io.StringIO()):
                        dice = score(given.out / name, "jcl", way, seed, given.steps, {"recipe": "strong"}, split)
                    found.setdefault(name, {}).setdefault(way, []).append(dice)
                    print(f"{name} {way} seed {seed}: {dice:.1f}", flush=True)
                    (given.out / "suggest_trial.md").write_text(table(found))
                    (given.out / "suggest_trial.json").write_text(json.dumps(found, indent=1) + os.linesep)
        print(table(found))


if __name__ == "__main__":
    main()
