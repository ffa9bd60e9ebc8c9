"""Two `jcl benchmark` commands at once on one folder, as an array job starts them: no task is run twice."""

import json
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from jcl.benchmark.folder import DONE, LOG, PLAN
from support.clusters import environment, tasks_of, wait_for
from support.tinyrecipes import tiny_file

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

CHANGES = ("run_folds = [0, 1]", "run_folds = [0]"), ('"JCL", "MoCo"', '"JCL"'), ("steps = 3", "steps = 30")


def test_two_commands_share_the_tasks(scans: Path, tmp_path: Path):
    recipe, out = tiny_file(tmp_path, *CHANGES), tmp_path / "bench"
    words = ["benchmark", str(recipe), "--out", str(out), "--data", str(scans), "--workers", "1"]
    commands = [
        subprocess.Popen([sys.executable, "-m", "jcl", *words], stderr=subprocess.PIPE, text=True, env=environment())
        for _ in range(2)
    ]
    seen: list[Counter[str]] = [Counter(), Counter()]

    def have_ended() -> bool:
        for mine, command in zip(seen, commands, strict=True):
            mine.update(tasks_of(command.pid, out))
        return all(command.poll() is not None for command in commands)

    wait_for(have_ended, 1500)
    said = [command.communicate()[1] for command in commands]
    assert [command.returncode for command in commands] == [0, 0], said
    assert sum("prepare ball" in each for each in said) == 1
    tasks = {task["id"] for task in json.loads((out / PLAN).read_text())["tasks"]}
    assert {path.parent.name for path in out.glob(f"tasks/*/{DONE}")} == tasks
    logs = {path.parent.name: path.read_text() for path in out.glob(f"tasks/*/{LOG}")}
    assert {name: len(re.findall(r"\b30 steps \(", text)) for name, text in logs.items()} == dict.fromkeys(tasks, 1)
    assert all("all 5 runs are done" in each for each in said)
    # A lock that is only tried is open for an instant. Had one command done everything, nothing would have been shown.
    assert all(mine.most_common(1)[0][1] > 3 for mine in seen), seen
