"""`jcl report`: a benchmark's folder as a web page, with its tables as Markdown, LaTeX and CSV beside it."""

from pathlib import Path

from jcl.checkpoint import write_atomically
from jcl.config import ReportConfig
from jcl.errors import UsageError
from jcl.metrics import METRICS
from jcl.report.figures import draw_pretrainings, draw_table
from jcl.report.grid import read_benchmark
from jcl.report.page.content import make_content
from jcl.report.page.page import GENERATOR, render
from jcl.report.statistics import summarise_grid
from jcl.runlog import tell

__all__ = ["report"]

BESIDE = ((".md", "tables as Markdown"), (".tex", "tables for LaTeX"), (".csv", "every score"), ("-summary.csv", "every mean"))
"""Ends of the names of the files next to the page, and what they hold."""


def report(config: ReportConfig) -> Path:
    """Write the page of a benchmark, finished or not; returns its path.

    Raises:
        UsageError: `out` is no name of a page, or a file would be lost that no report has written.
        DataError: the folder is no benchmark's, something in it cannot be read, or a file cannot be written.
    """
    beside = {config.out.with_name(f"{config.out.stem}{end}"): what for end, what in BESIDE}
    _check(config.out, list(beside))
    benchmark = read_benchmark(config.folder)
    summaries = {grid.name: {metric: summarise_grid(grid, metric=metric) for metric in METRICS} for grid in benchmark.tables}
    figures = {grid.name: draw_table(benchmark, grid, summaries[grid.name]) for grid in benchmark.tables}
    content = make_content(
        benchmark, summaries, figures, draw_pretrainings(benchmark), [(path.name, what) for path, what in beside.items()]
    )
    page = render(content)
    write_atomically(config.out, page.encode("utf-8", "replace"))
    tell(f"{config.out}: {content.state.headline} {len(page) / 1e6:.1f} MB")
    return config.out


def _check(out: Path, beside: list[Path]) -> None:
    if out.suffix.lower() not in (".html", ".htm"):
        raise UsageError(f"{out}: the page's name has to end in .html")
    if out.is_file() and GENERATOR.encode() in out.read_bytes()[:2000]:
        return
    for path in (out, *beside):
        if path.exists():
            raise UsageError(f"{path} exists and is no earlier report's; choose another --out")
