"""Methods x data x labelled patients x folds: the tables of a recipe, one task a training."""
