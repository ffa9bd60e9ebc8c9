"""In which order tests run: side by side, no worker is left alone with what takes long."""

from itertools import groupby

import pytest

__all__ = ["slow_first"]


def slow_first(items: list[pytest.Item], workers: int) -> list[pytest.Item]:
    """The tests by module, ordered so that of each worker's share, the slow modules come first.

    pytest-xdist gives each worker as many tests, one after the other, and those who are done take over from the end of
    another's share (`--dist worksteal`): what is slow must not be there. Tests of a module stay together, since they
    share what takes time to set up.
    """
    modules = [list(group) for _, group in groupby(items, key=lambda item: item.path)]
    slow = [module for module in modules if any(_takes_long(item) for item in module)]
    quick = [item for module in modules if module not in slow for item in module]
    ordered: list[pytest.Item] = []
    for worker in range(workers):
        share = [item for module in slow[worker::workers] for item in module]
        rest = len(items) * (worker + 1) // workers - len(ordered) - len(share)
        ordered += [*share, *quick[: max(0, rest)]]
        del quick[: max(0, rest)]
    return [*ordered, *quick]


def _takes_long(item: pytest.Item) -> bool:
    return any(item.get_closest_marker(name) for name in ("slow", "long", "realdata"))
