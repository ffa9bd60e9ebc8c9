"""What pre-training gains in the demo with other settings than its own, and with other seeds.

    python benchmarks/demo_trial.py OUT [--seeds 11 12 13 14] [--pretrain-steps 1500] [--learning-rates 5e-4 7e-4 1e-3]

The demo shows seed 0, so its settings are chosen by others. Each is the whole demo, some minutes on two cores; what is
finished is not run again. Prints, and writes to OUT/demo_trial.md, the mean Dice in percent from random weights and
from JCL, and the gain of each draw of labelled patients.
"""

import argparse
import contextlib
import dataclasses
import io
import itertools
import statistics
import tempfile
from pathlib import Path

from jcl.cli.demo import Plan, demo
from jcl.config import DemoConfig
from jcl.files import read_json

TINY = Plan(
    unlabelled=2, draws=2, tested=1, size=32, slices=8, spacing=7.5, width=4, pretrain_steps=2, finetune_steps=2
)


def scores(out: Path, way: str, plan: Plan) -> list[float]:
    """Mean Dice in percent of each draw."""
    return [100 * read_json(out / "results" / f"{way}-{draw}.json")["mean"]["dice"] for draw in range(plan.draws)]


def row(out: Path, seed: int, plan: Plan) -> str:
    """A line of the table, after the demo has been run."""
    with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
        demo(DemoConfig(out=out, seed=seed), plan)
    random, jcl = scores(out, "random", plan), scores(out, "jcl", plan)
    gains = ", ".join(f"{after - before:+.1f}" for before, after in zip(random, jcl, strict=True))
    what = f"{plan.pretrain_steps} | {plan.finetune_steps} | {plan.learning_rate:g} | {seed}"
    return f"| {what} | {statistics.mean(random):.1f} | {statistics.mean(jcl):.1f} | {gains} |"


def main() -> None:
    """Run all of them, one after the other."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, nargs="?")
    parser.add_argument("--smoke", action="store_true", help="two steps: only whether it runs")
    parser.add_argument("--seeds", nargs="+", type=int, default=[11, 12, 13, 14])
    parser.add_argument("--pretrain-steps", nargs="+", type=int, default=[Plan.pretrain_steps])
    parser.add_argument("--finetune-steps", nargs="+", type=int, default=[Plan.finetune_steps])
    parser.add_argument("--learning-rates", nargs="+", type=float, default=[Plan.learning_rate])
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        plan = Plan()
        if given.smoke:
            given.out, given.seeds, plan = Path(temporary), [0], TINY
            given.pretrain_steps = given.finetune_steps = [2]
        if given.out is None:
            parser.error("OUT is needed")
        given.out.mkdir(parents=True, exist_ok=True)
        head = "| steps of pre-training | of fine-tuning | rate | seed | random weights | JCL | gain of each draw |"
        lines = [head, "|---|---|---|---|---|---|---|"]
        all_of_them = itertools.product(given.pretrain_steps, given.finetune_steps, given.learning_rates, given.seeds)
        for before, steps, rate, seed in all_of_them:
            tried = dataclasses.replace(plan, pretrain_steps=before, finetune_steps=steps, learning_rate=rate)
            lines.append(row(given.out / f"{before}-{steps}-{rate:g}-{seed}", seed, tried))
            (given.out / "demo_trial.md").write_text("\n".join(lines) + "\n")
            print(lines[-1], flush=True)


if __name__ == "__main__":
    main()
