"""Which semi-supervised technique a fine-tuning has: the user's, or the recipe's where there are scans for it."""

from dataclasses import replace

from jcl.config import FinetuneConfig
from jcl.data.splits import Split
from jcl.data.store import Store
from jcl.training.initial_run import images_of, same_images
from jcl.training.logger import log_rank0
from jcl.training.recipes import AUTO, NO_TECHNIQUE

__all__ = ["with_technique"]


def with_technique(config: FinetuneConfig, given: FinetuneConfig, store: Store, split: Split) -> FinetuneConfig:
    """The settled configuration, without the recipe's technique where the store has nobody for it.

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
    log_rank0(f"scans without labels are learned of as well, by {config.semi}; --semi {NO_TECHNIQUE} leaves them out")
    return config


def _is_asked(given: FinetuneConfig) -> bool:
    """Whether the user, and not the recipe alone, asked for a technique: by its name, a setting or scans for it."""
    named = given.semi not in (None, AUTO, NO_TECHNIQUE)
    return bool(named or given.semi_settings or given.unlabelled or given.unlabelled_batch_size)
