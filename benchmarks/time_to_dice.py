"""Dice over the time that it takes to get there from the raw scans: jcl with and without pre-training, and its peers.

    bash benchmarks/peers/make_environment.sh NNUNET
    python benchmarks/time_to_dice.py DATA/mscmr OUT --spacing 5.0 --labelled 2 --nnunet NNUNET

DATA/mscmr has a dataset.json. Each point is a training of its own, with a learning rate that falls to its end: of
`--finetune` steps after `--pretrain` steps of JCL (0: from random weights) for jcl, on labelled patients alone and by
what it learns of the others' scans (`--semi`); of `--minutes` for nnU-Net and MONAI, which train on the source volumes
and on those of jcl's store (`--volumes`). Time is processor time on one core: preparing, pre-training and fine-tuning,
but not predicting. The test patients of fold 0 are scored on their source volumes. What is finished is not run again,
so points can be added, by one command at a time.
Writes OUT/time_to_dice.md, .json and .png.
"""

import argparse
import json
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from itertools import product
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from peers import nnunet
from peers.rows import Comparison, Row, basic_unet_row, jcl_row, nnunet_row
from peers.work import Ledger

from jcl.data import phantom

PEERS = {
    "MONAI BasicUNet": basic_unet_row,
    "nnU-Net 2-D": nnunet_row,
}


def points(
    task: Comparison,
    *,
    pretrain: Sequence[int],
    semi: Sequence[str],
    finetune: Sequence[int],
    volumes: Sequence[str],
    minutes: Sequence[float],
) -> Iterator[Row]:
    """All points, the cheapest of each curve first; a row's name is that of its curve."""
    for before, technique, steps in product(pretrain, semi, sorted(finetune)):
        name = f"jcl, {before} steps of pre-training" if before else "jcl, no pre-training"
        name += "" if technique == "none" else f", {technique.replace('_', '-')}"
        yield jcl_row(task, name, small=True, steps=steps, pretrain_steps=before, semi=technique)
    for where, some, (peer, row) in product(volumes, sorted(minutes), PEERS.items()):
        if row is not nnunet_row or nnunet.is_there(task.environment):
            name = peer if where == "source" else f"{peer}, jcl's store"
            yield row(task, name, volumes=where, minutes=some)


def table(rows: Sequence[Row]) -> str:
    """A line for each point, a curve after the other, by time."""
    lines = ["| | steps | prepare | pre-train | train | all, minutes | Dice % |", "|---|---|---|---|---|---|---|"]
    for name, curve in curves(rows).items():
        for row in curve:
            parts = " | ".join(f"{part:.1f}" for part in (row.prepare, row.pretrain, row.train, row.minutes))
            lines.append(f"| {name} | {row.steps} | {parts} | {row.dice:.1f} |")
    return "\n".join(lines) + "\n"


def curves(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """The points of each curve, by time."""
    names = dict.fromkeys(row.name for row in rows)
    return {name: sorted((row for row in rows if row.name == name), key=lambda row: row.minutes) for name in names}


def draw(path: Path, rows: Sequence[Row]) -> None:
    """The curves, with a point for each training."""
    figure, axis = plt.subplots(figsize=(6.4, 4.2), layout="constrained")
    for name, curve in curves(rows).items():
        axis.plot([row.minutes for row in curve], [row.dice for row in curve], "o-", label=name, markersize=4)
    axis.set(xscale="log", xlabel="minutes of one core, from the raw scans", ylabel="Dice %", ylim=(0, 100))
    axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.xaxis.set_minor_formatter(NullFormatter())
    axis.grid(visible=True, linewidth=0.3)
    axis.legend(fontsize=8)
    figure.savefig(path, dpi=90)
    plt.close(figure)


def write(out: Path, rows: Sequence[Row]) -> None:
    """Table, picture and numbers of what there is so far."""
    (out / "time_to_dice.md").write_text(table(rows))
    (out / "time_to_dice.json").write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")
    draw(out / "time_to_dice.png", rows)


def smoke() -> None:
    """On generated volumes, two steps each."""
    with tempfile.TemporaryDirectory() as folder:
        phantom.write_dataset(Path(folder, "data"), labelled=range(6), unlabelled=(), size=32, slices=4)
        out = Path(folder, "out")
        task = Comparison(Path(folder, "data"), out, None, 1, None, Ledger(out), size=32, width=4)
        few = {"pretrain": [2], "semi": ["none", "self_training"], "finetune": [2]}
        rows = list(points(task, **few, volumes=[], minutes=[]))
        write(out, rows)
        print(table(rows))


def main() -> None:
    """Run all points, and write table and picture after each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, nargs="?")
    parser.add_argument("out", type=Path, nargs="?")
    parser.add_argument("--smoke", action="store_true", help="on generated volumes: only whether it runs")
    parser.add_argument("--spacing", type=float, help="in mm, of jcl's slices of 64 x 64")
    parser.add_argument("--labelled", type=int, default=2)
    parser.add_argument("--pretrain", nargs="*", type=int, default=[0, 3000], help="steps of JCL; 0 for none")
    parser.add_argument("--semi", nargs="+", default=["none", "self_training"], help="techniques; none for none")
    parser.add_argument("--finetune", nargs="*", type=int, default=[250, 500, 1000])
    parser.add_argument("--volumes", nargs="+", default=["store", "source"], choices=["store", "source"])
    parser.add_argument("--minutes", nargs="*", type=float, default=[2.5, 5.0, 10.0], help="of the peers' trainings")
    parser.add_argument("--nnunet", type=Path, help="virtual environment of nnU-Net; without it it is left out")
    given = parser.parse_args()
    if given.smoke:
        smoke()
        return
    if given.source is None or given.out is None:
        parser.error("a data set and OUT are needed")
    if not nnunet.is_there(given.nnunet):
        print(nnunet.LEFT_OUT, flush=True)
    out, environment = given.out.resolve(), given.nnunet and given.nnunet.resolve()
    out.mkdir(parents=True, exist_ok=True)
    task = Comparison(given.source.resolve(), out, given.spacing, given.labelled, environment, Ledger(out))
    rows: list[Row] = []
    wanted = {name: getattr(given, name) for name in ("pretrain", "semi", "finetune", "volumes", "minutes")}
    for row in points(task, **wanted):
        rows.append(row)
        print(f"{row.name}, {row.minutes:.1f} minutes: {row.dice:.1f}", flush=True)
        write(out, rows)
    print(table(rows))


if __name__ == "__main__":
    main()
