"""The demo: the whole path on generated cardiac volumes, and what pre-training gains there.

    volumes/    scans of generated patients, in the Decathlon's layout; few have labels
    store/      prepared from them
    pretrain/   a run of JCL on all patients but those tested
    finetune/   runs on one and on two labelled patients, from random weights and from the pre-training
    results/    scores of each run on the test patients
    demo.json   what the demo was begun with: the mark that the folder is its own
"""

import dataclasses
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jcl.checkpoint import read_json, write_json
from jcl.config import DemoConfig, EvaluateConfig, FinetuneConfig, PrepareConfig, PretrainConfig
from jcl.data.phantom import write_dataset
from jcl.data.splits import Split, write_split
from jcl.errors import Interrupted, UsageError
from jcl.report.tables import Results, gain_table, print_table, read_results
from jcl.stages.evaluate import evaluate
from jcl.stages.finetune import finetune
from jcl.stages.prepare import prepare
from jcl.stages.pretrain import pretrain

__all__ = ["Plan", "demo"]

MARK = "demo.json"
WAYS = ("random", "jcl")
HEADS = ("Random", "JCL")


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How large the demo is; the defaults take about four minutes on two cores."""

    unlabelled: int = 24
    labelled: tuple[int, ...] = (1, 2)
    """Numbers of labelled patients to fine-tune on; the largest is how many there are."""
    draws: int = 2
    """Times that labelled patients are drawn: with so few, much depends on which they are."""
    tested: int = 8
    size: int = 64
    slices: int = 24
    spacing: float = 3.7
    width: int = 16
    pretrain_steps: int = 900
    finetune_steps: int = 400
    learning_rate: float = 2e-3
    """Of fine-tuning: higher than the default, since the steps are so few."""


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
    except Interrupted as stopped:
        raise Interrupted(f"{config.out}: stopped and saved; the same command goes on from there") from stopped
    _report(config, plan, time.monotonic() - begun)
    return config.out


def _claim(config: DemoConfig, plan: Plan) -> None:
    """Make the folder, or see that it is this demo's."""
    mark = config.out / MARK
    record = {"seed": config.seed, **_plain(plan)}
    if mark.is_file():
        old = read_json(mark)
        changed = [f"{key}: {old.get(key)!r} -> {value!r}" for key, value in record.items() if old.get(key) != value]
        if changed:
            raise UsageError(f"{config.out}: a demo with other settings ({'; '.join(changed)}); choose another --out")
        return
    if config.out.is_file() or (config.out.is_dir() and any(config.out.iterdir())):
        raise UsageError(f"{config.out}: exists and is no folder of the demo; choose another --out")
    config.out.mkdir(parents=True, exist_ok=True)
    write_json(mark, record)


def _plain(plan: Plan) -> dict[str, Any]:
    return {k: list(v) if isinstance(v, tuple) else v for k, v in dataclasses.asdict(plan).items()}
