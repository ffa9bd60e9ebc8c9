"""A benchmark as a Markdown document, with the tables that GitHub shows."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from jcl.metrics import METRICS
from jcl.report.comparisons import FEWEST_PAIRS, Comparison
from jcl.report.costs import Cost, row_costs
from jcl.report.gaps import find_gaps, run_counts
from jcl.report.grid import Benchmark, Grid, Status
from jcl.report.markdownsyntax import escape, folded, small, table
from jcl.report.numbers import TITLES, deviation_text, difference_text, mean_text, p_text
from jcl.report.published import of_other_data, published_name
from jcl.report.statistics import CellSummary, ClassSummary, Summaries, Summary, summarise_benchmark

__all__ = ["markdown_tables"]

DASH = "–"
OTHER_CODE, UNFINISHED = "‡", "°"
SIGNIFICANT = 0.05
ERROR_LETTERS = 300

HOW_TO_READ = f"""
- Each figure is the mean over the folds, and in brackets the standard deviation of the folds' means (n − 1). A fold's
  figure is the mean over its test cases of the mean over the foreground classes that are counted in a case; seeds are
  averaged within their fold. **Bold** is the best of a column, among the rows with the most runs.
- "1/5" after a figure: only one of five folds is in it yet, so it does not compare with a figure of other folds.
  {OTHER_CODE}: with runs of other code than the last run of the benchmark had. {DASH}: no scores. What is not complete
  is listed below each table.
- *Rank*: place of a row among the rows with scores (1 is best), averaged over the blocks, each a column and a fold,
  that all of them have.
- *Differences* are row minus reference, the median over patients, and *n* the number of patients. *p* is of Wilcoxon's
  two-sided signed-rank test of the pairs (one pair a patient: its seeds and cases are paired each with its like, and
  averaged), corrected by Holm's method for all pairs of rows tested in that column, against all references together.
  With fewer than {FEWEST_PAIRS} patients there is no test. An asterisk: p < {SIGNIFICANT}. {UNFINISHED}: not all runs
  of both are done.
- What such a p can say is limited: the patients of a fold are segmented by the same network, from the same few labelled
  patients, so they are not independent of each other. A small p says that these networks differ on patients like
  these; not that another draw of labelled patients, or another pre-training, would give the same. "4/5 folds", the
  folds in which the row has the better mean, says more of that. With five folds, a test over the folds could not go
  below p = 0.06.
- *Intervals* are 95 % bootstrap intervals of the mean over all test cases together, patients being drawn; they show how
  patients differ, not how trainings do.
""".strip()


def markdown_tables(benchmark: Benchmark, summaries: Summaries | None = None) -> str:
    """The whole document: state, notes, and for each table its figures, gaps, comparisons, intervals and classes.

    Args:
        benchmark: finished or not.
        summaries: its statistics, if they are at hand.
    """
    summaries = summaries or summarise_benchmark(benchmark)
    parts = [f"# {escape(benchmark.title)}", _state(run_counts(benchmark))]
    parts += [benchmark.notes.strip().replace("<", "&lt;")] * bool(benchmark.notes.strip())
    parts += ["## How to read the tables", HOW_TO_READ]
    for grid in benchmark.tables:
        parts += _section(grid, summaries[grid.name], benchmark.stores[grid.store]["class_names"])
    parts += ["## Costs", *_costs(row_costs(benchmark))]
    return "\n\n".join(parts) + "\n"


def _state(counts: Counter[Status]) -> str:
    total = counts.total()
    if counts["done"] == total:
        return f"**Complete**: all {total} fine-tunings are done, with the present code."
    words = {"done": "done", "other code": "of other code", "failed": "failed", "missing": "missing"}
    words["blocked"] = "without their pre-training, which failed"
    said = [f"{counts[status]} {text}" for status, text in words.items() if counts[status]]
    return f"**Not complete**: of {total} fine-tunings, {', '.join(said)}."


def _section(grid: Grid, summaries: Mapping[str, Summary], classes: Sequence[str]) -> Iterator[str]:
    yield f"## {escape(grid.title)}"
    yield _about(grid)
    dice = summaries["dice"]
    yield _scores(grid, dice, paper=True)
    yield from _gap_list(grid)
    for reference in dice.references:
        yield from _comparisons(grid, dice, reference)
    for metric in METRICS[1:]:
        arrow = "smaller is better" if summaries[metric].lower_is_better else "larger is better"
        yield from folded(f"{TITLES[metric]} ({arrow})", [_scores(grid, summaries[metric], paper=False)])
    yield from folded("95 % intervals of Dice, and patients", [_intervals(grid, dice)])
    if len(classes) > 1:
        yield from folded("Dice of each class", [_classes(grid, dice, column.name, classes) for column in grid.columns])


def _about(grid: Grid) -> str:
    said = f"Pre-trained on {escape(' + '.join(grid.pretrain_on))}, fine-tuned and tested on {escape(grid.store)}."
    if grid.paper:
        beside = {ours: theirs for ours, theirs in grid.paper_columns.items() if ours != theirs}
        other = (
            " **They are of another data set than ours**, so only their order compares." if of_other_data(grid) else ""
        )
        columns = ", ".join(f"{escape(theirs)} beside our {escape(ours)}" for ours, theirs in beside.items())
        where = f" Its columns: {columns}." if columns else ""
        said += f" Small, marked *paper*: the JCL paper's {escape(published_name(grid))}.{other}{where}"
    return said


def _scores(grid: Grid, summary: Summary, *, paper: bool) -> str:
    """The table itself: a row a method, and its average rank."""
    heads = [_head(grid, column.name, paper=paper) for column in grid.columns]
    rows: list[list[str]] = []
    for row in grid.rows:
        cells = [_cell(grid, summary, row, column.name, paper=paper) for column in grid.columns]
        rank = summary.ranks[row]
        rows.append([escape(row), *cells, DASH if rank is None else f"{rank:.2f}"])
    count = len(summary.blocks)
    note = f"Ranks are over {count} block{'s' * (count != 1)}." if count else ""
    return "\n\n".join(filter(None, [table([TITLES[summary.metric], *heads, "Rank"], rows), note]))


def _head(grid: Grid, column: str, *, paper: bool) -> str:
    theirs = grid.paper_columns.get(column)
    return escape(column) + (small(f"paper {escape(theirs)}") if paper and grid.paper and theirs else "")


def _cell(grid: Grid, summary: Summary, row: str, column: str, *, paper: bool) -> str:
    """Mean (deviation), what it lacks, and the paper's figure below."""
    cell = summary.cells[row, column]
    text = DASH
    if cell.mean is not None:
        text = mean_text(summary.metric, cell.mean)
        if cell.deviation is not None:
            text += f" ({deviation_text(summary.metric, cell.deviation)})"
        text = f"**{text}**" if row in summary.best[column] else text
        text += f" {OTHER_CODE}" * ("other code" in cell.statuses)
    text += _lack(cell)
    theirs = grid.paper.get((row, column)) if paper else None
    if theirs:
        deviation = "" if theirs.deviation is None else f" ({theirs.deviation:.2f})"
        text += small(f"paper {theirs.mean:.4f}{deviation}")
    return text


def _lack(cell: CellSummary) -> str:
    """Folds that are there, and what failed."""
    bad = [status for status in ("failed", "blocked") if cell.statuses.get(status)]
    said = [] if cell.mean is None or cell.folds_done == cell.folds_expected else [_folds(cell)]
    return "".join(f" {word}" for word in [*said, *bad])


def _folds(cell: CellSummary) -> str:
    partly = len(cell.folds) - cell.folds_done
    return f"{cell.folds_done}/{cell.folds_expected}" + (f" and {partly} in part" if partly > 0 else "")


def _gap_list(grid: Grid) -> Iterator[str]:
    gaps = find_gaps(grid)
    if gaps:
        lines: list[str] = []
        for gap in gaps:
            rows = "all rows" if len(gap.rows) == len(grid.rows) else ", ".join(map(escape, gap.rows))
            why = f" ({escape(' '.join(gap.error.split())[:ERROR_LETTERS])})" if gap.error else ""
            lines.append(f"- {gap.status}: {rows}; {escape(gap.where)}{why}")
        yield "Not complete:\n\n" + "\n".join(lines)


def _comparisons(grid: Grid, summary: Summary, reference: str) -> Iterator[str]:
    found = {(each.row, each.column): each for each in summary.comparisons if each.reference == reference}
    yield f"### Against {escape(reference)}"
    if not any(each.pairs for each in found.values()):
        yield f"No test case has scores of both {escape(reference)} and another row yet."
        return
    rows = [
        [escape(row), *(_comparison(summary, found[row, column.name]) for column in grid.columns)]
        for row in grid.rows
        if row != reference
    ]
    yield table([f"Dice, less that of {escape(reference)}", *(escape(column.name) for column in grid.columns)], rows)


def _comparison(summary: Summary, each: Comparison) -> str:
    """As "−0.021 * / p = 0.012, n = 30, 1/5 folds"."""
    if each.difference is None:
        return DASH
    star = r" \*" if each.p_holm is not None and each.p_holm < SIGNIFICANT else ""
    mark = "" if each.complete else f" {UNFINISHED}"
    test = "no test" if each.p_holm is None else f"p {p_text(each.p_holm)}"
    below = escape(f"{test}, n = {each.pairs}, {each.folds_better}/{each.folds} folds")
    return difference_text(summary.metric, each.difference) + star + mark + small(below)


def _intervals(grid: Grid, summary: Summary) -> str:
    def text(cell: CellSummary) -> str:
        if cell.mean is None:
            return DASH
        patients = f"{cell.patients} patient{'s' * (cell.patients != 1)}"
        if cell.interval is None:
            return f"no interval, {patients}"
        low, high = (mean_text(summary.metric, bound) for bound in cell.interval)
        return f"{low} to {high}{small(patients)}"

    rows = [[escape(row), *(text(summary.cells[row, column.name]) for column in grid.columns)] for row in grid.rows]
    return table(["", *(escape(column.name) for column in grid.columns)], rows)


def _classes(grid: Grid, summary: Summary, column: str, names: Sequence[str]) -> str:
    """One column of the table, its classes side by side."""
    rows: list[list[str]] = []
    for row in grid.rows:
        classes = summary.cells[row, column].classes
        rows.append([escape(row), *(_class(summary, classes.get(name)) for name in names)])
    return table([escape(column), *map(escape, names)], rows)


def _class(summary: Summary, found: ClassSummary | None) -> str:
    if found is None or found.mean is None:
        return DASH
    deviation = "" if found.deviation is None else f" ({deviation_text(summary.metric, found.deviation)})"
    return mean_text(summary.metric, found.mean) + deviation


def _costs(costs: Sequence[Cost]) -> Iterator[str]:
    yield "Wall-clock minutes on the machines that did the runs, beside whatever else ran there."
    heads = ["Pre-trained on", "Fine-tuned on", "Row", "Pre-training", "Fine-tunings done", "Each of them", "Together"]
    yield table(heads, [_cost(cost) for cost in costs], texts=3)


def _cost(cost: Cost) -> list[str]:
    pretraining = DASH if cost.pretraining is None else f"{cost.pretraining / 60:.2f}"
    if cost.pretraining_status not in (None, "done"):
        pretraining = f"{pretraining} ({cost.pretraining_status})" if cost.pretraining else str(cost.pretraining_status)
    total = (cost.pretraining or 0) + (cost.finetuning or 0) * cost.finetunings
    return [
        escape(" + ".join(cost.pretrain_on)) if cost.pretraining_status else "nothing",
        escape(cost.finetune_on),
        escape(cost.row),
        pretraining,
        str(cost.finetunings),
        DASH if cost.finetuning is None else f"{cost.finetuning / 60:.2f}",
        f"{total / 60:.2f}" if total else DASH,
    ]
