"""`jcl report`: a benchmark's folder as a web page, with its tables as Markdown, LaTeX and CSV beside it."""

from collections.abc import Sequence
from pathlib import Path

from jcl.config import ReportConfig
from jcl.errors import UsageError
from jcl.files import write_atomically
from jcl.locks import locked_file
from jcl.parallel.progress import at_work
from jcl.report.figures.draw import draw_pretrainings, draw_table
from jcl.report.formats.csv_tables import as_csv, csv_rows, summary_rows
from jcl.report.formats.latex import latex_tables
from jcl.report.formats.markdown import markdown_document
from jcl.report.page.content import make_content
from jcl.report.page.render import GENERATOR, render
from jcl.report.stats.results import read_benchmark
from jcl.report.stats.summary import summarise_benchmark
from jcl.training.logger import log_rank0

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
        UsageError: `out` is not the name of a page, or a file would be lost that no report has written.
        DataError: the folder is not a benchmark's, something in it cannot be read, or a file cannot be written.
    """
    beside = {end: config.out.with_name(f"{config.out.stem}{end}") for end in BESIDE}
    _check(config.out, list(beside.values()))
    benchmark = read_benchmark(config.folder, trust_code=config.trust_code)
    with at_work("report"):
        summaries = summarise_benchmark(benchmark)
        content = make_content(
            benchmark,
            summaries,
            {grid.name: draw_table(benchmark, grid, summaries[grid.name]) for grid in benchmark.tables},
            draw_pretrainings(benchmark),
            [(path.name, BESIDE[end]) for end, path in beside.items()],
        )
    texts = {
        ".md": markdown_document(content),
        ".tex": latex_tables(content),
        ".csv": as_csv(csv_rows(benchmark)),
        "-summary.csv": as_csv(summary_rows(benchmark, summaries)),
    }
    with locked_file(config.out):
        size = _write(config.out, render(content))  # first: by it a later report knows that the others are its own
        for end, text in texts.items():
            _write(beside[end], text)
    log_rank0(f"{config.out}: {content.state.headline} {size / 1e6:.1f} MB")
    return config.out


def _write(path: Path, text: str) -> int:
    """Bytes of a name that are not UTF-8 become question marks; returns the size."""
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
