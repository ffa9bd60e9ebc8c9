"""Every method with other rates and temperatures than it had untuned: one sweep of equal size for all, on real volumes.

    python benchmarks/rate_sweep.py DATA OUT [--methods jcl simclr …] [--set la2018] [--seeds 0 1]

Five settings each: the method's own (of before this sweep, which set the defaults of today), its rate times and by
three, and its temperature times and by two; where it has none, its rate times and by ten. Patients, store and scores
are those of `recipe_trial.py`: only training patients of fold 0 take part, some of whom are scored, so that what is
chosen here is not chosen on test patients. Fine-tuned by the paper's recipe, as the tables of methods are; so are
random weights. What is finished is not run again, and what was interrupted goes on.
Writes OUT/rate_sweep.md and OUT/rate_sweep.json.
"""

import argparse
import contextlib
import io
import json
import statistics
import tempfile
from pathlib import Path
from typing import Any

from recipe_trial import INITS, SETS, begin, score

from jcl import methods
from jcl.data import phantom
from jcl.methods._earlier import earlier

NONE, OWN = "none", "own"
RATES, FAR_RATES = {"rate / 3": 1 / 3, "rate x 3": 3.0}, {"rate / 10": 0.1, "rate x 10": 10.0}
TEMPERATURES = {"temperature / 2": 0.5, "temperature x 2": 2.0}


def settings_of(method: str) -> dict[str, dict[str, Any]]:
    """The settings of each pre-training of a method, by what is other than it was before this sweep."""
    before = _before(method)
    rate = before["learning_rate"]
    temperature = before.get("temperature")
    kept = {} if temperature is None else {"method_settings": {"temperature": temperature}}
    found: dict[str, dict[str, Any]] = {OWN: {"method": method, "learning_rate": rate, **kept}}
    for name, factor in {**RATES, **(FAR_RATES if temperature is None else {})}.items():
        found[name] = {**found[OWN], "learning_rate": factor * rate}
    for name, factor in TEMPERATURES.items() if temperature is not None else ():
        found[name] = {**found[OWN], "method_settings": {"temperature": factor * temperature}}
    return found


def _before(method: str) -> dict[str, Any]:
    """Rate and settings from before the sweep."""
    return earlier(methods.load(method), {"method": method})


def table(rows: dict[tuple[str, str], list[float]]) -> str:
    """A row for each method: mean of the draws and each of them, the best setting in bold; random weights come last."""
    last = ("temperature / 2 or rate / 10", "temperature x 2 or rate x 10")
    head = ("method", "rate", "as it was", "rate / 3", "rate x 3", *last)
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for method in dict.fromkeys(method for method, _ in rows if method != NONE):
        found = [dice for (name, _), dice in rows.items() if name == method]
        best = max(found, key=statistics.mean)
        cells = [_cell(dice, bold=dice is best) for dice in found]
        lines.append(f"| {method} | {_before(method)['learning_rate']:g} | {' | '.join(cells)} |")
    lines.append(f"| random weights | | {_cell(rows[NONE, ''])} | | | | |")
    return "\n".join(lines) + "\n"


def _cell(dice: list[float], *, bold: bool = False) -> str:
    mean = f"{statistics.mean(dice):.1f}"
    return f"{f'**{mean}**' if bold else mean} ({', '.join(f'{one:.1f}' for one in dice)})"


def main() -> None:
    """Run everything, one method after the other, and write the table after each run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="?")
    parser.add_argument("out", type=Path, nargs="?")
    parser.add_argument("--smoke", action="store_true", help="two steps on generated volumes: only whether it runs")
    parser.add_argument("--set", default="la2018", choices=list(SETS))
    parser.add_argument("--methods", nargs="+", default=methods.available(), choices=methods.available())
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1])
    parser.add_argument("--labelled", type=int, default=4)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--pretrain-steps", type=int, default=1000)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        if given.smoke:
            given.data, given.out, given.set = Path(temporary), Path(temporary, "out"), "hippocampus"
            phantom.write_dataset(given.data / given.set, labelled=range(20), unlabelled=(), size=32, slices=4)
            given.methods, given.seeds, given.steps, given.pretrain_steps = ["simclr", "byol"], [0], 2, 2
        if given.data is None or given.out is None:
            parser.error("DATA and OUT are needed")
        SETS[given.set] = (SETS[given.set][0], given.labelled)
        out = given.out / given.set
        out.mkdir(parents=True, exist_ok=True)
        rows: dict[tuple[str, str], list[float]] = {}
        settings = {(method, name): each for method in given.methods for name, each in settings_of(method).items()}
        for (method, setting), each in {(NONE, ""): {}, **settings}.items():
            init = f"{method} {setting}".strip().replace("/", "by")
            INITS[init] = each
            with contextlib.redirect_stderr(io.StringIO()):
                begin(given.data / given.set, out, given.set, [init], given.pretrain_steps)
                dice = [score(out, init, "paper", seed, given.steps, {"recipe": "paper"}) for seed in given.seeds]
            rows[method, setting] = dice
            print(f"{init}: {', '.join(f'{one:.1f}' for one in dice)}", flush=True)
            (given.out / "rate_sweep.md").write_text(table(rows))
        found = [{"method": method, "setting": setting, "dice": dice} for (method, setting), dice in rows.items()]
        (given.out / "rate_sweep.json").write_text(json.dumps(found, indent=1) + "\n")
        print(table(rows))


if __name__ == "__main__":
    main()
