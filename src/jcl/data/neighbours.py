"""Which other slice of its volume a slice is compared with, drawn anew for each batch."""

from collections.abc import Sequence

import numpy as np

__all__ = ["draw_neighbours"]


def draw_neighbours(slices: Sequence[tuple[int, int]], farthest: float, seed: Sequence[int]) -> list[int]:
    """The number of a neighbour of each slice in the same volume, all that are near enough with equal chance.

    Near are those at most `farthest` of the volume's slices away, and always the one before and the one behind. The
    only slice of a volume is its own neighbour.

    Args:
        slices: number of each in its volume, and the slices of that volume.
        farthest: as a share of the volume's slices.
        seed: of the draw.

    Example:
        >>> draw_neighbours([(0, 10), (9, 10), (0, 1)], 0.1, [1])
        [1, 8, 0]
    """
    random = np.random.default_rng(list(seed))
    found: list[int] = []
    for number, count in slices:
        reach = max(1, int(farthest * count + 1e-6))  # a tenth of 30 slices is 3, whatever way it was rounded
        first, last = max(0, number - reach), min(count - 1, number + reach)
        drawn = first + int(random.integers(max(1, last - first)))
        found.append(number if first == last else drawn + (drawn >= number))
    return found
