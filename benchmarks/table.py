"""The table of docs/performance.md: every row measured on this machine, one after the other.

    python benchmarks/table.py --out docs/performance.md [--data FOLDER] [--rows 1 2 6]

Runs the scripts below with --json and writes what they found between two marks of the file; nothing else may run on the
machine meanwhile. It takes about an hour on two cores. DATA is a folder of real volumes, for row 7.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

HERE = Path(__file__).parent
SCRIPTS = {
    "1": ("bench_dense_loss.py",),
    "2": ("bench_step.py",),
    "3": ("bench_views.py",),
    "4": ("bench_loader.py",),
    "5": ("bench_waiting.py", "--sizes", "64", "128", "--steps", "10"),
    "6": ("bench_finetune_step.py",),
    "7": ("bench_prepare.py", "{data}"),
    "8": ("bench_predict.py",),
    "9": ("bench_metrics.py", "--repeats", "1"),
    "10": ("bench_processes.py",),
    "11": ("bench_start.py",),
    "memory": ("bench_memory.py", "--sizes", "128"),
}
BEGIN, END = "<!-- the table begins -->", "<!-- the table ends -->"


def measure(rows: list[str], data: Path | None, folder: Path) -> None:
    """Run the scripts of these rows; what one that fails has written is removed, and named."""
    for row in rows:
        script, *more = SCRIPTS[row]
        if "{data}" in more and data is None:
            print(f"row {row}: left out, it needs --data", flush=True)
            continue
        results = folder / f"{row}.json"
        words = [str(data) if word == "{data}" else word for word in more]
        print(f"row {row}: {script}", flush=True)
        done = subprocess.run([sys.executable, str(HERE / script), *words, "--json", str(results)], check=False)
        if done.returncode:
            results.unlink(missing_ok=True)
            print(f"row {row}: {script} ended with {done.returncode}", flush=True)


def shown(value: Any, unit: str = "") -> str:
    """A number with three digits that count."""
    if value is None:
        return ""
    if not isinstance(value, (int, float)):
        return str(value)
    text = f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
    return f"{text} {unit}".strip()


def table(found: list[dict[str, Any]]) -> str:
    """The rows as Markdown, with the machine they were measured on."""
    lines = [
        f"{processor()}, {os.cpu_count()} cores, PyTorch {torch.__version__}, {torch.get_num_threads()} threads.",
        "",
        "| row | what | compared with | ours | floor | ratio | goal |",
        "|---|---|---|---|---|---|---|",
    ]
    for entry in found:
        cells = (shown(entry.get(key), entry["unit"]) for key in ("theirs", "ours", "floor"))
        ends = (shown(entry.get(key)) for key in ("ratio", "goal"))
        lines.append(f"| {' | '.join([entry['row'], entry['name'], *cells, *ends])} |")
    return "\n".join(lines)


def processor() -> str:
    """The processor's name and what it can multiply."""
    name, cpuinfo = platform.processor() or platform.machine(), Path("/proc/cpuinfo")
    if cpuinfo.exists():
        name = next((line.split(": ")[1] for line in cpuinfo.read_text().splitlines() if "model name" in line), name)
    return f"{name} ({torch.backends.cpu.get_cpu_capability()})"


def main() -> None:
    """Measure, and put the table in its place."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help="only whether the table can be made")
    parser.add_argument("--out", type=Path, help="file with the two marks (else the table is printed)")
    parser.add_argument("--data", type=Path, default=os.environ.get("JCL_REALDATA") or None)
    parser.add_argument("--rows", nargs="+", default=list(SCRIPTS), choices=list(SCRIPTS))
    parser.add_argument("--kept", type=Path, help="folder for the results as JSON; those that are there are taken")
    given = parser.parse_args()
    if given.smoke:
        print(table([{"row": "0", "name": "nothing", "ours": 1.0, "unit": "ms", "ratio": 2.0, "goal": ">= 1"}]))
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.kept or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        there = {row: folder / f"{row}.json" for row in given.rows if (folder / f"{row}.json").exists()}
        measure([row for row in given.rows if row not in there], given.data, folder)
        files = [folder / f"{row}.json" for row in given.rows]
        found = [entry for file in files if file.exists() for entry in json.loads(file.read_text())]
    text = table(found)
    if given.out is None:
        print(text)
        return
    before, _, rest = given.out.read_text().partition(BEGIN)
    _, mark, after = rest.partition(END)
    if not mark:
        raise SystemExit(f"{given.out}: has no {BEGIN} … {END}")
    given.out.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}")


if __name__ == "__main__":
    main()
