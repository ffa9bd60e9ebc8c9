"""What a report shows, section by section, for every format to render."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jcl.report.figures.draw import PretrainingFigures, TableFigures
from jcl.report.page.comparisons import comparison_table
from jcl.report.page.notes import mark_cells
from jcl.report.page.overview import cost_table, method_table, overview_table
from jcl.report.page.scores import class_tables, fold_tables, score_table
from jcl.report.page.table import Note, Table
from jcl.report.stats.costs import row_costs
from jcl.report.stats.numbers import TITLES
from jcl.report.stats.origin import Origin, origin_of
from jcl.report.stats.results import Benchmark, Grid
from jcl.report.stats.status import State, state_of
from jcl.report.stats.summary import Summaries, Summary

__all__ = ["Content", "Pane", "Section", "make_content"]


@dataclass(frozen=True, kw_only=True)
class Pane:
    """A table's statistics for one metric; `uncompared` are references of which nothing can be compared yet."""

    metric: str
    name: str
    scores: Table
    comparisons: tuple[Table, ...]
    uncompared: tuple[str, ...]
    classes: tuple[Table, ...]
    folds: tuple[Table, ...]


@dataclass(frozen=True, kw_only=True)
class Section:
    """A table of the benchmark.

    `id` is its anchor on the page, `name` that in the recipe, `about` a line on data and counts, `published` what the
    paper's figures are of.
    """

    id: str
    name: str
    title: str
    about: str
    published: str
    panes: tuple[Pane, ...]
    notes: tuple[Note, ...]
    figures: TableFigures


@dataclass(frozen=True, kw_only=True)
class Content:
    """The whole report; `notes` are paragraphs, `beside` are (name, what it is) of the files next to it."""

    title: str
    notes: tuple[str, ...]
    state: State
    overview: Table
    sections: tuple[Section, ...]
    costs: Table
    pretraining_figures: PretrainingFigures
    methods: Table
    recipe: str
    origin: Origin
    beside: tuple[tuple[str, str], ...]


def make_content(
    benchmark: Benchmark,
    summaries: Summaries,
    figures: Mapping[str, TableFigures],
    pretraining_figures: PretrainingFigures,
    beside: Sequence[tuple[str, str]],
) -> Content:
    """Everything of a benchmark in the form in which it is shown.

    Args:
        benchmark: what was read from its folder.
        summaries: statistics of all tables.
        figures: name of a table -> its figures.
        pretraining_figures: those of the pre-trainings.
        beside: names of the files that are written next to the page, and what they hold.

    Raises:
        DataError: what a training recorded cannot be read.
    """
    return Content(
        title=benchmark.title,
        notes=tuple(part for each in benchmark.notes.split("\n\n") if (part := each.strip())),
        state=state_of(benchmark),
        overview=overview_table(benchmark.tables, {name: each["dice"] for name, each in summaries.items()}),
        sections=tuple(
            _section(number, grid, summaries[grid.name], figures[grid.name])
            for number, grid in enumerate(benchmark.tables, 1)
        ),
        costs=cost_table(row_costs(benchmark)),
        pretraining_figures=pretraining_figures,
        methods=method_table(benchmark.methods),
        recipe=benchmark.recipe,
        origin=origin_of(benchmark),
        beside=tuple(beside),
    )


def _section(number: int, grid: Grid, summaries: Mapping[str, Summary], figures: TableFigures) -> Section:
    marks = mark_cells(grid)
    return Section(
        id=f"table-{number}",
        name=grid.name,
        title=grid.title,
        about=_about(grid, summaries["dice"]),
        published=grid.published + ", other data" * grid.published_of_other_data if grid.paper else "",
        panes=tuple(
            Pane(
                metric=metric,
                name=TITLES[metric].partition(" ")[0],
                scores=score_table(grid, summary, marks),
                **_comparisons(grid, summary),
                classes=class_tables(grid, summary),
                folds=fold_tables(grid, summary),
            )
            for metric, summary in summaries.items()
        ),
        notes=marks.notes,
        figures=figures,
    )


def _comparisons(grid: Grid, summary: Summary) -> dict[str, Any]:
    compared = {each.reference for each in summary.comparisons if each.difference is not None}
    return {
        "comparisons": tuple(comparison_table(grid, summary, name) for name in summary.references if name in compared),
        "uncompared": tuple(name for name in summary.references if name not in compared),
    }


def _about(grid: Grid, summary: Summary) -> str:
    patients = max((cell.patients for cell in summary.cells.values()), default=0)
    runs = [run for cells in grid.cells.values() for run in cells]
    folds, seeds = len({run.fold for run in runs}), len({run.seed for run in runs})
    said = f"Pre-trained on images of {' + '.join(grid.pretrain_on)}, fine-tuned and tested on {grid.store}; "
    said += f"{folds} fold{'s' * (folds > 1)}, {seeds} seed{'s' * (seeds > 1)}, {patients} test patients in all. "
    if any(column.patients is not None for column in grid.columns):
        said += "M is the number of labelled patients."
    if grid.paper:
        said += f" The paper's figures are of its {grid.published}"
        said += ", another data set than ours: only their order compares." if grid.published_of_other_data else "."
    return said.strip()
