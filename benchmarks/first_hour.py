"""The runs of docs/first_hour.md: scans with one, two and five labelled patients, from folder to segmentation.

    python benchmarks/first_hour.py DATA/mscmr OUT [--pretrain-steps 2000] [--steps 1000]

Prints each command, what it said (without its progress) and how long it took; then a table of all segmentations of the
new patients. Every fifth patient is new; the others are the clinic's. With the default settings otherwise. What is
finished is not run again.
"""

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from jcl.data import phantom
from jcl.files import read_json

LABELLED = (1, 2, 5)
GRID = ("--spacing", 5, "--size", 64)
NAMES = "200=myocardium,500=left ventricle,600=right ventricle"


def lay_out(source: Path, out: Path) -> list[str]:
    """The clinic's folders, the new patients' scans, and a folder with their labels; returns the clinic's patients."""
    names = sorted(path.name for path in (source / "labelsTr").iterdir())
    new = names[4::5]
    clinic = [name for name in names if name not in new]
    for count in LABELLED:
        copy_all(source, out / f"scans-{count}", images=clinic, labels=clinic[:count])
    copy_all(source, out / "truth", images=new, labels=new)
    copy_all(source, out / "new-scans", images=new, labels=(), folder="")
    return clinic


def copy_all(source: Path, out: Path, *, images: Iterable[str], labels: Iterable[str], folder: str = "images") -> None:
    """Scans into `out/folder`, and labels beside them."""
    for kind, names, into in (("imagesTr", images, out / folder), ("labelsTr", labels, out / "labels")):
        for name in names:
            into.mkdir(parents=True, exist_ok=True)
            shutil.copy(source / kind / name, into / name)


def run(out: Path, makes: str, *words: object) -> None:
    """One command in `out`, printed as a person would type it, with what it says."""
    if (out / makes).exists():
        return
    typed = " ".join(f'"{word}"' if " " in str(word) else str(word) for word in words)
    begun = time.monotonic()
    command = [sys.executable, "-m", "jcl", *map(str, words)]
    done = subprocess.run(command, cwd=out, capture_output=True, text=True, check=False)
    said = [
        line for line in (done.stderr + done.stdout).splitlines() if not re.match(r"[a-z -]+: step \d+/\d+|\s*$", line)
    ]
    print(f"$ jcl {typed}", *said, f"[{time.monotonic() - begun:.0f} s]", "", sep="\n", flush=True)
    if done.returncode not in (0, 2):
        raise SystemExit(f"exit code {done.returncode}")


def hour(
    out: Path, labels: str, grid: Sequence[object], pretrain_steps: int, fine: Sequence[object], width: int
) -> None:
    """All commands, one after the other."""
    given = ("--labels", labels) if labels else ()
    run(out, "truth-store", "prepare", "truth", *given, *grid, "--out", "truth-store")
    for count in LABELLED:
        store, trained = f"store-{count}", f"fine-{count}"
        run(out, store, "prepare", f"scans-{count}", *given, *grid, "--out", store)
        if count == LABELLED[0]:
            steps = ("--steps", pretrain_steps)
            run(out, "pre/model.json", "pretrain", store, "--fold", "none", "--width", width, *steps, "--out", "pre")
        for init, name in ((("pre",), trained), (("none", "--width", width), f"scratch-{count}")):
            words = ("finetune", store, "--init", *init, "--fold", "none", *fine, "--out", name)
            run(out, f"{name}/model.json", *words)
            run(out, f"{name}.json", "evaluate", name, "--store", "truth-store", "--out", f"{name}.json")
        run(out, f"segmentations-{count}", "predict", trained, "new-scans", "--out", f"segmentations-{count}")


def table(out: Path) -> str:
    """Dice in percent and HD95 in mm, of each run on the new patients."""
    lines = []
    for name in [f"{kind}-{count}" for kind in ("fine", "scratch") for count in LABELLED]:
        mean = read_json(out / f"{name}.json")["mean"]
        if not lines:
            heads = ["run", *mean["classes"], "mean", "HD95"]
            lines = [f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}"]
        cells = [f"{100 * each['dice']:.1f}" for each in (*mean["classes"].values(), mean)]
        lines.append(f"| {' | '.join([name, *cells, format(mean['hd95'], '.1f')])} |")
    return "\n".join(lines)


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, nargs="?")
    parser.add_argument("out", type=Path, nargs="?")
    parser.add_argument("--smoke", action="store_true", help="two steps on generated volumes: only whether it runs")
    parser.add_argument("--pretrain-steps", type=int, default=2000)
    parser.add_argument("--steps", type=int, help="of fine-tuning (else the default)")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        labels, grid, width = NAMES, GRID, 16
        if given.smoke:
            given.source, given.out = Path(temporary, "source"), Path(temporary, "out")
            phantom.write_dataset(given.source, labelled=range(7), unlabelled=(), size=32, slices=4)
            labels, grid, width, given.pretrain_steps, given.steps = "", (), 2, 2, 2
        if not given.out.exists():
            lay_out(given.source, given.out)
        fine = ("--steps", given.steps) if given.steps else ()
        hour(given.out, labels, grid, given.pretrain_steps, fine, width)
        print(table(given.out))


if __name__ == "__main__":
    main()
