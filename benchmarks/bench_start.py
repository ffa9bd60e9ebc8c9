"""How long the program takes to start: `import jcl` and the help of every command.

    python benchmarks/bench_start.py [--repeats 7] [--json FILE] [--smoke]

Each figure is the median of new processes, in processor time too, which other work on the machine disturbs less.
`import torch` is what `import jcl` is compared with, and the start of Python the floor of the help. What was loaded
that should not be is named.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from jcl.cli.commands import COMMANDS

HEAVY = ("torch", "numpy", "scipy", "SimpleITK", "matplotlib", "pydicom", "rich")
HELP_SECONDS = 0.3
IMPORT_SECONDS = 0.2
LOADED = f"import sys; sys.stderr.write(' '.join(sorted(set({HEAVY!r}) & set(sys.modules))))"


def start(code: str, repeats: int) -> tuple[float, float, str]:
    """Median seconds by the clock and of the processor that a process takes, and what of the heavy it had loaded."""
    walls: list[float] = []
    used: list[float] = []
    for _ in range(repeats):
        before, begun = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)
        walls.append(time.perf_counter() - begun)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        used.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    done = subprocess.run([sys.executable, "-c", f"{code}\n{LOADED}"], check=True, capture_output=True, text=True)
    return statistics.median(walls), statistics.median(used), done.stderr


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--smoke", action="store_true", help="one command, once")
    parser.add_argument("--json", type=Path, help="also write the rows to this file")
    given = parser.parse_args()
    repeats = 1 if given.smoke else given.repeats
    names = ["prepare"] if given.smoke else list(COMMANDS)
    codes = {"python alone": "pass", "import torch": "import torch", "import jcl": "import jcl"}
    for arguments in (["--help"], *([name, "--help"] for name in names)):
        codes[f"jcl {' '.join(arguments)}"] = f"from jcl.cli.main import main; main({arguments!r})"
    taken = {name: start(code, repeats) for name, code in codes.items()}
    python, torch = (taken[name][0] for name in ("python alone", "import torch"))
    rows: list[dict[str, Any]] = []
    for name, (wall, used, loaded) in taken.items():
        print(f"{name:22s} {wall:6.3f} s, {used:6.3f} s of the processor{f', loads {loaded}' if loaded else ''}")
        is_help = name.endswith("--help")
        if name == "import jcl" or is_help:
            rows.append(
                {"row": "11", "name": name, "theirs": None if is_help else torch - python,
                 "ours": wall if is_help else wall - python, "floor": python if is_help else 0.0, "unit": "s",
                 "ratio": wall / python, "goal": HELP_SECONDS if is_help else IMPORT_SECONDS}
            )  # fmt: skip
    if given.json:
        given.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
