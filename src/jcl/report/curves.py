"""Charts of a benchmark as SVG: Dice over labelled patients, losses over steps, Dice over minutes.

Every chart is one `<svg>` element to be put into a page as it is: no width or height but a `viewBox`, so it takes
the width it is given; text is text; neutral ink is `currentColor`; identifiers are unique among charts. A chart of
what is not there yet says so in words.
"""

from collections.abc import Sequence

from jcl.report.grid import Grid, Pretraining
from jcl.report.statistics import Summary

__all__ = ["cost_against_dice", "label_efficiency", "loss_curves"]


def label_efficiency(grid: Grid, summary: Summary) -> str:
    """Mean of the summary's metric over the number of labelled patients, a line a row, with intervals (SVG).

    Columns that stand for no number of patients are places of equal distance. A mark is hollow where folds are missing.
    """
    raise NotImplementedError


def loss_curves(pretrainings: Sequence[Pretraining]) -> str:
    """Loss, `feature_std` and `alignment` over the steps, a small chart for each row of the tables (SVG)."""
    raise NotImplementedError


def cost_against_dice(grid: Grid, summary: Summary, pretrainings: Sequence[Pretraining]) -> str:
    """Minutes of pre-training and one fine-tuning against the mean over the columns, a mark a row (SVG)."""
    raise NotImplementedError
