"""What each part of the strong recipe is worth: fine-tuned with all, without one, and by the paper's, on real volumes.

    python benchmarks/recipe_trial.py DATA OUT [--sets la2018 mscmr] [--seeds 0 1] [--steps 800]

Only training patients of fold 0 take part: a few of them are trained on, up to eight others scored. The test patients
of fold 0, on which docs/results.md compares, are not read, so that what is chosen here is not chosen on them. What is
finished is not run again, and what was interrupted goes on. Writes OUT/recipe_trial.md and OUT/recipe_trial.json.
"""

import argparse
import contextlib
import io
import json
import os
import random
import statistics
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jcl.config import EvaluateConfig, FinetuneConfig, PrepareConfig, PretrainConfig
from jcl.data import phantom
from jcl.data.splits import Split, draw_split, write_split
from jcl.data.store import Store
from jcl.stages.evaluate import evaluate
from jcl.stages.finetune import finetune
from jcl.stages.prepare import prepare
from jcl.stages.pretrain import pretrain

SETS: dict[str, tuple[float | None, int]] = {
    "la2018": (2.4, 2),
    "mscmr": (5.0, 2),
    "chaos": (5.0, 2),
    "hippocampus": (None, 4),
}
"""Spacing in mm that the slices of 64 x 64 pixels are resampled to, and labelled patients."""

SCORED = 8
"""Patients at most."""

DRAWS = 5
"""Of labelled patients."""

BENT = {"recipe": "strong", "elastic": 0.05}
"""What the strong recipe was at first; its parts were left out one at a time."""

RECIPES: dict[str, dict[str, Any]] = {
    "paper": {"recipe": "paper"},
    "strong": {"recipe": "strong"},
    "strong, elastic shifts": BENT,
    "the same, cross-entropy alone": {**BENT, "loss": "cross_entropy"},
    "the same, no change of intensity": {**BENT, "intensity": 0.0},
    "the same, last weights": {**BENT, "average": 0.0},
    "the same, no warm-up": {**BENT, "warmup": 0.0},
    "the same, rate 5e-4": {**BENT, "learning_rate": 5e-4},
    "the same, rate 2e-3": {**BENT, "learning_rate": 2e-3},
    "strong, rate 2e-3": {"recipe": "strong", "learning_rate": 2e-3},
    "strong, rate 3e-3": {"recipe": "strong", "learning_rate": 3e-3},
    "strong, rate 5e-3": {"recipe": "strong", "learning_rate": 5e-3},
    "strong, half drawn by structure": {"recipe": "strong", "foreground": 0.5},
    "strong, 1 - Dice": {"recipe": "strong", "loss": "dice_cross_entropy"},
    "strong, log of Dice": {"recipe": "strong", "loss": "log_dice_cross_entropy"},
    "strong, context 1": {"recipe": "strong", "context": 1},
}

INITS: dict[str, dict[str, Any]] = {
    "none": {},
    "jcl": {"method": "jcl"},
    "mae": {"method": "mae"},
    "mae, sparse": {"method": "mae", "method_settings": {"sparse": True}},
}
"""What is fine-tuned from: random weights, and the settings of pre-trainings; by default the first two."""


def file_name(name: str) -> str:
    """As a file may be called."""
    return name.replace(" ", "_").replace(",", "")


def begin(source: Path, out: Path, name: str, inits: Sequence[str], pretrain_steps: int) -> None:
    """Store and pre-trainings of a set, the scored patients left out of them."""
    spacing, labelled = SETS[name]
    if not (out / "store").exists():
        prepare(PrepareConfig(source=source, out=out / "store", size=64, spacing=spacing, workers=1))
    store = Store.open(out / "store")
    patients: dict[str, bool] = {}
    for case in store.cases:
        patients[case.patient] = patients.get(case.patient, False) or case.labelled
    store.close()
    fold = draw_split(patients, fold=0)
    candidates = {patient: patients[patient] for patient in fold.train}
    having = sorted(patient for patient, has_labels in candidates.items() if has_labels)
    chosen = random.Random(0).sample(having, len(having))
    count = min(SCORED, len(chosen) // 2)
    scored, pool = tuple(chosen[:count]), chosen[count:]
    (out / "scored.json").write_text(json.dumps(scored))
    write_split(out / "pretrain.json", Split(tuple(sorted(set(candidates) - set(scored))), test=scored))
    for seed in range(DRAWS):
        few = [pool[(seed * labelled + number) % len(pool)] for number in range(labelled)]
        # the test patients of the fold as validation: nobody validates here, but so they are held back
        write_split(out / f"split-{seed}.json", Split(tuple(few), validation=fold.test, test=scored))
    shared = {"stores": (out / "store",), "split": out / "pretrain.json", "width": 16, "resume": True}
    for init in inits:
        if INITS[init]:
            pretrain(PretrainConfig(**shared, **INITS[init], out=out / file_name(init), steps=pretrain_steps))


def score(
    out: Path, init: str, name: str, seed: int, steps: int, settings: Mapping[str, Any], split: str | None = None
) -> float:
    """Mean Dice in percent of one fine-tuning; the name is that of its settings, the default split that of its seed."""
    run = out / f"{file_name(init)}-{file_name(name)}-{seed}"
    results = run.with_name(f"{run.name}.json")  # the name may have a point in it, as in weight=0.5
    if not results.exists():
        start = {"init": str(out / file_name(init))} if INITS[init] else {"init": "none", "width": 16}
        patients = out / f"split-{seed if split is None else split}.json"
        shared = {"store": out / "store", "split": patients, "steps": steps, "seed": seed, "resume": True}
        finetune(FinetuneConfig(**{"semi": "none", **shared, **start, **settings}, out=run))
        evaluate(EvaluateConfig(run=run, out=results))
    return 100 * json.loads(results.read_text())["mean"]["dice"]


def table(rows: dict[tuple[str, str], dict[str, list[float]]], sets: Sequence[str]) -> str:
    """Mean over seeds, and each seed."""
    head = ["| from | recipe |", *(f" {name} |" for name in sets), "\n|---|---|", *("---|" for _ in sets), "\n"]
    lines = ["".join(head)]
    for (init, recipe), of in rows.items():
        cells = [
            f"{statistics.mean(of[name]):.1f} ({', '.join(f'{d:.1f}' for d in of[name])})" if of.get(name) else ""
            for name in sets
        ]
        lines.append(f"| {init} | {recipe} | {' | '.join(cells)} |\n")
    return "".join(lines)


def main() -> None:
    """Run everything, one after the other, and write the table after each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="?")
    parser.add_argument("out", type=Path, nargs="?")
    parser.add_argument("--smoke", action="store_true", help="two steps on generated volumes: only whether it runs")
    parser.add_argument("--sets", nargs="+", default=["la2018", "mscmr"], choices=list(SETS))
    parser.add_argument("--inits", nargs="+", default=["none", "jcl"], choices=list(INITS), metavar="INIT")
    parser.add_argument("--recipes", nargs="+", default=list(RECIPES), choices=list(RECIPES), metavar="RECIPE")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1])
    parser.add_argument("--steps", type=int, default=800)
    parser.add_argument("--pretrain-steps", type=int, default=1500)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        if given.smoke:
            given.data = given.out = Path(temporary)
            phantom.write_dataset(given.data / "hippocampus", labelled=range(14), unlabelled=(), size=32, slices=4)
            given.sets, given.seeds, given.steps, given.pretrain_steps = ["hippocampus"], [0], 2, 2
            given.out, given.recipes = given.data / "out", ["paper", "strong"]
        rows: dict[tuple[str, str], dict[str, list[float]]] = {}
        for name in given.sets:
            (given.out / name).mkdir(parents=True, exist_ok=True)
            with contextlib.redirect_stderr(io.StringIO()):
                begin(given.data / name, given.out / name, name, given.inits, given.pretrain_steps)
        for seed in given.seeds:
            for recipe in given.recipes:
                for init in given.inits:
                    for name in given.sets:
                        with contextlib.redirect_stderr(io.StringIO()):
                            dice = score(given.out / name, init, recipe, seed, given.steps, RECIPES[recipe])
                        rows.setdefault((init, recipe), {}).setdefault(name, []).append(dice)
                        print(f"{init} {recipe} {name} seed {seed}: {dice:.1f}", flush=True)
                        (given.out / "recipe_trial.md").write_text(table(rows, given.sets))
        listed = [{"init": i, "recipe": r, "dice": found} for (i, r), found in rows.items()]
        (given.out / "recipe_trial.json").write_text(json.dumps(listed, indent=1) + os.linesep)
        print(table(rows, given.sets))


if __name__ == "__main__":
    main()
