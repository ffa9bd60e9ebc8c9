"""How much is tried: `make test` stays within minutes, `.ci/run` sets $JCL_LONG for all; how fast the machine is."""

import os
import time

LONG = bool(os.environ.get("JCL_LONG"))

STEPS, USUAL = 1_000_000, 0.08
"""Of a loop in Python, and the processor time that it takes on the machine where the limits of tests were set."""


def slowness() -> float:
    """How many times slower than usual this machine is now, at least 1: limits of processor time are times this."""
    times: list[float] = []
    for _ in range(3):
        begun, number = time.process_time(), 1
        for _ in range(STEPS):
            number = (1_103_515_245 * number + 12_345) & 0x7FFF_FFFF
        times.append(time.process_time() - begun)
    return max(1.0, min(times) / USUAL)
