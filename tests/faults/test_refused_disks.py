"""Disks that cannot be written, shared memory that is too small, links that lead to themselves, JSON without an end.

Each ends in one line that names the place, and in no exit code 0.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from jcl.cli.main import main
from jcl.config import FinetuneConfig
from jcl.export.hub import write_hub
from jcl.stages.finetune import finetune
from jcl.training.run_folder import load_network
from support.faults import finetuning, pretraining
from support.shared import made_once
from support.tinyrecipes import ONE_CELL

SMALL = {"width": 2, "batch_size": 2, "kernels": "off", "precision": "float32", "devices": "cpu"}
DEEP = '{"a":' * 100_000 + "1" + "}" * 100_000
NOT_ROOT = ("unshare", "--user")
"""Root without its rights, as far as files are concerned: what is its own can still be read."""


@pytest.fixture(scope="module")
def inputs(store_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run, and a model made of it for the hub."""

    def make(out: Path) -> None:
        run = finetune(FinetuneConfig(store=store_path, init="none", out=out / "run", steps=2, **SMALL))
        (out / "hub").mkdir()
        write_hub(out / "hub", *load_network(run), None, "hub")

    return made_once(tmp_path_factory, "refused", make)


def commands(inputs: Path, store: Path, out: Path) -> dict[str, tuple[object, ...]]:
    """Every command that writes, with what it writes below `out`."""
    run, scans = inputs / "run", store.with_name("scans")
    recipe = out.parent / "recipe.toml"
    recipe.write_text(ONE_CELL)
    return {
        "prepare": ("prepare", scans, "--out", out / "store", "--workers", 2),
        "pretrain": pretraining(store, out / "pre", steps=2),
        "finetune": finetuning(store, out / "fine", steps=2),
        "evaluate": ("evaluate", run, "--out", out / "results.json"),
        "predict": ("predict", run, scans, "--out", out / "segmented"),
        "export": ("export", run, "--to", "hub", "--out", out / "model"),
        "verify": ("verify", store, "--out", out / "check"),
        "benchmark": ("benchmark", recipe, "--data", scans.parent, "--out", out / "bench", "--workers", 2),
    }


COMMANDS = ("prepare", "pretrain", "finetune", "evaluate", "predict", "export", "verify", "benchmark")


def said_by(arguments: tuple[object, ...], *, before: str = "", prefix: tuple[str, ...] = (), **environment: str):
    """Exit code and what a command says, after a line of shell in a namespace of mounts of its own."""
    command = [*prefix, sys.executable, "-m", "jcl", *map(str, arguments)]
    if before:
        root = [] if os.name == "posix" and os.geteuid() == 0 else ["--user", "--map-root-user"]
        command = ["unshare", *root, "--mount", "sh", "-c", f'{before} && exec "$@"', "sh", *command]
    done = subprocess.run(
        command,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        capture_output=True,
        check=False,
        timeout=240,
    )
    return done.returncode, done.stderr.decode(errors="replace")


def is_one_line(code: int, said: str, place: object, codes: tuple[int, ...] = (2, 3)) -> None:
    lines = [line for line in said.splitlines() if line.startswith("jcl: error:")]
    assert code in codes, (code, said)
    assert len(lines) == 1, said
    assert str(place) in lines[0], said
    assert "Traceback" not in said, said


@pytest.fixture(scope="module")
def mounts() -> None:
    """Skips where nothing can be mounted in a namespace of its own."""
    root = [] if os.name == "posix" and os.geteuid() == 0 else ["--user", "--map-root-user"]
    probe = ["unshare", *root, "--mount", "sh", "-c", "mount -t tmpfs tmpfs /tmp"]
    if not shutil.which("unshare") or subprocess.run(probe, capture_output=True, check=False).returncode:
        pytest.skip("no disk can be mounted for one process here")


@pytest.mark.slow
@pytest.mark.parametrize("name", COMMANDS)
def test_a_disk_that_can_only_be_read(mounts: None, inputs: Path, store_path: Path, tmp_path: Path, name: str):
    out = tmp_path / "disk"
    out.mkdir()
    given = commands(inputs, store_path, out)[name]
    code, said = said_by(given, before=f"mount -t tmpfs -o ro tmpfs {out}")
    is_one_line(code, said, out)
    assert "Read-only file system" in said


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="permissions are of POSIX")
@pytest.mark.slow
@pytest.mark.parametrize("name", ["prepare", "finetune", "evaluate", "predict", "export", "benchmark"])
def test_a_folder_of_somebody_else(inputs: Path, store_path: Path, tmp_path: Path, name: str):
    out = tmp_path / "theirs"
    out.mkdir()
    out.chmod(0o555)
    given = commands(inputs, store_path, out)[name]
    prefix: tuple[str, ...] = ()
    if os.geteuid() == 0:  # whom nothing is forbidden
        prefix = NOT_ROOT
        if not shutil.which("unshare") or subprocess.run([*prefix, "true"], check=False).returncode:
            pytest.skip("root cannot give up its rights here")
    code, said = said_by(given, prefix=prefix)
    is_one_line(code, said, out)
    assert "Permission denied" in said


@pytest.mark.slow
@pytest.mark.parametrize("options", ["ro", "size=4k"])
@pytest.mark.parametrize("name", ["prepare", "pretrain", "benchmark"])
def test_no_shared_memory(mounts: None, inputs: Path, store_path: Path, tmp_path: Path, name: str, options: str):
    """What several processes share in /dev/shm: they do without, or one line says that they cannot."""
    given = commands(inputs, store_path, tmp_path)[name]
    given = (*given, "--devices", "cpu:2") if name == "pretrain" else given
    code, said = said_by(given, before=f"mount -t tmpfs -o {options} tmpfs /dev/shm")
    assert "Traceback" not in said, said
    if code:
        is_one_line(code, said, "/dev/shm")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["prepare", "finetune", "predict", "export", "verify"])
def test_a_link_that_leads_to_itself_as_out(inputs: Path, store_path: Path, tmp_path: Path, name: str):
    out = tmp_path / "round"
    out.symlink_to(tmp_path / "and-round")
    (tmp_path / "and-round").symlink_to(out)
    is_one_line(*said_by(commands(inputs, store_path, out)[name]), out)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["prepare", "finetune", "predict", "export", "evaluate", "verify"])
def test_a_link_that_leads_to_itself_as_input(inputs: Path, store_path: Path, tmp_path: Path, name: str):
    (tmp_path / "round").symlink_to(tmp_path / "round")
    command, _, *rest = commands(inputs, store_path, tmp_path)[name]
    is_one_line(*said_by((command, tmp_path / "round", *rest)), tmp_path / "round")


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="locales are of POSIX")
@pytest.mark.parametrize("coerced", ["0", "1"])
def test_names_of_other_alphabets_in_the_c_locale(inputs: Path, store_path: Path, tmp_path: Path, coerced: str):
    scans = tmp_path / "größe"
    scans.mkdir()
    shutil.copy(next(store_path.with_name("scans").rglob("*.nii.gz")), scans / "häft.nii.gz")
    given = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": coerced}
    code, said = said_by(("predict", inputs / "run", scans, "--out", tmp_path / "für"), **given)
    assert code == 0, said
    assert [path.name for path in (tmp_path / "für").iterdir()] == ["häft.nii.gz"]
    is_one_line(*said_by(("predict", tmp_path / "nöt", scans, "--out", tmp_path / "für"), **given), tmp_path / "nöt")


@pytest.mark.parametrize(
    ("command", "name"),
    [
        ("evaluate", "run/run.json"),
        ("evaluate", "run/model.json"),
        ("evaluate", "run/split.json"),
        ("predict", "hub/config.json"),
        ("predict", "run/run.json"),
        ("verify", "run/model.json"),
        ("verify", "hub/config.json"),
        ("finetune", "run/run.json"),
    ],
)
def test_json_that_is_nested_too_deeply(
    inputs: Path, store_path: Path, tmp_path: Path, name: str, command: str, capsys
):
    folder = shutil.copytree(inputs / Path(name).parent, tmp_path / Path(name).parent)
    (tmp_path / name).write_text(DEEP)
    given = {
        "evaluate": ("evaluate", folder, "--out", tmp_path / "results.json"),
        "predict": ("predict", folder, store_path.with_name("scans"), "--out", tmp_path / "segmented"),
        "verify": ("verify", folder),
        "finetune": ("finetune", store_path, "--init", folder, "--out", tmp_path / "fine", "--steps", 1),
    }[command]
    code = main(list(map(str, given)))
    printed = capsys.readouterr()
    listed = printed.out if (command, name) == ("verify", "run/model.json") else printed.err  # findings are listed
    is_one_line(code, printed.err, "" if listed == printed.out else Path(name).name)
    assert Path(name).name in listed
    assert "nested too deeply" in listed
