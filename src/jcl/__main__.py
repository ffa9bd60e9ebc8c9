"""`python -m jcl`, and the command `jcl`: what holds for the whole process lies around the command line."""

import errno
import os
import sys

from jcl.signals import answer_from_now_on, end_soon, handled, raise_once

SOON = {"prepare": 5.0, "benchmark": 20.0}
"""Seconds after which a signal ends a command for certain; a benchmark lets its trainings save first."""


def main() -> int:
    """Run the command of `sys.argv`; returns its exit code (see `jcl.cli.main`)."""
    answer_from_now_on()
    from jcl.cli.commands import PRINTS  # not above: a signal may come while it is imported
    from jcl.cli.main import main
    from jcl.parallel.output import steady_output

    output = steady_output()
    command = (sys.argv[1:2] or [""])[0]
    if command in SOON:
        end_soon(SOON[command])
    with handled(raise_once):
        code = main()
    # An interruption that went through code compiled from text, as of a dataclass, would have CPython end by SIGINT.
    exec("")
    sys.stdout.flush()
    if code == 0 and output.lost not in (0, errno.EPIPE) and command in PRINTS:
        print(f"jcl: error: the output was lost ({os.strerror(output.lost)})", file=sys.stderr)
        return 3
    return code


if __name__ == "__main__":
    raise SystemExit(main())
