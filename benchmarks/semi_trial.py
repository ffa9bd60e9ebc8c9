"""What each semi-supervised technique adds to a plain fine-tuning, with and without pre-training, on real volumes.

    python benchmarks/semi_trial.py DATA OUT [--semi none unimatch] [--sets la2018 mscmr] [--seeds 0 1] [--steps 800]

Patients, stores, pre-trainings and scores are those of `recipe_trial.py`, whose OUT may be taken: only training
patients of fold 0 take part. A few of them have labels, up to eight others are scored, and the rest, with the few, are
the patients without labels; neither the scored nor the test patients of fold 0 are among them. What is finished is not
run again, and what was interrupted goes on. With `--set weight=1`, say, of one technique, a run has a name of its own.
Writes OUT/semi_trial.md and OUT/semi_trial.json.
"""

import argparse
import contextlib
import io
import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

from recipe_trial import SETS, begin, score, table

from jcl import semi
from jcl.data import phantom
from jcl.training.recipes import RECIPES

NONE = "none"
"""The plain fine-tuning."""


def runs_of(techniques: list[str], recipe: str, given: dict[str, float | int]) -> dict[str, dict[str, Any]]:
    """Settings of each fine-tuning, by its name in the table."""
    runs: dict[str, dict[str, Any]] = {}
    for name in techniques:
        if name == NONE:
            runs[recipe] = {"recipe": recipe}
            continue
        more = "".join(f" {key}={value}" for key, value in given.items())
        runs[f"{recipe} {name}{more}"] = {"recipe": recipe, "semi": name, "semi_settings": given}
    return runs


def pair(text: str) -> tuple[str, float | int]:
    """NAME=VALUE."""
    name, _, value = text.partition("=")
    return name, int(value) if value.isdigit() else float(value)


def main() -> None:
    """Run everything, one after the other, and write the table after each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    offered = [NONE, *semi.available()]
    parser.add_argument("data", type=Path, nargs="?")
    parser.add_argument("out", type=Path, nargs="?")
    parser.add_argument("--smoke", action="store_true", help="two steps on generated volumes: only whether it runs")
    parser.add_argument("--semi", nargs="+", default=offered, choices=offered)
    parser.add_argument("--set", nargs="+", default=[], type=pair, metavar="NAME=VALUE", help="settings of a technique")
    parser.add_argument("--recipe", default="strong", choices=list(RECIPES))
    parser.add_argument("--sets", nargs="+", default=["la2018", "mscmr"], choices=list(SETS))
    parser.add_argument("--inits", nargs="+", default=["none", "jcl"], choices=("none", "jcl"))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1])
    parser.add_argument("--labelled", type=int, help="patients with labels (else as recipe_trial.py)")
    parser.add_argument("--steps", type=int, default=800)
    parser.add_argument("--pretrain-steps", type=int, default=1500)
    given = parser.parse_args()
    if given.labelled:
        SETS.update({name: (spacing, given.labelled) for name, (spacing, _) in SETS.items()})
    with tempfile.TemporaryDirectory() as temporary:
        if given.smoke:
            given.data = Path(temporary)
            phantom.write_dataset(given.data / "hippocampus", labelled=range(14), unlabelled=(), size=32, slices=4)
            given.sets, given.seeds, given.steps, given.pretrain_steps = ["hippocampus"], [0], 2, 2
            given.out, given.inits = given.data / "out", ["none"]
        runs = runs_of(given.semi, given.recipe, dict(given.set))
        rows: dict[tuple[str, str], dict[str, list[float]]] = {}
        listed: list[dict[str, Any]] = []
        for name in given.sets:
            (given.out / name).mkdir(parents=True, exist_ok=True)
            with contextlib.redirect_stderr(io.StringIO()):
                begin(given.data / name, given.out / name, name, given.inits, given.pretrain_steps)
        for seed in given.seeds:
            for run, settings in runs.items():
                for init in given.inits:
                    for name in given.sets:
                        begun = time.monotonic()
                        with contextlib.redirect_stderr(io.StringIO()):
                            dice = score(given.out / name, init, run, seed, given.steps, settings)
                        took = time.monotonic() - begun
                        rows.setdefault((init, run), {}).setdefault(name, []).append(dice)
                        print(f"{init} {run} {name} seed {seed}: {dice:.1f} ({took:.0f} s)", flush=True)
                        listed.append({"init": init, "run": run, "set": name, "seed": seed, "dice": dice})
                        (given.out / "semi_trial.md").write_text(table(rows, given.sets))
                        (given.out / "semi_trial.json").write_text(json.dumps(listed, indent=1) + os.linesep)
        print(table(rows, given.sets))


if __name__ == "__main__":
    main()
