"""Methods x data x labelled patients x folds: the tables of a recipe, one task a training."""

from jcl._lazy import attach

__getattr__, __dir__ = attach(__name__)
