"""`jcl report`: a benchmark's folder as a web page, with its tables as Markdown, LaTeX and CSV beside it."""

from collections.abc import Sequence
from pathlib import Path

from jcl.checkpoint import write_atomically
from jcl.config import ReportConfig
from jcl.errors import UsageError
from jcl.report.figures import draw_pretrainings, draw_table
from jcl.report.grid import Benchmark, read_benchmark
from jcl.report.latex import latex_tables
from jcl.report.markdown import markdown_tables
from jcl.report.page.content import make_content
from jcl.report.page.page import GENERATOR, render
from jcl.report.spreadsheet import as_csv, csv_rows, summary_rows
from jcl.report.statistics import Summaries, summarise_benchmark
from jcl.runlog import tell

__all__ = ["report"]

BESIDE = {
    ".md": "the tables as Markdown",
    ".tex": "for LaTeX",
    ".csv": "every score",
    "-summary.csv": "every mean",
}
"""Ends of the names of the files next to the page, and what they hold."""


def report(config: ReportConfig) -> Path:
    """Write the page of a benchmark, finished or not; returns its path.

    Raises:
        UsageError: `out` is no name of a page, or a file would be lost that no report has written.
        DataError: the folder is no benchmark's, something in it cannot be read, or a file cannot be written.
    """
    beside = {end: config.out.with_name(f"{config.out.stem}{end}") for end in BESIDE}
    _check(config.out, list(beside.values()))
    benchmark = read_benchmark(config.folder)
    summaries = summarise_benchmark(benchmark)
    content = make_content(
        benchmark,
        summaries,
        {grid.name: draw_table(benchmark, grid, summaries[grid.name]) for grid in benchmark.tables},
        draw_pretrainings(benchmark),
        [(path.name, BESIDE[end]) for end, path in beside.items()],
    )
    config.out.parent.mkdir(parents=True, exist_ok=True)
    for end, text in _texts(benchmark, summaries).items():
        _write(beside[end], text)
    size = _write(config.out, render(content))
    tell(f"{config.out}: {content.state.headline} {size / 1e6:.1f} MB")
    return config.out


def _texts(benchmark: Benchmark, summaries: Summaries) -> dict[str, str]:
    return {
        ".md": markdown_tables(benchmark, summaries),
        ".tex": latex_tables(benchmark, summaries),
        ".csv": as_csv(csv_rows(benchmark)),
        "-summary.csv": as_csv(summary_rows(benchmark, summaries)),
    }


def _write(path: Path, text: str) -> int:
    """Bytes of a name that are no UTF-8 become question marks; returns the size."""
    content = text.encode("utf-8", "replace")
    write_atomically(path, content)
    return len(content)


def _check(out: Path, beside: Sequence[Path]) -> None:
    """An earlier report is replaced, and nothing else: `--out README.html` must not cost a README.md."""
    if out.suffix.lower() not in (".html", ".htm"):
        raise UsageError(f"{out}: the name of the page has to end in .html")
    if out.is_file() and f'content="{GENERATOR}"'.encode() in out.read_bytes()[:2000]:
        return
    for path in (out, *beside):
        if path.exists():
            raise UsageError(f"{path} exists and is of no earlier report; choose another --out")
