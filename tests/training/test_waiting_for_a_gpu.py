"""A training step gives a GPU its work and goes on: nothing in it waits, and no tensor is on the wrong device."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from jcl import methods, semi

pytestmark = pytest.mark.slow

HAVE_TO_FAIL = {"a value is asked for": "DataDependentOutput", "devices are mixed": "DeviceMismatch"}


@pytest.fixture(scope="module")
def steps() -> dict[str, str | None]:
    """Of each step what went wrong, on a device that is only imagined (`support.imagined_gpu`)."""
    tests = Path(__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "-m", "support.imagined_gpu"],
        cwd=tests, env={**os.environ, "PYTHONWARNINGS": "ignore"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


@pytest.mark.parametrize("name", HAVE_TO_FAIL)
def test_what_waits_is_found(steps: dict[str, str | None], name: str):
    assert HAVE_TO_FAIL[name] in (steps[name] or "")


def test_no_step_waits_and_no_device_is_mixed_up(steps: dict[str, str | None]):
    """Every method and technique, in two dimensions and, where it takes blocks, in three; both recipes, every loss."""
    wrong = {name: said for name, said in steps.items() if said is not None and name not in HAVE_TO_FAIL}
    assert not wrong
    for name in methods.available():
        for dimensions in methods.load(name).dimensions:
            assert f"{name} in {dimensions} dimensions" in steps
    assert {f"{name} in {d} dimensions" for name in semi.available() for d in (2, 3)} <= set(steps)
