"""What the runs of a benchmark took, row by row."""

import statistics
from dataclasses import dataclass

from jcl.report.stats.results import Benchmark, Cell, Status

__all__ = ["Cost", "row_costs"]


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Wall-clock seconds of a row's runs, with the evaluation of fine-tunings; None where none is done.

    A pre-training that serves several cells counts once; with one a fold, `pretraining` is the sum.
    """

    pretrain_on: tuple[str, ...]
    finetune_on: str
    row: str
    pretraining: float | None
    pretraining_status: Status | None
    finetunings: int
    finetuning: float | None


def row_costs(benchmark: Benchmark) -> tuple[Cost, ...]:
    """Each row once for each pair of data that it is pre-trained and fine-tuned on, in the order of the tables.

    Times are those on the machine that did a run, beside whatever else ran there; they are not benchmarks.
    """
    cells: dict[tuple[tuple[str, ...], str, str], dict[str, Cell]] = {}
    for table in benchmark.tables:
        for (row, _), found in table.cells.items():
            tasks = cells.setdefault((table.pretrain_on, table.store, row), {})
            tasks.update({cell.task: cell for cell in found})
    return tuple(_cost(benchmark, *place, list(tasks.values())) for place, tasks in cells.items())


def _cost(benchmark: Benchmark, pretrain_on: tuple[str, ...], store: str, row: str, cells: list[Cell]) -> Cost:
    starts = {cell.start for cell in cells} - {None}
    pretrainings = [each for each in benchmark.pretrainings if each.task in starts]
    before = [each.seconds for each in pretrainings if each.seconds is not None]
    after = [cell.seconds for cell in cells if cell.seconds is not None]
    undone = [each.status for each in pretrainings if each.status != "done"]
    return Cost(
        pretrain_on=pretrain_on,
        finetune_on=store,
        row=row,
        pretraining=sum(before) if before else None,
        pretraining_status=(undone or ["done"])[0] if starts else None,
        finetunings=len(after),
        finetuning=statistics.fmean(after) if after else None,
    )
