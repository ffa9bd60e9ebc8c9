"""Whether settings of memory make a training step faster: large pages, and a heap that keeps what was freed.

    python benchmarks/bench_allocator.py [--size 128] [--rounds 5] [--finetune] [--json FILE] [--smoke]

The same pre-training step (`bench_step.py`; with --finetune a step of `bench_finetune_step.py`) in a process for each
setting. The processes take turns, step by step, so that what else the machine does meets all; the figures are medians,
and the ratio is the median over the rounds of plain to that setting in the same round. Page faults say whether a
setting does anything: each is a page that the system fills with zeros while the step waits. Large pages are only given
where /sys/kernel/mm/transparent_hugepage/enabled says madvise (or always, and then to all).
"""

import argparse
import statistics
from pathlib import Path
from typing import Any

from measuring import Child, device, take_turns, ways_to_run, write_json

HERE = Path(__file__).parent
PAGES = Path("/sys/kernel/mm/transparent_hugepage/enabled")

OWN = {"GLIBC_TUNABLES": "glibc.malloc.perturb=0"}
"""A setting of the user's that changes nothing, with which `jcl.parallel.allocator` leaves memory alone."""

SETTINGS = {
    "plain": {"THP_MEM_ALLOC_ENABLE": "0", **OWN},
    "large pages": {"THP_MEM_ALLOC_ENABLE": "1", **OWN},
    "kept (jcl.parallel.allocator)": {"THP_MEM_ALLOC_ENABLE": "0"},
    "kept, on large pages": {"THP_MEM_ALLOC_ENABLE": "1"},
}
"""Variables of the environment by setting; the first is what the others are compared with."""

Laps = dict[str, list[dict[str, float]]]


def row_of(what: str, name: str, laps: Laps) -> dict[str, Any]:
    """The row of one setting, with the median of the ratios of each round."""
    plain = laps["plain"]
    ratio = statistics.median(one["ms"] / other["ms"] for one, other in zip(plain, laps[name], strict=True))
    row = {"row": "allocator", "name": f"{what}, {name}", "theirs": statistics.median(lap["ms"] for lap in plain)}
    row |= {"ours": statistics.median(lap["ms"] for lap in laps[name]), "floor": None, "unit": "ms", "ratio": ratio}
    faults = statistics.median(lap["faults"] for lap in laps[name])
    return {**row, "goal": None, "faults": faults, "MiB": max(lap["MiB"] for lap in laps[name]), "device": device()}


def main() -> None:
    """Print a table: a row a setting."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--slices", type=int, default=16)
    parser.add_argument("--width", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--finetune", action="store_true", help="a fine-tuning step, of 32 slices of 32 x 32")
    parser.add_argument("--processor-time", action="store_true", help="for a busy machine; with one thread")
    parser.add_argument("--json", type=Path, help="also write the rows to this file")
    parser.add_argument("--smoke", action="store_true", help="a small size, once: only whether it runs")
    given = parser.parse_args()
    if given.smoke:
        given.size, given.slices, given.width, given.rounds = 64, 2, 4, 1
    way = list(ways_to_run("auto"))[-1]
    script, first = "bench_step.py", ["--one", way, str(given.size), "--slices", str(given.slices)]
    what = f"pre-training step, {given.slices} slices of {given.size} x {given.size}, {way}"
    if given.finetune:
        script, first, what = "bench_finetune_step.py", ["--one", way], f"fine-tuning step, {way}"
    arguments = [*first, "--width", str(given.width), *(["--processor-time"] if given.processor_time else [])]
    children = {name: Child(str(HERE / script), arguments, setting) for name, setting in SETTINGS.items()}
    laps = take_turns(children, given.rounds)
    rows = [row_of(what, name, laps) for name in SETTINGS]
    pages = PAGES.read_text().strip() if PAGES.exists() else "not known"
    print(f"{device()}; large pages: {pages}\n{what}\n")
    print("| setting | ms | times as fast | page faults a step | peak MiB |\n|---|---|---|---|---|")
    for name, row in zip(SETTINGS, rows, strict=True):
        print(f"| {name} | {row['ours']:.0f} | {row['ratio']:.2f} | {row['faults']:.0f} | {row['MiB']:.0f} |")
    write_json(given.json, rows)


if __name__ == "__main__":
    main()
