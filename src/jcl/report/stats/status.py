"""How far a benchmark is: how many of its trainings are done, and what went wrong with others."""

from collections import Counter
from dataclasses import dataclass

from jcl.checks.findings import name_some
from jcl.report.stats.results import Benchmark
from jcl.text import printable

__all__ = ["Failure", "State", "state_of"]

STATUSES = ("done", "other code", "failed", "blocked", "missing")

SAID = {
    "failed": "failed",
    "blocked": "could not begin",
    "missing": "not run yet",
    "other code": "of other code than the last run of the benchmark",
}


@dataclass(frozen=True)
class Failure:
    """An error, and the trainings that ended with it."""

    error: str
    runs: str


@dataclass(frozen=True, kw_only=True)
class State:
    """`level` is `complete`, `partial` or `failed`; `counts` has the statuses that occur, in the order shown."""

    level: str
    headline: str
    counts: tuple[tuple[str, int], ...]
    failures: tuple[Failure, ...]


def state_of(benchmark: Benchmark) -> State:
    """Each training counts once, however many cells of the tables it fills."""
    runs = {each.task: each.status for each in benchmark.pretrainings}
    errors: dict[str, list[str]] = {}
    named = [(each.label, each) for each in benchmark.pretrainings]
    for grid in benchmark.tables:
        for (row, column), cells in grid.cells.items():
            named += [(f"{grid.store} {row} {column} fold {cell.fold} seed {cell.seed}", cell) for cell in cells]
    for label, run in named:
        if runs.setdefault(run.task, run.status) == "failed":
            labels = errors.setdefault(printable(run.error or "unknown error"), [])
            if label not in labels:
                labels.append(label)
    counts = Counter(runs.values())
    failures = tuple(Failure(error, name_some(labels)) for error, labels in errors.items())
    return State(
        level=_level(counts),
        headline=_headline(counts),
        counts=tuple((status, counts[status]) for status in STATUSES if counts[status]),
        failures=failures,
    )


def _level(counts: Counter[str]) -> str:
    if counts["failed"] or counts["blocked"]:
        return "failed"
    return "partial" if counts["missing"] or counts["other code"] else "complete"


def _headline(counts: Counter[str]) -> str:
    total = counts.total()
    if counts["done"] == total:
        return f"Complete: all {total} trainings are done."
    parts = [f"{counts[status]} {said}" for status, said in SAID.items() if counts[status]]
    lead = "Incomplete" if counts["missing"] or counts["failed"] or counts["blocked"] else "Of mixed code"
    return f"{lead}: {counts['done']} of {total} trainings are done; {', '.join(parts)}."
