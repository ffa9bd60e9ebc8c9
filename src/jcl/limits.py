"""The numbers that a setting may be, in one table; all stages and methods refuse others before any work."""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from jcl.errors import UsageError

__all__ = ["METHODS", "SEMI", "STAGES", "Limit", "check_number", "check_numbers"]


class Limit(NamedTuple):
    """The least and the most that are allowed; with `above` the least itself is not."""

    least: float
    most: float = math.inf
    above: bool = False

    def allows(self, value: float) -> bool:
        """Whether the value is one of these numbers."""
        return self.least <= value <= self.most and not (self.above and value == self.least)

    def __str__(self) -> str:
        if self.most != math.inf:
            return f"{'above ' if self.above else ''}{self.least:g} to {self.most:.15g} is needed"
        return f"{'above' if self.above else 'at least'} {self.least:g} is needed"


COUNT, NUMBER, POSITIVE, SHARE = Limit(1), Limit(0), Limit(0, above=True), Limit(0, 1)

VIEWS: Mapping[str, Limit] = {"rotation": NUMBER, "scale": Limit(0, 0.99), "translation": NUMBER}
"""A factor of 1 - scale has to stay above 0."""

STAGES: Mapping[str, Limit] = {
    **VIEWS,
    **dict.fromkeys(("batch_size", "width", "epochs", "steps", "patients", "threads", "channels", "size"), COUNT),
    **dict.fromkeys(("accumulate", "folds", "unlabelled_batch_size", "slices"), COUNT),
    **dict.fromkeys(
        ("weight_decay", "checkpoint_minutes", "workers", "retries", "fold", "watch_every", "settle"), NUMBER
    ),
    **dict.fromkeys(("learning_rate", "spacing", "spacing_through", "timeout_minutes", "task_timeout"), POSITIVE),
    **dict.fromkeys(("warmup", "label_noise", "foreground"), SHARE),
    **dict.fromkeys(("seed", "split_seed"), Limit(0, 2**53)),
    **dict.fromkeys(("elastic", "intensity"), NUMBER),
    **dict.fromkeys(("max_mb", "max_unpacked_mb", "upload_minutes", "job_minutes", "forget_minutes"), POSITIVE),
    "port": Limit(0, 65535),
    "queue": COUNT,
    "average": Limit(0, 0.99999),
    "ignore": Limit(-(2**53), 2**53),
    "context": Limit(0, 32),
}
"""Of the settings of the stages (`jcl.config`), in whichever of them they are."""

METHODS: Mapping[str, Limit] = {
    **VIEWS,
    **dict.fromkeys(("temperature", "student_temperature", "teacher_temperature", "epsilon"), POSITIVE),
    **dict.fromkeys(("first_teacher_temperature",), POSITIVE),
    **dict.fromkeys(("momentum", "centre_momentum"), SHARE),
    **dict.fromkeys(
        ("temperature_warmup", "fixed_prototypes", "queue_from", "frozen_until", "adversary_from", "final_rate"), SHARE
    ),
    **dict.fromkeys(("projection", "hidden", "bottleneck", "prototypes", "channels", "discriminator_width"), COUNT),
    **dict.fromkeys(("stages", "partitions", "region", "groups"), COUNT),
    **dict.fromkeys(
        ("blocks", "queue", "small_crops", "threshold", "neighbourhood", "elastic", "windows", "clip"), NUMBER
    ),
    **dict.fromkeys(("global_weight", "dense_weight", "equivariance_weight"), NUMBER),
    **dict.fromkeys(("weight",), POSITIVE),
    "mask_ratio": Limit(0.01, 0.99),
    **dict.fromkeys(("patch", "clip"), NUMBER),
    **dict.fromkeys(("discriminative_weight", "restorative_weight", "adversarial_weight"), NUMBER),
}
"""Of the settings of the methods that come with `jcl`; some ask for more themselves."""

SEMI: Mapping[str, Limit] = {
    **dict.fromkeys(("warmup", "rampup", "momentum", "threshold"), SHARE),
    **dict.fromkeys(("weight", "strength"), NUMBER),
    "box": Limit(0, 1, above=True),
    "dropout": Limit(0, 0.99),
}
"""Of the settings of the semi-supervised techniques (`jcl.semi`)."""


def check_number(name: str, value: Any, limits: Mapping[str, Limit]) -> None:
    """See that a setting is a number that can be meant; what is no number passes.

    Raises:
        UsageError: it is not finite, or outside of its limits.
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        return
    if not math.isfinite(value):
        raise UsageError(f"{name} is {value}; a number is needed")
    if name in limits and not limits[name].allows(value):
        raise UsageError(f"{name} is {value}; {limits[name]}")


def check_numbers(settings: Any) -> None:
    """Check all settings of a stage; each stage does so first, for those who call it from Python.

    Raises:
        UsageError: see `check_number`.
    """
    for name, value in vars(settings).items():
        check_number(name, value, STAGES)
