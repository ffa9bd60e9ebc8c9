"""The Dockerfile, as far as it can be tried without a builder: what it copies is there, and its commands parse."""

import json
import re
import subprocess
import sys
import tomllib

import pytest

from jcl.cli import main as cli
from support.containers import copied, instructions, is_sent
from support.documents import ROOT

FOUND = instructions(ROOT / "Dockerfile")
RUNS = [text for name, text in FOUND if name == "RUN"]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def argument(name: str) -> str:
    return next(text.partition("=")[2] for kind, text in FOUND if kind == "ARG" and text.startswith(f"{name}="))


def test_all_that_is_copied_is_there_and_sent_to_the_builder():
    assert {"src", "constraints.txt", "pyproject.toml"} <= set(copied(FOUND))
    for name in copied(FOUND):
        assert (ROOT / name).exists(), name
        assert is_sent(ROOT / ".dockerignore", name), name
    assert not is_sent(ROOT / ".dockerignore", ".git")


def test_the_wheel_has_all_that_it_is_built_of():
    """Else the build fails: the readme and the licence are named in pyproject.toml, the sources are the package."""
    wanted = {PROJECT["readme"], *PROJECT["license-files"], "pyproject.toml", "src"}
    assert wanted <= set(copied(FOUND))


@pytest.mark.slow
@pytest.mark.parametrize("text", RUNS, ids=lambda text: " ".join(text.split()[:2]))
def test_commands_are_valid_shell_and_have_options_that_pip_knows(text: str):
    subprocess.run(["sh", "-n"], input=text, text=True, check=True)
    for command, rest in re.findall(r"pip (\w+)([^&]*)", text):
        known = subprocess.run(
            [sys.executable, "-m", "pip", command, "--help"], capture_output=True, text=True, check=True
        ).stdout
        assert {*re.findall(r"(?<!\S)--[\w-]+", rest)} <= {*re.findall(r"--[\w-]+", known)}, text


def test_the_defaults_are_of_this_package():
    assert set(argument("EXTRAS").split(",")) <= set(PROJECT["optional-dependencies"])
    assert f"Programming Language :: Python :: {argument('PYTHON')}" in PROJECT["classifiers"]
    assert len(re.findall(r"^torch==", (ROOT / "constraints.txt").read_text(encoding="utf-8"), re.M)) == 1


def test_it_runs_jcl_and_not_as_root(capsys: pytest.CaptureFixture[str]):
    last = dict(FOUND)
    assert last["USER"] not in ("root", "0")
    assert FOUND.index(("USER", last["USER"])) > max(at for at, (name, _) in enumerate(FOUND) if name == "RUN")
    program, *words = [*json.loads(last["ENTRYPOINT"]), *json.loads(last["CMD"])]
    assert program in PROJECT["scripts"]
    assert cli.main(words) == 0
    assert "jcl prepare" in capsys.readouterr().out
