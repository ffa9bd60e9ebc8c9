"""When slices without labels begin to count, and how fast a teacher follows."""

import math

__all__ = ["rising_momentum", "rising_weight"]


def rising_weight(share: float, *, warmup: float, rampup: float) -> float:
    """Of what is learned without labels: 0 during the warm-up, then exp(-5 (1 - t)^2), and 1 from there on.

    t rises from 0 to 1 over the ramp-up (Laine and Aila, 2017, arXiv:1610.02242, which the mean teacher takes over).

    Args:
        share: of the training that is done.
        warmup: share of the training on labels alone.
        rampup: share of the training over which the weight rises; 0 is at once.

    Examples:
        >>> [round(rising_weight(share, warmup=0.2, rampup=0.4), 3) for share in (0.1, 0.2, 0.4, 0.6, 1.0)]
        [0.0, 0.007, 0.287, 1.0, 1.0]
    """
    if share < warmup:
        return 0.0
    t = 1.0 if rampup == 0 else min(1.0, (share - warmup) / rampup)
    return math.exp(-5 * (1 - t) ** 2)


def rising_momentum(done: int, most: float) -> float:
    """Of a teacher after so many steps: min(most, 1 - 1 / (done + 1)), so that it forgets how it began.

    Examples:
        >>> [rising_momentum(done, 0.99) for done in (1, 3, 999)]
        [0.5, 0.75, 0.99]
    """
    return min(most, 1 - 1 / (done + 1))
