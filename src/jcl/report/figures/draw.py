"""All figures of a report; one that cannot be made says why, and the others are made all the same."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, TypeVar

from jcl.errors import JclError
from jcl.report.figures.curves import cost_against_dice, label_efficiency, loss_curves
from jcl.report.figures.doubt import dice_against_doubt, reliability
from jcl.report.figures.heatmaps import HeatMaps, feature_heatmaps
from jcl.report.figures.panels import Extremes, Panels, extreme_cases, segmentation_panels
from jcl.report.figures.slices import viewer_data
from jcl.report.stats.results import Benchmark, Grid
from jcl.report.stats.summary import Summary
from jcl.text import printable
from jcl.training.logger import log_rank0

__all__ = ["Drawn", "PretrainingFigures", "TableFigures", "draw_pretrainings", "draw_table"]

Made = TypeVar("Made")


@dataclass(frozen=True)
class Drawn(Generic[Made]):
    """A figure, or the reason why there is none."""

    figure: Made | None
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class TableFigures:
    """Figures of one table.

    Charts are SVG, `efficiency` has one for each metric; `doubt` and `reliability` have none where an earlier version
    scored. `viewer` is as `jcl.report.figures.slices.viewer_data` has it.
    """

    efficiency: Mapping[str, Drawn[str]]
    costs: Drawn[str]
    panels: Drawn[Panels]
    extremes: Drawn[Extremes]
    viewer: Drawn[dict[str, Any]]
    doubt: Drawn[str] = Drawn(None)
    reliability: Drawn[str] = Drawn(None)


@dataclass(frozen=True, kw_only=True)
class PretrainingFigures:
    """Loss curves (SVG), and the heat maps of each store that has been pre-trained on."""

    losses: Drawn[str]
    heatmaps: Mapping[str, Drawn[HeatMaps]]


def draw_table(benchmark: Benchmark, grid: Grid, summaries: Mapping[str, Summary]) -> TableFigures:
    """Figures of a table, of which `summaries` has the statistics for each metric."""
    where = grid.title
    return TableFigures(
        efficiency={
            metric: _draw(f"{where}: label efficiency", partial(label_efficiency, grid, summary))
            for metric, summary in summaries.items()
        },
        costs=_draw(f"{where}: costs", lambda: cost_against_dice(grid, summaries["dice"], benchmark.pretrainings)),
        panels=_draw(f"{where}: segmentations", lambda: segmentation_panels(benchmark, grid)),
        extremes=_draw(f"{where}: worst and best cases", lambda: extreme_cases(benchmark, grid)),
        viewer=_draw(f"{where}: slices", lambda: viewer_data(benchmark, grid)),
        **_doubt_figures(grid),
    )


def _doubt_figures(grid: Grid) -> dict[str, Drawn[str]]:
    """None where no cell has a record of its doubt: that is no fault of anybody's, and nothing is said."""
    if not any(cell.calibration for cells in grid.cells.values() for cell in cells):
        return {}
    return {
        "doubt": _draw(f"{grid.title}: doubt", lambda: dice_against_doubt(grid)),
        "reliability": _draw(f"{grid.title}: reliability", lambda: reliability(grid)),
    }


def draw_pretrainings(benchmark: Benchmark) -> PretrainingFigures:
    """Figures of the pre-trainings."""
    stores = dict.fromkeys(name for each in benchmark.pretrainings for name in each.pretrain_on)
    return PretrainingFigures(
        losses=_draw("loss curves", lambda: loss_curves(benchmark.pretrainings)),
        heatmaps={name: _heatmaps(benchmark, name) for name in stores},
    )


def _heatmaps(benchmark: Benchmark, store: str) -> Drawn[HeatMaps]:
    return _draw(
        f"{store}: heat maps",
        lambda: feature_heatmaps(benchmark, store),
        nothing="heat maps need a pre-training that is done, and two patients with labels",
    )


def _draw(name: str, make: Callable[[], Made | None], *, nothing: str = "there is nothing to show yet") -> Drawn[Made]:
    try:
        made = make()
    except JclError as error:
        reason = printable(str(error))
    except Exception as error:  # a fault in one figure must not cost the tables; it is reported, and stands in the page
        reason = printable(f"a fault of jcl ({type(error).__name__}: {error})")
    else:
        return Drawn(made, "" if made is not None else nothing)
    log_rank0(printable(f"{name} could not be drawn: {reason}"))
    return Drawn(None, reason)
