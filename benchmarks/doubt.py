"""What a second look is worth, and whether the cases in doubt are those that are wrong, on patients held out.

    python benchmarks/doubt.py STORE RUN [RUN ...] [--split FILE] [--ways plain tta mean] [--figure FILE] [--smoke]

Of each run alone, and of all as one (`mean`), with the ways of `jcl predict`: turned views (`tta`), mirrored ones
(`mirror`), the largest piece and no holes where the training labels have it so (`postprocess`). Scored are the labelled
patients of the split file (else of the first run's test) that none of the runs was trained on. For each structure: the
mean Dice; Spearman's correlation of doubt and of the expected Dice with Dice; the mean Dice of the fifth of the cases
with the most doubt beside that of the others; how far the expected Dice is from the true one; and the expected
calibration error. The figure has a mark for each case and structure of the first way.
"""

import argparse
import contextlib
import io
import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from jcl.config import FinetuneConfig, PrepareConfig
from jcl.data import phantom
from jcl.data.context import context_of
from jcl.data.splits import read_split
from jcl.data.store import Store
from jcl.inference.calibration import Calibration, rank_correlation
from jcl.inference.doubt import DoubtTally
from jcl.inference.ensemble import load_members, make_groups
from jcl.inference.postprocess import Rules, Tidied, postprocess, rules_of
from jcl.inference.predictor import class_scores
from jcl.metrics import score_case
from jcl.stages.finetune import finetune
from jcl.stages.prepare import prepare
from jcl.training.run_folder import load_network
from jcl.training.shapes import shapes_of

CPU = torch.device("cpu")
WAYS = ("plain", "tta", "mirror", "postprocess", "mean", "mean tta")


@dataclass
class Found:
    """Of one way: rows of (structure, Dice, doubt, expected Dice), and the counts of all."""

    rows: list[tuple[str, float, float | None, float | None]] = field(default_factory=list)
    calibration: Calibration = field(default_factory=Calibration)
    tidied: Tidied = field(default_factory=Tidied)


def look_at(store: Store, runs: Sequence[Path], chosen: Sequence[int], way: str, found: Found) -> None:
    """Segment the cases by these runs together, and add what is found."""
    members = load_members(runs, load_network)
    infos = [{**m.info, **shapes_of(store, read_split(m.run / "split.json").train)} for m in members]
    rules = rules_of(infos) if way == "postprocess" else Rules()
    (group,) = make_groups(members, CPU, torch.float32, tta="tta" in way, mirror=way == "mirror")
    context = context_of(group.preparation)
    for case in chosen:
        record, content = store.cases[case], store.content(case)
        images = np.stack([store.image(case, number, context=context) for number in range(record.slices)])
        truth = np.stack([store.label(case, number)[content] for number in range(record.slices)])
        tally, labels = DoubtTally(len(store.class_names)), []
        for batch in class_scores(group.network, images, batch_size=16, device=CPU, precision=torch.float32):
            for scores in batch[:, :, *content]:
                classes = scores.argmax(0)
                found.calibration.add(scores, classes, torch.from_numpy(truth[len(labels)]))
                tally.add(scores, classes)
                labels.append(classes.to(torch.uint8).numpy())
        segmented = np.stack(labels)
        found.tidied += postprocess(segmented, rules)
        dice = score_case(segmented, truth, classes=store.class_names, spacing=record.spacing)
        for name, each in zip(store.class_names, tally.result(), strict=True):
            if dice[name]["dice"] is not None:
                found.rows.append((name, dice[name]["dice"], each.doubt, each.expected_dice))


def mean_dice(rows: Sequence[tuple[str, float, float | None, float | None]]) -> float:
    return statistics.fmean(row[1] for row in rows) if rows else float("nan")


def lines_of(way: str, found: Found) -> list[str]:
    """A row of the table for each structure."""
    lines: list[str] = []
    error = found.calibration.result()["ece"]
    for name in dict.fromkeys(row[0] for row in found.rows):
        rows = [row for row in found.rows if row[0] == name]
        known = sorted((row for row in rows if row[2] is not None), key=lambda row: -(row[2] or 0))
        worst = max(1, len(known) // 5)
        parts = [
            statistics.fmean(r[1] for r in some) if some else float("nan") for some in (known[:worst], known[worst:])
        ]
        off = [abs(row[1] - row[3]) for row in rows if row[3] is not None]
        ranks = [rank_correlation([(row[place], row[1]) for row in rows]) for place in (2, 3)]
        shown = ["–" if rank is None else f"{rank:.2f}" for rank in ranks]
        cells = [
            way, name, str(len(rows)), f"{100 * statistics.fmean(row[1] for row in rows):.1f}", *shown,
            *(f"{100 * part:.1f}" for part in parts), f"{100 * statistics.fmean(off):.1f}" if off else "–",
            f"{error or 0:.3f}",
        ]  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    return lines


HEAD = """\
| way | structure | cases | Dice | rank: doubt | rank: expected Dice | fifth in doubt | others | expected off by | ECE |
|---|---|---|---|---|---|---|---|---|---|"""


def draw(path: Path, found: Found) -> None:
    """Dice over doubt."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    for name in dict.fromkeys(row[0] for row in found.rows):
        rows = [row for row in found.rows if row[0] == name and row[2] is not None]
        axes.plot([row[2] for row in rows], [row[1] for row in rows], "o", ms=4, alpha=0.7, mew=0, label=name)
    axes.set(xlabel="doubt", ylabel="Dice", ylim=(0, 1))
    axes.legend(frameon=False)
    figure.savefig(path, dpi=110)


def small(folder: Path) -> tuple[Path, list[Path]]:
    """A store of generated volumes and two runs of two steps."""
    phantom.write_dataset(folder / "scans", labelled=range(8), unlabelled=(), size=32, slices=4)
    prepare(PrepareConfig(source=folder / "scans", out=folder / "store", workers=1))
    runs = [folder / f"run-{seed}" for seed in (0, 1)]
    for seed, run in enumerate(runs):
        finetune(FinetuneConfig(store=folder / "store", init="none", out=run, width=2, steps=2, seed=seed, semi="none"))
    return folder / "store", runs


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store", type=Path, nargs="?")
    parser.add_argument("runs", type=Path, nargs="*")
    parser.add_argument("--split", type=Path, help="whose patients are scored, training ones too (else those tested)")
    parser.add_argument("--ways", nargs="+", default=list(WAYS), choices=WAYS)
    parser.add_argument("--cases", type=int, default=1000, help="at most")
    parser.add_argument("--figure", type=Path)
    parser.add_argument("--smoke", action="store_true", help="two steps on generated volumes: only whether it runs")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        if given.smoke:
            with contextlib.redirect_stderr(io.StringIO()):
                given.store, given.runs = small(Path(temporary))
        store = Store.open(given.store)
        splits = [read_split(run / "split.json") for run in given.runs]
        asked = read_split(given.split) if given.split else None
        candidates = {*asked.train, *asked.test} if asked else set(splits[0].test)
        trained = {patient for split in splits for patient in (*split.train, *split.validation)}
        patients = candidates - trained
        chosen = [n for n, record in enumerate(store.cases) if record.labelled and record.patient in patients]
        print(HEAD, flush=True)
        for number, way in enumerate(given.ways):
            found = Found()
            for runs in [given.runs] if way.startswith("mean") else [[run] for run in given.runs]:
                look_at(store, runs, chosen[: given.cases], way, found)
            print("\n".join(lines_of(way, found)), flush=True)
            if way == "postprocess":
                print(f"postprocess: {found.tidied}", flush=True)
            if number == 0 and given.figure:
                draw(given.figure, found)


if __name__ == "__main__":
    main()
