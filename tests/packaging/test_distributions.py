"""What travels in the wheel and in the sdist: all that jcl reads when it runs, and all that its tests read."""

import tarfile
import tomllib
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

import jcl
from support.distributions import build
from support.documents import ROOT

pytestmark = pytest.mark.slow

SOURCES = ROOT / "src"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
READ = {  # what is read when jcl runs, and is no Python
    "py.typed": "jcl/py.typed",
    "recipes": "jcl/benchmark/recipes/small_table1.toml",
    "published figures": "jcl/benchmark/paper.json",
    "data sets": "jcl/data/specs/acdc.toml",
    "splits": "jcl/data/official/acdc_8.json",
    "kernels": "jcl/kernels/convolution.c",
    "headers of the kernels": "jcl/kernels/threads.h",
    "page": "jcl/report/page/page.html",
    "style of the page": "jcl/report/page/style.css",
    "script of the page": "jcl/report/page/viewer.js",
    "page of the server": "jcl/serve/page/index.html",
    "script of the server's page": "jcl/serve/page/main.js",
    "pre-trained weights": "jcl/models/hippocampus/model.safetensors",
    "card of the weights": "jcl/models/hippocampus/README.md",
}


def contents(wheel: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(wheel) as file:
        return {name: file.read(name) for name in file.namelist() if ".dist-info/" not in name}


def test_the_wheel_is_the_package_byte_for_byte(wheel: Path):
    wanted = {
        path.relative_to(SOURCES).as_posix(): path.read_bytes()
        for path in SOURCES.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert contents(wheel) == wanted
    assert set(READ.values()) <= set(wanted)
    assert {Path(name).suffix for name in wanted} == {
        *(".c", ".css", ".h", ".html", ".js", ".json", ".md", ".py", ".safetensors", ".toml", ".typed")
    }


def test_the_wheel_says_what_it_is(wheel: Path):
    with zipfile.ZipFile(wheel) as file:
        (name,) = (each for each in file.namelist() if each.endswith(".dist-info/METADATA"))
        (entries,) = (each for each in file.namelist() if each.endswith("/entry_points.txt"))
        metadata = Parser().parsestr(file.read(name).decode())
        assert f"jcl = {PROJECT['scripts']['jcl']}" in file.read(entries).decode()
        assert any(each.endswith("/licenses/LICENSE") for each in file.namelist())
    assert wheel.name == f"jcl_seg-{jcl.__version__}-py3-none-any.whl"
    assert metadata["Requires-Python"] == PROJECT["requires-python"]
    assert set(metadata.get_all("Provides-Extra", [])) == set(PROJECT["optional-dependencies"])
    assert str(metadata.get_payload()).startswith("# jcl")


def test_a_wheel_of_the_sdist_is_the_same(distributions: Path, wheel: Path, tmp_path: Path):
    (sdist,) = distributions.glob("*.tar.gz")
    with tarfile.open(sdist) as file:
        if hasattr(tarfile, "data_filter"):  # Python 3.11.4 and newer
            file.extractall(tmp_path, filter="data")
        else:
            file.extractall(tmp_path)
    (unpacked,) = tmp_path.iterdir()
    names = ("tests/conftest.py", "docs/tutorial.md", "benchmarks/table.py", "Makefile", "Dockerfile", "CITATION.cff")
    for name in (*names, ".dockerignore", ".ci/run", "constraints.txt", "SECURITY.md", "CONTRIBUTING.md"):
        assert (unpacked / name).read_bytes() == (ROOT / name).read_bytes(), name
    build(unpacked, tmp_path / "out")
    (again,) = (tmp_path / "out").glob("*.whl")
    assert contents(again) == contents(wheel)
    assert sdist.stat().st_size < 10e6  # of which 4 are weights
