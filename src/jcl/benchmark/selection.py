"""A part of a benchmark's runs, by their names."""

from collections.abc import Sequence
from fnmatch import fnmatchcase

from jcl.benchmark.plan import Task
from jcl.errors import UsageError

__all__ = ["selected"]


def selected(tasks: Sequence[Task], patterns: Sequence[str]) -> tuple[Task, ...]:
    """Those whose label has one of the patterns, and those that they start from, in their order; all without a pattern.

    Args:
        tasks: of a plan.
        patterns: as a shell has them, for the whole label: `*-s0`, `chaos-*`, `*m1-*`.

    Raises:
        UsageError: a pattern that no label has.

    Examples:
        >>> selected((), ())
        ()
    """
    if not patterns:
        return tuple(tasks)
    wanted = set[str]()
    for pattern in patterns:
        found = [task for task in tasks if fnmatchcase(task.label, pattern)]
        if not found:
            example = f", as {tasks[-1].label}" if tasks else ""
            raise UsageError(f"--only {pattern}: no run has such a name; --dry-run lists them{example}")
        wanted |= {task.id for task in found} | {task.needs for task in found if task.needs}
    return tuple(task for task in tasks if task.id in wanted)
