"""jcl beside nnU-Net and MONAI: the same labelled patients, test patients, metric and processor time.

    bash benchmarks/peers/make_environment.sh NNUNET
    python benchmarks/equal_clock.py DATA OUT --sets mscmr la2018 --minutes 5 --nnunet NNUNET

DATA holds one folder with a dataset.json for each set. The clock is processor time of the training's process (its start
and the reading of data with it), on one core; preparing and predicting are given beside it. Every program predicts the
test patients of fold 0, and is scored by jcl's metric on their source volumes, at their own resolution. Nothing is
chosen on these scores. What is finished is not run again. Writes OUT/equal_clock.md and OUT/equal_clock.json.

Rows: `small` and `large` are jcl from random weights with its strong recipe, on slices of 64 x 64 with width 16 (as in
docs/results.md), and on slices as they are with all its defaults; `small-semi` is `small` with self-training on the
other training patients' scans, as is the default of `jcl finetune` (the other rows learn of labelled patients alone).
`nnunet` and `monai` train on the source volumes, `nnunet-store` and `monai-store` on what is in the store of `small`.
"""

import argparse
import json
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from peers import nnunet
from peers.rows import Comparison, Row, basic_unet_row, jcl_row, nnunet_row
from peers.work import Ledger

from jcl.data import phantom


@dataclass(frozen=True)
class Set:
    """In-plane spacing in mm of the small store, and labelled patients; as in docs/results.md."""

    spacing: float | None
    labelled: int


SETS = {"mscmr": Set(5.0, 2), "la2018": Set(2.4, 1), "chaos": Set(5.0, 1), "hippocampus": Set(None, 2)}
ROWS: dict[str, Callable[[Comparison, float], Row]] = {
    "small": lambda task, minutes: jcl_row(task, "jcl, 64 x 64, width 16", small=True, minutes=minutes),
    "small-semi": lambda task, minutes: jcl_row(
        task, "jcl, 64 x 64, width 16, self-training", small=True, minutes=minutes, semi="self_training"
    ),
    "nnunet": lambda task, minutes: nnunet_row(task, "nnU-Net 2-D", volumes="source", minutes=minutes),
    "monai": lambda task, minutes: basic_unet_row(task, "MONAI BasicUNet", volumes="source", minutes=minutes),
    "large": lambda task, minutes: jcl_row(task, "jcl, defaults", small=False, minutes=minutes),
    "nnunet-store": lambda task, minutes: nnunet_row(
        task, "nnU-Net 2-D, jcl's store", volumes="store", minutes=minutes
    ),
    "monai-store": lambda task, minutes: basic_unet_row(
        task, "MONAI BasicUNet, jcl's store", volumes="store", minutes=minutes
    ),
}
OF_NNUNET = ("nnunet", "nnunet-store")


def table(name: str, labelled: int, rows: Sequence[Row]) -> str:
    """A line for each row: minutes of processor time, steps, and Dice of all structures and each."""
    classes = list(rows[0].results["mean"]["classes"])
    cases = len(rows[0].results["cases"])
    lines = [
        f"| {name}, {labelled} labelled, {cases} test cases | prepare | train | steps | predict | Dice % | HD95 mm |"
        + "".join(f" {each} |" for each in classes),
        "|---" * (7 + len(classes)) + "|",
    ]
    for row in rows:
        spread = row.results["std"]["dice"]
        deviation = "" if spread is None else f" ± {100 * spread:.1f}"
        each = "".join(f" {100 * row.results['mean']['classes'][name]['dice']:.1f} |" for name in classes)
        lines.append(
            f"| {row.name} | {row.prepare:.1f} | {row.train:.1f} | {row.steps} | {row.predict:.1f} |"
            f" {row.dice:.1f}{deviation} | {row.results['mean']['hd95']:.1f} |{each}"
        )
    return "\n".join(lines) + "\n"


def smoke() -> None:
    """On generated volumes: jcl and MONAI for as short as can be, and a line where nnU-Net would be."""
    with tempfile.TemporaryDirectory() as folder:
        phantom.write_dataset(Path(folder, "data"), labelled=range(6), unlabelled=(), size=32, slices=4)
        out = Path(folder, "out")
        task = Comparison(Path(folder, "data"), out, None, 1, None, Ledger(out), size=32, width=4)
        rows = [
            jcl_row(task, "jcl", small=True, steps=2),
            jcl_row(task, "jcl, self-training", small=True, steps=2, semi="self_training"),
            basic_unet_row(task, "MONAI BasicUNet", volumes="source", minutes=0.01),
        ]
        print(table("phantom", 1, rows))
    print(nnunet.LEFT_OUT)


def main() -> None:
    """Run the rows one after the other, and write the table after each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="?")
    parser.add_argument("out", type=Path, nargs="?")
    parser.add_argument("--smoke", action="store_true", help="on generated volumes: only whether it runs")
    parser.add_argument("--sets", nargs="+", default=["mscmr", "la2018"], choices=list(SETS))
    parser.add_argument("--rows", nargs="+", default=list(ROWS), choices=list(ROWS))
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--nnunet", type=Path, help="virtual environment of nnU-Net; without it its rows are left out")
    given = parser.parse_args()
    if given.smoke:
        smoke()
        return
    if given.data is None or given.out is None:
        parser.error("DATA and OUT are needed")
    wanted = list(given.rows)
    if not nnunet.is_there(given.nnunet):
        wanted = [row for row in wanted if row not in OF_NNUNET]
        print(nnunet.LEFT_OUT, flush=True)
    tables: dict[str, str] = {}
    found: list[dict[str, object]] = []
    for name in given.sets:
        chosen, out = SETS[name], (given.out / name).resolve()
        out.mkdir(parents=True, exist_ok=True)
        environment = given.nnunet and given.nnunet.resolve()
        source = (given.data / name).resolve()
        task = Comparison(source, out, chosen.spacing, chosen.labelled, environment, Ledger(out))
        rows: list[Row] = []
        for row in wanted:
            rows.append(ROWS[row](task, given.minutes))
            found.append({"set": name, "row": row, **asdict(rows[-1])})
            tables[name] = table(name, chosen.labelled, rows)
            print(f"{name} {row}: {rows[-1].dice:.1f}", flush=True)
            (given.out / "equal_clock.md").write_text("\n".join(tables.values()))
            (given.out / "equal_clock.json").write_text(json.dumps(found, indent=1) + "\n")
    print("\n".join(tables.values()))


if __name__ == "__main__":
    main()
