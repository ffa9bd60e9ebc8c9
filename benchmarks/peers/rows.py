"""A row of a comparison: a program trained on the labelled patients of a split, and its scores on the test patients."""

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jcl.data.splits import Split, read_split, take_split, write_split
from jcl.errors import DataError

from . import nnunet
from .raw_data import draw, export_source, export_store, spec_of
from .scoring import score
from .work import Ledger, Took

BASIC_UNET = Path(__file__).parent / "basic_unet.py"
FEW, MANY = 4, 16
"""Steps of the two short runs that say how long the start and a step of `jcl finetune` take; see `probed`."""

APART = 0.1
"""Minutes that the two differ by at least: starts alone differ by a second, which is as long as many small steps."""


@dataclass(frozen=True)
class Row:
    """Minutes of processor time of each part, and the scores of the test patients."""

    name: str
    prepare: float
    pretrain: float
    train: float
    predict: float
    steps: int
    results: Mapping[str, Any]
    about: Mapping[str, Any] = field(default_factory=dict)

    @property
    def dice(self) -> float:
        """Mean over test cases, of the mean over structures; percent."""
        return 100 * self.results["mean"]["dice"]

    @property
    def minutes(self) -> float:
        """From the raw scans to the trained network."""
        return self.prepare + self.pretrain + self.train


@dataclass(frozen=True)
class Comparison:
    """A data set, the patients, and the folder of everything that is made of them.

    Attributes:
        source: the data set, in the layout of the Decathlon.
        out: one folder for one set and number of labelled patients.
        spacing: in mm, of the small store (64 x 64, width 16).
        labelled: patients that are trained on.
        environment: virtual environment of nnU-Net, if there is one.
    """

    source: Path
    out: Path
    spacing: float | None
    labelled: int
    environment: Path | None
    ledger: Ledger
    fold: int = 0
    seed: int = 0
    size: int = 64
    width: int = 16

    def split(self) -> Split:
        """That of the comparison, kept in `split.json`."""
        path = self.out / "split.json"
        if not path.exists():
            self.out.mkdir(parents=True, exist_ok=True)
            write_split(path, draw(self.source, labelled=self.labelled, fold=self.fold))
        return read_split(path)

    def jcl(self, name: str, *words: object, makes: Sequence[Path]) -> Took:
        """Run a command of jcl, by the Python that runs this."""
        return self.ledger.run(name, [sys.executable, "-m", "jcl", *words], makes=makes)

    def store(self, *, small: bool) -> tuple[Path, Took]:
        """The small store, or one of slices as they are; of all scans, with and without labels."""
        path = self.out / ("store-small" if small else "store")
        spacing = ("--spacing", self.spacing) if small and self.spacing else ()
        size = ("--size", self.size) if small else ()
        words = ("prepare", self.source, "--out", path, "--workers", 1, *size, *spacing)
        return path, self.jcl(path.name, *words, makes=[path])

    def raw(self, volumes: str) -> Path:
        """The folder of a peer's files, with the raw data in it; `volumes` is `source` or `store`."""
        out = self.out / f"peers-{volumes}"
        folder = nnunet.dataset_folder(out)
        if not (folder / "splits_final.json").exists():
            if volumes == "source":
                export_source(self.source, folder, self.split())
            else:
                export_store(self.store(small=True)[0], folder, self.split())
        return out

    def scored(self, predictions: Path, **how: Any) -> dict[str, Any]:
        """The scores of predictions, kept in RESULTS.json beside them."""
        path = predictions.with_suffix(".json")
        if not path.exists():
            path.write_text(json.dumps(score(predictions, self.source, self.split(), **how), indent=1) + "\n")
        return json.loads(path.read_text())


def probed(minutes_of: Callable[[int], float]) -> tuple[tuple[int, float], tuple[int, float]]:
    """Two short runs as (steps, minutes), the longer with four times the steps until it takes `APART` more.

    Args:
        minutes_of: runs so many steps.
    """
    few, count = minutes_of(FEW), MANY
    while (many := minutes_of(count)) - few < APART:
        count *= 4
    return (FEW, few), (count, many)


def steps_in(minutes: float, few: tuple[int, float], many: tuple[int, float]) -> int:
    """How many steps end within some minutes, by two shorter runs: (steps, minutes) each.

    Raises:
        ValueError: the longer run was not longer.
    """
    each = (many[1] - few[1]) / (many[0] - few[0])
    if each <= 0:
        raise ValueError(f"{many[0]} steps took no longer than {few[0]}: this machine is too busy to measure")
    return max(1, int(few[0] + (minutes - few[1]) / each))


def jcl_row(
    task: Comparison,
    name: str,
    *,
    small: bool,
    minutes: float | None = None,
    steps: int | None = None,
    pretrain_steps: int = 0,
    semi: str = "none",
) -> Row:
    """jcl: prepared, pre-trained if asked for, fine-tuned for some steps, or for as many as fit into some minutes.

    Args:
        task: the comparison.
        name: of the row.
        small: 64 x 64 and width 16, as in docs/results.md; else slices as they are and the width of the paper.
        minutes: of the fine-tuning's process, from which its steps follow; two short runs, which do not count, measure
            how many.
        steps: of the fine-tuning, instead.
        pretrain_steps: of JCL on the training patients of the fold, 0 for none.
        semi: what the fine-tuning learns of the scans without labels by; its word for nothing is `none`.
    """
    store, prepared = task.store(small=small)
    kind = "small" if small else "large"
    width = ("--width", task.width) if small else ()
    init: tuple[object, ...] = ("--init", "none", *width)
    pretrained = Took(0, 0)
    if pretrain_steps:
        run = task.out / f"jcl-{kind}-p{pretrain_steps}"
        words = ("pretrain", store, "--out", run, *width, "--fold", task.fold, "--steps", pretrain_steps)
        pretrained = task.jcl(run.name, *words, "--seed", task.seed, makes=[run])
        init = ("--init", run)
    few = ("--patients", task.labelled, "--fold", task.fold, "--seed", task.seed, "--semi", semi)

    def finetune(count: int, run: Path) -> Took:
        return task.jcl(run.name, "finetune", store, *init, "--out", run, *few, "--steps", count, makes=[run])

    technique = "" if semi == "none" else f"-{semi}"
    if minutes is not None:
        probe = f"probe-{kind}{technique}"
        steps = steps_in(minutes, *probed(lambda count: finetune(count, task.out / f"{probe}-{count}").core_minutes))
    assert steps is not None
    run = task.out / f"jcl-{kind}-p{pretrain_steps}-f{steps if minutes is None else f'{minutes:g}min'}{technique}"
    trained = finetune(steps, run)
    done = json.loads((run / "run.json").read_text())["settings"]["steps"]
    check_same_patients(task.split(), take_split(run / "split.json", everyone(task.split(), run)))
    out = run.with_name(f"{run.name}-predictions")
    scans = nnunet.dataset_folder(task.raw("source")) / "imagesTs"
    predicted = task.jcl(out.name, "predict", run, scans, "--out", out, makes=[out])
    spec = spec_of(task.source)
    values = {value: spec.class_names.index(name) + 1 for value, name in spec.labels.items()}
    ending = ".nii.gz" if spec.channels > 1 else "_0000.nii.gz"
    results = task.scored(out, values=values, ending=ending)
    parts = (prepared, pretrained, trained, predicted)
    return Row(name, *(part.core_minutes for part in parts), done, results)


def nnunet_row(task: Comparison, name: str, *, volumes: str, minutes: float) -> Row:
    """nnU-Net, planned by itself; on the source volumes, or on those of jcl's small store."""
    assert task.environment is not None
    out = task.raw(volumes)
    took, about = nnunet.train_and_predict(task.ledger, f"nnunet {volumes}", task.environment, out, minutes)
    results = task.scored(out / f"predictions-{minutes:g}", values=identity(task), grid=volumes)
    parts = (took["prepare"].core_minutes + store_minutes(task, volumes), 0.0, took["train"].core_minutes)
    return Row(name, *parts, took["predict"].core_minutes, about["steps"], results, about)


def basic_unet_row(task: Comparison, name: str, *, volumes: str, minutes: float) -> Row:
    """MONAI's BasicUNet; on the source volumes, or on those of jcl's small store."""
    out = task.raw(volumes)
    raw, model = nnunet.dataset_folder(out), out / f"basic_unet-{minutes:g}"
    predictions = out / f"basic_unet-predictions-{minutes:g}"
    key, program = f"basic_unet {volumes} {minutes:g} min", [sys.executable, BASIC_UNET]
    more = ("--threads", task.ledger.cores, "--seed", task.seed)
    trained = task.ledger.run(
        f"{key} train", [*program, "train", raw, model, "--minutes", minutes, *more], makes=[model]
    )
    predicted = task.ledger.run(
        f"{key} predict", [*program, "predict", raw, model, "--out", predictions, *more], makes=[predictions]
    )
    results = task.scored(predictions, values=identity(task), grid=volumes)
    about = json.loads((model / "about.json").read_text())
    parts = (store_minutes(task, volumes), 0.0, trained.core_minutes, predicted.core_minutes)
    return Row(name, *parts, about["steps"], results, about)


def identity(task: Comparison) -> dict[int, int]:
    """The values of the exported labels, which are the classes already."""
    return {number + 1: number + 1 for number in range(len(spec_of(task.source).class_names))}


def store_minutes(task: Comparison, volumes: str) -> float:
    """What preparing took that a peer uses."""
    return task.store(small=True)[1].core_minutes if volumes == "store" else 0.0


def everyone(split: Split, run: Path) -> set[str]:
    """All patients that a run's split may name."""
    written = json.loads((run / "split.json").read_text())
    return {*split.train, *split.test, *(name for part in ("train", "validation", "test") for name in written[part])}


def check_same_patients(ours: Split, other: Split) -> None:
    """See that two programs trained on and are tested on the same patients.

    Raises:
        DataError: they are not.
    """
    if (ours.train, ours.test) != (other.train, other.test):
        raise DataError(f"trained on {other.train} and tested on {other.test}, not {ours.train} and {ours.test}")
