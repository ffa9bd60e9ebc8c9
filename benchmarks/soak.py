"""Faults at random moments, for as long as is asked for: whatever happens, a command run again ends in the same result.

    python benchmarks/soak.py --minutes 120 [--seed N] [--keep FOLDER] [--smoke]

On generated volumes and tiny networks it goes through prepare, pretrain (in one process and in two), finetune, predict,
evaluate, export, benchmark and report, again and again. To each command something happens at a random moment: see
`soaking/faults.py`. Then the same command is run until it ends, and what it has made is compared with what it makes
undisturbed. An invariant is broken by other results, an error of more than one line or of none, a traceback, an error
at a changed byte that does not name the file, or processes, locks or temporary files that are left. Then the exit code
is 1, and the folder is kept as it was.

Linux only. Where it may have a disk of its own (`unshare`), that is what fills up; else files may not grow.
"""

import argparse
import importlib
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from soaking.faults import CUT_SHORT, FAULTS, Struck
from soaking.process import Work, orphans, take_orphans
from soaking.stages import SMOKE, STAGES, Stage, results, write_inputs

from jcl.cli.commands import COMMANDS

ALONE = "JCL_SOAK_HAS_ITS_OWN_DISK"
SLOWEST = 240.0
"""Seconds after which a command counts as hung."""
GRACE = 120.0
"""Seconds in which what a killed command has started has to end: it may still be loading PyTorch, on a busy machine."""
TRIES = 3
FRESH = 0.15
"""Share of the commands for which Python is begun anew, which takes seconds."""
DISK = "64m"


class Broken(Exception):
    """An invariant does not hold."""


class Soak:
    """The state of a soak: its folders, what the stages make undisturbed, and what has happened."""

    def __init__(self, base: Path, names: list[str], seed: int) -> None:
        self.base, self.names, self.rng = base, names, random.Random(seed)
        self.truth = base / "undisturbed"
        self.expected: dict[str, dict[str, str]] = {}
        self.seconds: dict[tuple[str, bool], float] = {}
        self.outcomes: Counter[tuple[str, str]] = Counter()
        self.begun, self.commands = time.monotonic(), 0

    def undisturbed(self) -> None:
        """Run the path once."""
        self.truth.mkdir()
        (self.truth / "tmp").mkdir()
        write_inputs(self.truth)
        self._run_to_end("other", Stage("prepare others --out other --size 24", "other", ()))
        for name in self.names:
            begun = time.monotonic()
            self._run_to_end(name, STAGES[name])
            self.seconds[name, False] = time.monotonic() - begun
            self.expected[name] = results(self.truth, STAGES[name])
            if not self.expected[name]:
                raise SystemExit(f"{self.truth}: {name} made nothing")

    def _run_to_end(self, name: str, stage: Stage) -> None:
        work = Work(stage.arguments, self.truth, fresh=False)
        if not work.wait(SLOWEST) or work.code:
            raise SystemExit(f"{name} failed undisturbed: {work.code} {work.said.decode()}")
        work.close()

    def round(self, number: int, faults: list[str]) -> int:
        """The whole path, a fault to each of its commands; returns the number of broken invariants."""
        folder = self.base / "disk" / f"round-{number}"
        folder.mkdir(parents=True)
        (folder / "tmp").mkdir()
        for name in ("volumes", "other"):
            shutil.copytree(self.truth / name, folder / name)
        shutil.copy(self.truth / "recipe.toml", folder)
        broken = 0
        for name in self.names:
            fault = self.rng.choice([each for each in faults if each != "store replaced" or _reads_store(name)])
            try:
                words, outcome = self._episode(name, fault, folder)
            except Broken as error:
                words, outcome = str(error), "BROKEN"
                broken += 1
                kept = self.base / "kept" / f"round-{number}-{name.replace(' ', '-')}"
                shutil.copytree(folder, kept, symlinks=True, ignore=_special)
                self._restore(STAGES[name], folder)
            self.outcomes[fault, outcome] += 1
            print(f"[{self.minutes:6.1f} min] {name}: {fault}, {words}: {outcome}", flush=True)
        shutil.rmtree(folder)
        return broken

    @property
    def minutes(self) -> float:
        """Since the beginning."""
        return (time.monotonic() - self.begun) / 60

    def _episode(self, name: str, fault: str, folder: Path) -> tuple[str, str]:
        """A command with a fault; returns what was done and how it ended.

        Raises:
            Broken: not as it should.
        """
        stage, fresh = STAGES[name], self.rng.random() < FRESH
        begun = time.monotonic()
        work = Work(stage.arguments, folder, fresh=fresh)
        struck: Struck | None = None
        try:
            work.wait_until_it_answers()
            begun = begun if not fresh else time.monotonic()
            moment = self.rng.random() * self.seconds.get((name, fresh), self.seconds[name, False])
            if not work.wait(moment - (time.monotonic() - begun)):
                struck = FAULTS[fault](work, folder, stage, self.rng)
            self._wait(work)
            self.commands += 1
            if struck is None:
                self.seconds[name, fresh] = time.monotonic() - begun
            words = f"{struck.words if struck else 'nothing'} at {moment:.2f} s{' of a new Python' * fresh}"
            first = self._judge(work, name, folder, struck, cut_short=bool(struck) and fault in CUT_SHORT, words=words)
            if first == "cut short":
                _empty(folder / "tmp")  # nothing else can: Python names its folders at random
            again = first if fault not in CUT_SHORT else self._again(name, folder, struck, words)
            if struck:
                struck.undo()
            last = self._again(name, folder, None, words)
            if last != "the same":
                raise Broken(f"{words}; {last}")
        finally:
            work.close()
        if struck is None:
            return words, "over before it struck"
        if again != "the same":
            return words, f"{again}, then the same"
        return words, "the same when run again" if fault in CUT_SHORT else "the same at once"

    def _again(self, name: str, folder: Path, struck: Struck | None, words: str) -> str:
        """Run the command again; how it ended."""
        work = Work(STAGES[name].arguments, folder, fresh=False)
        try:
            self._wait(work)
            self.commands += 1
            return self._judge(work, name, folder, struck, cut_short=False, words=f"{words}; again")
        finally:
            work.close()

    def _wait(self, work: Work) -> None:
        if not work.wait(SLOWEST):
            raise Broken(f"hung for {SLOWEST:.0f} s: {work.said.decode()[-2000:]}")
        if left := orphans(GRACE):
            raise Broken(f"processes left: {'; '.join(left)}")

    def _judge(self, work: Work, name: str, folder: Path, struck: Struck | None, *, cut_short: bool, words: str) -> str:
        """See that a command ended as it may: all as expected, or with one line that says what is wrong."""
        said = work.said.decode(errors="replace")
        lines = [line for line in said.splitlines() if line.startswith("jcl: error:")]
        where = f"{words}; exit code {work.code}: {said[-3000:]}"
        if "Traceback" in said or "Exception ignored" in said:
            raise Broken(f"a traceback; {where}")
        if cut_short and work.code == -9:
            return "cut short"
        there = name == "export" and work.code == 2 and lines[-1:] == ["jcl: error: hub exists; choose another --out"]
        if there and struck and struck.file:
            return "one line"
        if work.code == 0 or there:
            self._compare(name, folder, where)
            return "the same"
        if work.code is None or work.code < 0 or len(lines) != 1:
            raise Broken(f"{len(lines)} lines of error; {where}")
        told = [line for line in said.splitlines() if line.startswith(("jcl: error:", "skipped:"))]
        if struck and struck.file and not any(_names(line, struck.file, folder) for line in told):
            raise Broken(f"does not name {struck.file}; {where}")
        return "one line"

    def _compare(self, name: str, folder: Path, where: str) -> None:
        found = results(folder, STAGES[name])
        if found != self.expected[name]:
            keys = {*found, *self.expected[name]}
            others = sorted(key for key in keys if found.get(key) != self.expected[name].get(key))
            raise Broken(f"other results in {', '.join(others)}; {where}")
        parts = [folder / STAGES[name].out, folder / f".{STAGES[name].out}.writing", *(folder / "tmp").iterdir()]
        paths = [*parts[1:], *parts[0].rglob("*"), *folder.glob(".*.tmp")]
        left = [path for path in paths if path.exists() and _is_left(path)]
        if left:
            raise Broken(f"left: {', '.join(str(path.relative_to(folder)) for path in left)}; {where}")

    def _restore(self, stage: Stage, folder: Path) -> None:
        """What a broken command should have made, for those after it."""
        for path in (folder / "filling", folder.parent / "filling"):
            path.unlink(missing_ok=True)
        for name in ("volumes", "store", "other", "pre", "fine", "results.json", "bench", stage.out):
            out, right = folder / name, self.truth / name
            if out.exists() or name == stage.out:
                shutil.rmtree(out) if out.is_dir() else out.unlink(missing_ok=True)
                shutil.copytree(right, out) if right.is_dir() else shutil.copy(right, out)
        shutil.rmtree(folder / "away", ignore_errors=True)
        _empty(folder / "tmp")

    def table(self) -> str:
        """Faults, how often, and how it ended."""
        rows = ["| fault | times | outcome |", "|---|---|---|"]
        for fault in FAULTS:
            ended = {outcome: count for (each, outcome), count in self.outcomes.items() if each == fault}
            told = ", ".join(f"{outcome} {count}" for outcome, count in sorted(ended.items()))
            rows.append(f"| {fault} | {sum(ended.values())} | {told or '-'} |")
        return "\n".join(rows)


def _empty(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.mkdir()


def _special(folder: str, names: list[str]) -> list[str]:
    """What cannot be copied: sockets and pipes."""
    return [name for name in names if not (Path(folder, name).is_file() or Path(folder, name).is_dir())]


def _reads_store(name: str) -> bool:
    return "store" in STAGES[name].reads


def _names(line: str, path: Path, folder: Path) -> bool:
    """Whether a line says which file it is about, or which folder of it."""
    return any(part.name.removesuffix(".nii.gz") in line for part in (path, *path.parents) if folder in part.parents)


def _is_left(path: Path) -> bool:
    """Whether a file or folder is one of those that have no business here when a command is done."""
    name = path.name
    return name.endswith((".tmp", ".writing")) or name.startswith((".jcl.", ".lock.j")) or path.parent.name == "tmp"


def _on_a_disk_of_its_own() -> None:
    """Begin again where this process may mount a small disk, which nobody else sees; go on without where it may not."""
    if ALONE in os.environ:
        return
    os.environ[ALONE] = ""
    for options in (["--mount"], ["--user", "--map-root-user", "--mount"]):
        if subprocess.run(["unshare", *options, "true"], capture_output=True, check=False).returncode == 0:
            os.environ[ALONE] = "yes"
            os.execvp("unshare", ["unshare", *options, sys.executable, *sys.argv])


def _mount(folder: Path) -> bool:
    command = ["mount", "-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", str(folder)]
    return bool(os.environ[ALONE]) and not subprocess.run(command, capture_output=True, check=False).returncode


def main() -> int:
    """Soak; returns 1 if an invariant broke."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=120, help="after which no new round begins")
    parser.add_argument("--seed", type=int, default=0, help="of faults and moments")
    parser.add_argument("--keep", type=Path, help="folder to work in, which is kept if an invariant breaks")
    parser.add_argument("--smoke", action="store_true", help="one round of preparation and pre-training")
    options = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    if shutil.which("unshare"):
        _on_a_disk_of_its_own()
    os.environ.setdefault(ALONE, "")
    base = Path(tempfile.mkdtemp(prefix="jcl-soak-")) if options.keep is None else options.keep.resolve()
    (base / "disk").mkdir(parents=True, exist_ok=True)
    disk = _mount(base / "disk")
    take_orphans()
    names = list(SMOKE if options.smoke else STAGES)
    for name in {STAGES[name].arguments[0] for name in names}:
        importlib.import_module(COMMANDS[name].module)
    importlib.import_module("filelock")
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(base)  # PyTorch makes this folder, and leaves it
    kind = f"a disk of {DISK}" if disk else "files that may not grow, for a full disk"
    print(f"seed {options.seed}, {kind}, {base}", flush=True)
    soak = Soak(base, names, options.seed)
    soak.undisturbed()
    broken, rounds = 0, 0
    try:
        while rounds < 1 or (not options.smoke and soak.minutes < options.minutes):
            broken += soak.round(rounds, [each for each in FAULTS if not options.smoke or "child" not in each])
            rounds += 1
    except KeyboardInterrupt:
        print("interrupted")
    print(f"\n{soak.table()}\n")
    print(
        f"seed {options.seed}: {soak.minutes:.1f} minutes, {rounds} rounds, {soak.commands} commands, {broken} broken"
    )
    if broken:
        print(f"kept: {base / 'kept'}")
    if disk:
        subprocess.run(["umount", "-l", str(base / "disk")], check=True)
    shutil.rmtree(base / "disk", ignore_errors=True)
    shutil.rmtree(base / "undisturbed", ignore_errors=True)
    if not broken:
        shutil.rmtree(base, ignore_errors=True)
    return int(bool(broken))


if __name__ == "__main__":
    raise SystemExit(main())
