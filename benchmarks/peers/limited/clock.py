"""How much of a training's time is used up. Needs nothing but Python: it runs in nnU-Net's environment too."""

import os
from collections.abc import Callable


def core_seconds() -> float:
    """Processor time of this process, since it began, and of those it has started and waited for.

    Unlike the clock on the wall it does not run faster when other work is on the machine.
    """
    spent = os.times()
    return spent.user + spent.system + spent.children_user + spent.children_system


class Limit:
    """The time that a training may take. The start of Python and the reading of data are in it.

    Args:
        minutes: of the clock.
        clock: seconds since the start of the training's process.

    Raises:
        ValueError: no time is given.
    """

    def __init__(self, minutes: float, clock: Callable[[], float] = core_seconds) -> None:
        if not minutes > 0:
            raise ValueError(f"{minutes} minutes are no time to train in")
        self.seconds, self.clock = 60 * minutes, clock
        self.steps, self._longest, self._last = 0, 0.0, clock()

    @property
    def share(self) -> float:
        """Of the time, what is used up: 0 to 1."""
        return min(1.0, self.clock() / self.seconds)

    def another(self) -> bool:
        """Whether to do another step; asked before each.

        There is one at least, and none that would end late if it took as long as the longest so far.
        """
        now = self.clock()
        if self.steps:
            self._longest = max(self._longest, now - self._last)
        if self.steps and now + self._longest > self.seconds:
            return False
        self._last = now
        self.steps += 1
        return True

    def fallen(self, rate: float, exponent: float = 0.9) -> float:
        """A learning rate that falls to 0 at the end of the time: nnU-Net's polynomial, of time instead of epochs."""
        return rate * (1 - self.share) ** exponent
