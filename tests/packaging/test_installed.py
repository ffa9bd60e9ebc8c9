"""The wheel installed into a fresh environment: it runs from there, on the oldest and the newest Python of the machine.

PyTorch and the other compiled packages are those of the tests, which fit their own Python only. On another one jcl is
installed without them, and what needs none of them is tried: help, settings, and that every file compiles.
"""

import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import pytest

import jcl
from support.interpreters import interpreters

pytestmark = pytest.mark.long

FOUND = interpreters()
OWN = sys.version_info[:2]
OTHERS = sorted({*FOUND} - {OWN})
PIP = tuple(int(part) for part in version("pip").split(".")[:2])
Run = Callable[..., str]

DEMO = """
from pathlib import Path
from jcl.cli.demo import Plan, demo
from jcl.config import DemoConfig
demo(DemoConfig(out=Path("demo")), Plan(
    unlabelled=2, draws=1, tested=1, size=32, slices=8, spacing=7.5, width=4, pretrain_steps=2, finetune_steps=2,
))
"""
"""The demo, with two steps for each of its trainings."""


def install(wheel: Path, python: Path, folder: Path) -> Run:
    """Install the wheel alone into a new environment; what is returned runs its programs and gives what they print."""
    subprocess.run([python, "-m", "venv", "--without-pip", folder / "env"], check=True, capture_output=True)
    programs = folder / "env" / "bin"
    pip = [sys.executable, "-m", "pip", "--python", str(programs / "python"), "install", "--quiet"]
    subprocess.run([*pip, "--no-deps", "--no-index", str(wheel)], check=True, capture_output=True)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "JCL_", "COV"))}
    environment = {**kept, "XDG_CACHE_HOME": str(folder / "cache"), "OMP_NUM_THREADS": "1"}

    def run(program: str, *words: str) -> str:
        done = subprocess.run(
            [programs / program, *words], cwd=folder, env=environment, capture_output=True, text=True, timeout=240
        )
        assert done.returncode == 0, f"{program} {' '.join(words)}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
        return done.stdout

    return run


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, Path]:
    """A new environment of the Python of the tests, to which their packages are lent, but for jcl itself."""
    folder = tmp_path_factory.mktemp("installed")
    run = install(wheel, Path(sys.executable), folder)
    (packages,) = (folder / "env" / "lib").glob("python*/site-packages")
    # the links in a folder that is named in a .pth file are not followed: not the one to this checkout either
    lent = [sysconfig.get_path("purelib"), *(str(Path(each).parent) for each in _elsewhere())]
    (packages / "lent.pth").write_text("\n".join(dict.fromkeys(lent)), encoding="utf-8")
    return run, folder


def _elsewhere() -> list[str]:
    """Folders of packages that the tests have from another environment."""
    found = (importlib.util.find_spec(name) for name in ("torch", "SimpleITK", "rich"))
    return [str(Path(spec.origin).parent) for spec in found if spec and spec.origin]


def test_it_is_the_installed_package_that_runs(installed: tuple[Run, Path]):
    run, folder = installed
    where = run("python", "-c", "import jcl; print(jcl.__file__)").strip()
    assert Path(where).is_relative_to(folder / "env")
    assert run("jcl", "--version") == f"jcl {jcl.__version__}\n"


def test_help_and_lists(installed: tuple[Run, Path]):
    run, _ = installed
    assert "jcl prepare" in run("jcl", "--help")
    for catalogue, name in (
        *(("methods", "simtriplet"), ("backbones", "rolling_unet"), ("datasets", "acdc"), ("splits", "acdc_8")),
        ("recipes", "small_table1"),
    ):
        assert name in run("jcl", catalogue), catalogue


def test_the_demo_in_two_steps(installed: tuple[Run, Path]):
    run, folder = installed
    assert "gain" in run("python", "-c", DEMO)
    assert (folder / "demo" / "segmentations.png").stat().st_size > 1000
    if shutil.which("cc"):  # the kernels were built of the C files that are installed
        assert list((folder / "cache" / "jcl" / "kernels").glob("*.so"))


@pytest.mark.skipif(not OTHERS, reason=f"there is no other Python from 3.11 on than {OWN[0]}.{OWN[1]} here")
@pytest.mark.skipif(PIP < (23, 1), reason="this pip is older than Python 3.12, and does not run on it")
@pytest.mark.parametrize("other", dict.fromkeys([*OTHERS[:1], *OTHERS[-1:]]), ids=lambda each: "{}.{}".format(*each))
def test_another_python(other: tuple[int, int], wheel: Path, tmp_path: Path):
    run = install(wheel, FOUND[other], tmp_path)
    assert "jcl prepare" in run("jcl", "--help")
    assert "--batch-size" in run("jcl", "pretrain", "--help")
    assert "width" in run("jcl", "pretrain", "store", "--out", "pre", "--print-config")
    (package,) = (tmp_path / "env" / "lib").glob("python*/site-packages/jcl")
    run("python", "-W", "error", "-m", "compileall", "-q", "-f", str(package))
