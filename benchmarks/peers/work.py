"""Commands with the cores that they may use, what each took, and what is done already. Linux only."""

import json
import os
import resource
import shlex
import shutil
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

SINGLE = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "BLOSC_NTHREADS")


@dataclass(frozen=True)
class Took:
    """Minutes of processor time, of a command and all that it started, and minutes by the clock."""

    core_minutes: float
    minutes: float


class Ledger:
    """What each command of a comparison took, in `OUT/took.json`. What is in it is not run again.

    Args:
        out: folder of the comparison.
        cores: how many a command may use, and threads of it.
    """

    def __init__(self, out: Path, cores: int = 1) -> None:
        self.path, self.cores, self.logs = out / "took.json", cores, out / "logs"
        self.done: dict[str, Took] = {}
        if self.path.exists():
            self.done = {name: Took(**entry) for name, entry in json.loads(self.path.read_text()).items()}

    def run(
        self,
        name: str,
        command: Sequence[object],
        *,
        makes: Sequence[Path] = (),
        environment: Mapping[str, str] | None = None,
    ) -> Took:
        """Run a command, or say what it took when it ran. An interrupted one begins anew: its clock has to be whole.

        Args:
            name: of this command in the comparison.
            command: program and arguments.
            makes: files and folders that it writes; what an interrupted run left of them is removed.
            environment: variables beside those of this process.

        Raises:
            SystemExit: it failed; the message names its log.
        """
        if name in self.done and all(path.exists() for path in makes):
            return self.done[name]
        for path in makes:
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        words = [str(word) for word in command]
        print("$", shlex.join(words), flush=True)
        self.logs.mkdir(parents=True, exist_ok=True)
        log = self.logs / f"{name.replace(' ', '_').replace('/', '_')}.log"
        took = measure(words, log, self.cores, environment or {})
        self.done[name] = took
        entries = {key: asdict(value) for key, value in self.done.items()}
        temporary = self.path.with_suffix(".part")
        temporary.write_text(json.dumps(entries, indent=1) + "\n")
        temporary.replace(self.path)
        return took


def measure(command: Sequence[str], log: Path, cores: int, environment: Mapping[str, str]) -> Took:
    """Run a command on so many cores, its output in `log`, and say what it took.

    Raises:
        SystemExit: it failed.
    """
    variables = {**os.environ, **dict.fromkeys(SINGLE, str(cores)), **environment}
    before, begun = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    allowed = sorted(os.sched_getaffinity(0))[-cores:]
    with log.open("wb") as file:
        # children inherit the cores of the one that starts them
        was = os.sched_getaffinity(0)
        os.sched_setaffinity(0, allowed)
        try:
            done = subprocess.run(command, check=False, env=variables, stdout=file, stderr=subprocess.STDOUT)
        finally:
            os.sched_setaffinity(0, was)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise SystemExit(f"{command[0]} ended with {done.returncode}; see {log}")
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Took(spent / 60, (time.monotonic() - begun) / 60)
