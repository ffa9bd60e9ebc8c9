"""Pre-training in one process and in several, on the same cores.

    python benchmarks/bench_processes.py [--smoke] [--size 128] [--steps 30] [--processes 2] [--json FILE]

Runs `jcl pretrain` itself on a small generated store: one process with all threads and batches of 16, then N processes
that share threads and batches, in turns. Row 10 of the table of docs/performance.md.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from bench_waiting import make_store

BATCH = 16
ROUNDS = 3


def slices_per_second(store: Path, out: Path, processes: int, threads: int, steps: int) -> float:
    """The median of what the run's log holds, but for its first lines."""
    devices = "cpu" if processes == 1 else f"cpu:{processes}"
    command = [sys.executable, "-m", "jcl", "pretrain", str(store), "--out", str(out), "--steps", str(steps)]
    command += ["--batch-size", str(BATCH // processes), "--devices", devices]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL, env=environment)
    rates = [json.loads(line)["slices_per_second"] for line in (out / "log.jsonl").read_text().splitlines()]
    return statistics.median(rates[1:] or rates)


def main() -> None:
    """Print the rates and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help="small and short: only whether it runs")
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--json", type=Path, help="file for the row")
    given = parser.parse_args()
    if given.smoke:
        given.size, given.steps = 64, 2
    threads = torch.get_num_threads()
    found: dict[int, list[float]] = {1: [], given.processes: []}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        make_store(folder / "store", given.size, 24)
        for number in range(1 if given.smoke else ROUNDS):
            for processes, rates in found.items():
                out = folder / f"run-{processes}-{number}"
                rates.append(slices_per_second(folder / "store", out, processes, threads, given.steps))
    one, several = (statistics.median(rates) for rates in found.values())
    print(f"{given.size} x {given.size}, {threads} threads, torch {torch.__version__}")
    print(f"1 process of {threads} threads: {one:.2f} slices/s")
    print(f"{given.processes} processes of {max(1, threads // given.processes)}: {several:.2f} slices/s")
    print(f"ratio: {several / one:.2f}")
    if given.json:
        row = {
            "row": "10",
            "name": f"pre-training, {given.processes} processes x 1 thread against 1 x {threads}",
            "theirs": one,
            "ours": several,
            "floor": None,
            "unit": "slices/s",
            "ratio": several / one,
            "goal": ">= 0.9",
        }
        given.json.write_text(json.dumps([row], indent=1) + "\n")


if __name__ == "__main__":
    main()
