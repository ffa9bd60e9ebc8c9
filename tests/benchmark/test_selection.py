"""A part of the runs, by name, and what they start from."""

import pytest

from jcl.benchmark.plan import Task
from jcl.benchmark.selection import selected
from jcl.errors import UsageError


def task(label: str, needs: str | None = None) -> Task:
    kind = "finetune" if "-m" in label else "pretrain"
    return Task(id=f"{kind}-{label}", kind=kind, label=label, key="", code="", settings={}, needs=needs, steps=1)


TASKS = (
    task("chaos-jcl-f0"),
    task("chaos-jcl-m1-f0-s0", needs="pretrain-chaos-jcl-f0"),
    task("chaos-random-m1-f0-s0"),
    task("chaos-random-m1-f0-s1"),
    task("la2018-jcl-f0"),
    task("la2018-jcl-m1-f0-s1", needs="pretrain-la2018-jcl-f0"),
)


@pytest.mark.parametrize(
    ("patterns", "wanted"),
    [
        ((), TASKS),
        (("*-s0",), TASKS[:3]),
        (("*-s1",), TASKS[3:]),
        (("la2018-*",), TASKS[4:]),
        (("chaos-random-*", "chaos-jcl-m*"), TASKS[:4]),
        (("chaos-random-m1-f0-s1",), TASKS[3:4]),
        (("*",), TASKS),
    ],
)
def test_runs_are_chosen_by_name_with_what_they_start_from(patterns, wanted):
    assert selected(TASKS, patterns) == wanted


@pytest.mark.parametrize("pattern", ["s0", "CHAOS-*", "*-s2"])
def test_a_pattern_that_no_run_has_is_refused(pattern: str):
    with pytest.raises(UsageError, match=r"no run has such a name; --dry-run lists them, as la2018-jcl-m1-f0-s1"):
        selected(TASKS, ("chaos-*", pattern))
