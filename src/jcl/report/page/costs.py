"""What the trainings took."""

from collections.abc import Sequence

from jcl.report.costs import Cost
from jcl.report.page.scores import OURS
from jcl.report.page.table import NOTHING, Cell, Head, Row, Table

__all__ = ["cost_table"]


def cost_table(costs: Sequence[Cost]) -> Table:
    """Minutes of each row: its pre-training, and the mean of its fine-tunings."""
    heads = (
        Head("Method"),
        Head("Pre-trained on", words=True),
        Head("Fine-tuned on", words=True),
        Head("Pre-training"),
        Head("Fine-tunings", "descending", "how many are done"),
        Head("Each of them"),
        Head("Together"),
    )
    rows = tuple(Row(cost.row, _cells(cost), ours=cost.row == OURS) for cost in costs)
    caption = "wall-clock minutes on the machines that did the runs, beside whatever else ran there"
    return Table(title="Costs", caption=caption, heads=heads, rows=rows)


def _cells(cost: Cost) -> tuple[Cell, ...]:
    total = (cost.pretraining or 0.0) + (cost.finetuning or 0.0) * cost.finetunings
    pretraining = _minutes(cost.pretraining)
    if cost.pretraining is None and cost.pretraining_status:
        pretraining = Cell(text=cost.pretraining_status, tone=cost.pretraining_status.replace(" ", "-"), state=True)
    return (
        Cell(text=" + ".join(cost.pretrain_on) if cost.pretraining_status else "nothing", words=True),
        Cell(text=cost.finetune_on, words=True),
        pretraining,
        Cell(text=str(cost.finetunings), value=cost.finetunings),
        _minutes(cost.finetuning),
        _minutes(total or None),
    )


def _minutes(seconds: float | None) -> Cell:
    return NOTHING if seconds is None else Cell(text=f"{seconds / 60:.2f}", value=seconds)
