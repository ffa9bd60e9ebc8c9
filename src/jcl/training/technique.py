"""Which semi-supervised technique a fine-tuning has: the user's, or the recipe's where there are scans for it."""

from dataclasses import replace

from jcl.config import FinetuneConfig
from jcl.data.splits import Split
from jcl.data.store import Store
from jcl.training.initial_run import images_of, same_images
from jcl.training.logger import log_rank0
from jcl.training.recipes import AUTO, NO_TECHNIQUE
from jcl.training.run_folder import recorded_run

__all__ = ["with_technique"]

FEWEST_STEPS = 1000
"""Of a training, below which the recipe's technique is left out: half of the steps pass before it begins. On training
patients of two sets it lost 8 and 18 Dice in 250 steps, from random weights (benchmarks/semi_trial.py; docs/semi.md).
"""


def with_technique(config: FinetuneConfig, given: FinetuneConfig, store: Store, split: Split) -> FinetuneConfig:
    """The settled configuration, without the recipe's technique where the store has nobody for it, or there is no time.

    Args:
        config: settled by the recipe.
        given: as the user gave it; a technique that is asked for there stays.
        store: with labelled patients, and perhaps others.
        split: of its patients; those who are tested or validate are nobody to learn of.
    """
    if config.semi is None or _is_asked(given):
        return config
    held_back = {*split.test, *split.validation}
    images = images_of(store.cases)
    others = {p: found for p, found in images.items() if p not in held_back and p not in split.train}
    same = same_images(others, {patient: found for patient, found in images.items() if patient in held_back})
    if others.keys() <= same:
        return replace(config, semi=None)
    if _has_too_few_steps(config):
        log_rank0(
            f"{config.steps} steps are too few to learn of the scans without labels as well; with {FEWEST_STEPS} or "
            f"more, or --semi {config.semi}, they are"
        )
        return replace(config, semi=None)
    log_rank0(f"scans without labels are learned of as well, by {config.semi}; --semi {NO_TECHNIQUE} leaves them out")
    return config


def _has_too_few_steps(config: FinetuneConfig) -> bool:
    """Whether it is so short; a run that goes on keeps the technique that it began with."""
    short = config.steps is not None and config.steps < FEWEST_STEPS
    return short and recorded_run(config.out, resume=config.resume) is None


def _is_asked(given: FinetuneConfig) -> bool:
    """Whether the user, and not the recipe alone, asked for a technique: by its name, a setting or scans for it."""
    named = given.semi not in (None, AUTO, NO_TECHNIQUE)
    return bool(named or given.semi_settings or given.unlabelled or given.unlabelled_batch_size)
