"""The demo: the whole path on generated cardiac volumes, and what pre-training gains there.

volumes/    scans of generated patients, in the Decathlon's layout; few have labels
store/      prepared from them
pretrain/   a run of JCL on all patients but those tested
finetune/   runs on few labelled patients, from random weights and from the pre-training
results/    scores of each run on the test patients
demo.json   what the demo was begun with: the mark that the folder is its own
"""

import dataclasses
import itertools
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from jcl.cli.finetunings import FineTuning, finetune_all
from jcl.cli.tables import MEAN, class_values, gain_table, mean_and_deviation, print_table, read_results
from jcl.config import DemoConfig, FinetuneConfig, PredictConfig, PrepareConfig, PretrainConfig
from jcl.data.phantom import STRUCTURES, case_name, write_dataset
from jcl.data.splits import Split, write_split
from jcl.data.volumes import read_image, read_label
from jcl.errors import Interrupted, UsageError
from jcl.files import read_json, write_json
from jcl.report.figures.pictures import draw_segmentations
from jcl.stages.predict import predict
from jcl.stages.prepare import prepare
from jcl.stages.pretrain import pretrain

__all__ = ["Plan", "demo"]

MARK = "demo.json"
PICTURE = "segmentations.png"
HEADS = {"random": "Random", "jcl": "JCL"}
WAYS = ("random", "jcl")
INITS = {"random": "random weights", "jcl": "the pre-training"}

VERDICT = """
Random: fine-tuned from random weights; JCL: from the pre-training; the same patients, seeds and steps, by the paper's
recipe. Each is the mean over {tested} test patients and {draws} draws of labelled ones; gain of each draw: {gains}.
These are small, generated scans and short trainings: it shows the way, not what to expect of your data."""

NEXT = """
All is in {out} ({minutes:.1f} minutes): volumes, store, runs (with log.jsonl and tensorboard) and results.

With your own scans (a folder with images/ and, for some of them, labels/ of the same names):
  jcl prepare FOLDER --out store
  jcl pretrain store --fold 0 --out pre
  jcl finetune store --init pre --fold 0 --patients 4 --out fine
  jcl evaluate fine --out results.json
  jcl predict fine NEW-SCANS --out segmentations
`jcl COMMAND --help` shows the settings of each.

Look at a test patient as both segment him: {picture}"""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How large the demo is; the defaults take four to six minutes on two cores."""

    unlabelled: int = 24
    labelled: int = 1
    """Labelled patients that a run is fine-tuned on."""
    draws: int = 3
    """Runs of either kind, each on other labelled patients: with so few, much depends on who they are."""
    tested: int = 8
    size: int = 48
    slices: int = 24
    field: float = 150.0
    spacing: float = 3.625
    spread: float = 0.25
    """How different the patients are: see `jcl.data.phantom.draw_patient`."""
    width: int = 16
    pretrain_steps: int = 2000
    """1500 gained about as much on the trial seeds, its least gains a little less (docs/results.md, "The demo")."""
    finetune_steps: int = 400
    recipe: str = "paper"
    """As the paper compares; by the strong one generated hearts are learned as well from random weights."""
    learning_rate: float = 1e-3
    """Twice the recipe's, which needs more steps than there is time for."""
    loss: str = "log_dice_cross_entropy"
    """In so few steps others never find some of the small structures."""

    def patients(self) -> tuple[list[int], list[list[int]], list[int]]:
        """Numbers of the patients without labels, of those of each draw, and of those tested."""
        few = [[100 + self.labelled * draw + k for k in range(self.labelled)] for draw in range(self.draws)]
        return list(range(self.unlabelled)), few, [200 + k for k in range(self.tested)]


FULL = Plan()


def demo(config: DemoConfig, plan: Plan = FULL) -> Path:
    """Run the demo, or what of it is missing in `config.out`; returns the folder.

    Raises:
        UsageError: the folder holds something else, or a demo with other settings.
        Interrupted: a signal asked to stop; the same command goes on.
    """
    _claim(config, plan)
    begun = time.monotonic()
    try:
        _prepare(config, plan)
        _pretrain(config, plan)
        _finetune_all(config, plan)
        _segment(config, plan)
    except Interrupted as stopped:
        raise Interrupted(f"{config.out}: stopped and saved; the same command goes on from there") from stopped
    _report(config, plan, time.monotonic() - begun)
    return config.out


def _claim(config: DemoConfig, plan: Plan) -> None:
    """Make the folder, or see that it is this demo's."""
    mark = config.out / MARK
    record = {"seed": config.seed, **dataclasses.asdict(plan)}
    if mark.is_file():
        old = read_json(mark)
        changed = [f"{key}: {old.get(key)!r} -> {value!r}" for key, value in record.items() if old.get(key) != value]
        if changed:
            raise UsageError(f"{config.out}: a demo with other settings ({'; '.join(changed)}); choose another --out")
        return
    if config.out.is_file() or (config.out.is_dir() and any(config.out.iterdir())):
        raise UsageError(f"{config.out}: exists and is not a folder of the demo; choose another --out")
    config.out.mkdir(parents=True, exist_ok=True)
    write_json(mark, record)


def _prepare(config: DemoConfig, plan: Plan) -> None:
    unlabelled, few, tested = plan.patients()
    volumes, store = config.out / "volumes", config.out / "store"
    labelled = [*itertools.chain(*few), *tested]
    _tell(f"{len(unlabelled)} scans without labels, {len(labelled)} with, all generated: {volumes}")
    if not (volumes / "dataset.json").is_file():  # written last
        write_dataset(
            volumes, labelled=labelled, unlabelled=unlabelled, seed=config.seed,
            size=plan.size, slices=plan.slices, field=plan.field, spread=plan.spread,
        )  # fmt: skip
    _tell(f"prepare: {store}")
    prepare(PrepareConfig(source=volumes, out=store, spacing=plan.spacing, size=plan.size))


def _pretrain(config: DemoConfig, plan: Plan) -> None:
    """On all patients but those tested: their scans, without the labels that some have."""
    unlabelled, few, tested = plan.patients()
    split = config.out / "pretrain-split.json"
    write_split(split, Split(_names([*unlabelled, *itertools.chain(*few)]), test=_names(tested)))
    _tell(f"pretrain: {config.out / 'pretrain'}")
    pretrain(
        PretrainConfig(
            stores=(config.out / "store",), out=config.out / "pretrain", split=split, width=plan.width,
            steps=plan.pretrain_steps, seed=config.seed, resume=True,
        )
    )  # fmt: skip


@dataclass(frozen=True)
class _Tuning:
    """A fine-tuning and where its scores go."""

    settings: FinetuneConfig
    results: Path


def _finetune_all(config: DemoConfig, plan: Plan) -> None:
    """Each draw of labelled patients from random weights and from the pre-training, all else the same."""
    _, few, tested = plan.patients()
    tunings: list[FineTuning] = []
    for draw, numbers in enumerate(few):
        split = config.out / f"finetune-split-{draw}.json"
        write_split(split, Split(_names(numbers), test=_names(tested)))
        for way in WAYS:
            settings = FinetuneConfig(
                store=config.out / "store", init=str(config.out / "pretrain") if way == "jcl" else "none",
                out=config.out / "finetune" / f"{way}-{draw}", split=split, width=plan.width,
                steps=plan.finetune_steps, seed=config.seed + draw, recipe=plan.recipe, loss=plan.loss,
                learning_rate=plan.learning_rate, resume=True,
            )  # fmt: skip
            tunings.append(FineTuning(settings, _results(config, way, draw)))
    for folder in ("finetune", "results"):
        (config.out / folder).mkdir(exist_ok=True)
    _tell(
        f"finetune on {plan.labelled} labelled, {plan.draws} times from {INITS['random']} and from {INITS['jcl']}: "
        f"{config.out / 'finetune'}"
    )
    finetune_all(tunings)


def _segment(config: DemoConfig, plan: Plan) -> None:
    """One test patient's scan segmented by the runs of the first draw, and a picture of it."""
    name = f"{_names(plan.patients()[2])[0]}.nii.gz"
    source = config.out / "volumes" / "imagesTr" / name
    _tell(f"predict: {config.out / PICTURE}")
    volume = read_image([source])
    rows = {"truth": read_label(config.out / "volumes" / "labelsTr" / name, volume)}
    for way in WAYS:
        folder = config.out / "segmentations" / way
        predict(PredictConfig(run=config.out / "finetune" / f"{way}-0", source=source, out=folder))
        rows[HEADS[way]] = read_label(folder / name, volume)
    draw_segmentations(config.out / PICTURE, volume.array[0], rows, class_names=STRUCTURES, spacing=volume.spacing)


def _report(config: DemoConfig, plan: Plan, seconds: float) -> None:
    """The table, whatever it says, and where to go from here."""
    random, jcl = ([read_results(_results(config, way, draw)) for draw in range(plan.draws)] for way in WAYS)
    print()
    few = "1 labelled patient" if plan.labelled == 1 else f"{plan.labelled} labelled patients"
    print_table(gain_table({few: (random, jcl)}, (HEADS["random"], HEADS["jcl"])))
    gains = [
        mean_and_deviation(class_values([after], MEAN))[0] - mean_and_deviation(class_values([before], MEAN))[0]
        for before, after in zip(random, jcl, strict=True)
    ]
    print(VERDICT.format(gains=", ".join(f"{100 * gain:+.1f}" for gain in gains), draws=plan.draws, tested=plan.tested))
    print(NEXT.format(out=config.out, picture=(config.out / PICTURE).absolute(), minutes=seconds / 60))


def _names(numbers: Iterable[int]) -> tuple[str, ...]:
    return tuple(case_name(number) for number in numbers)


def _results(config: DemoConfig, way: str, draw: int) -> Path:
    return config.out / "results" / f"{way}-{draw}.json"


def _tell(text: str) -> None:
    print(f"\n== {text}", file=sys.stderr, flush=True)
