"""How figures are written in the tables of a report."""

from collections.abc import Iterable, Sequence

__all__ = ["TITLES", "deviation_text", "difference_text", "mean_text", "p_text", "ranges"]

TITLES = {"dice": "Dice", "jaccard": "Jaccard", "hd95": "HD95 (mm)", "asd": "ASD (mm)"}

_DECIMALS = {"dice": (4, 3), "jaccard": (4, 3), "hd95": (2, 2), "asd": (2, 2)}
"""Of a mean, and of a deviation or a difference."""


def mean_text(metric: str, value: float) -> str:
    """A mean: 0.5620, or 12.30 in mm."""
    return f"{value:.{_DECIMALS[metric][0]}f}"


def deviation_text(metric: str, value: float) -> str:
    """A standard deviation: 0.052, or 1.30 in mm."""
    return f"{value:.{_DECIMALS[metric][1]}f}"


def difference_text(metric: str, value: float) -> str:
    """A difference with its sign: +0.052, −0.052, or 0.000 where nothing is left of it."""
    text = f"{abs(value):.{_DECIMALS[metric][1]}f}"
    return text if not float(text) else f"{'+' if value > 0 else '−'}{text}"


def p_text(value: float) -> str:
    """A p-value with its sign of equality: = 0.031, < 0.001; none is rounded down to what looks significant."""
    if value < 0.001:
        return "< 0.001"
    return f"= {value:.3f}" if f"{value:.3f}" != "0.050" else f"= {value:.4f}"


def ranges(numbers: Iterable[int]) -> str:
    """Whole numbers in order, runs of three or more drawn together: 0, 2–4."""
    groups: list[list[int]] = []
    for number in sorted(set(numbers)):
        if groups and number == groups[-1][-1] + 1:
            groups[-1].append(number)
        else:
            groups.append([number])
    return ", ".join(_range(group) for group in groups)


def _range(group: Sequence[int]) -> str:
    return f"{group[0]}–{group[-1]}" if len(group) > 2 else ", ".join(map(str, group))
