"""The kernels are compiled once, beside each other if need be, and what stands in the way is told."""

import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from jcl.kernels import library
from jcl.kernels.exchange import have_kernels
from jcl.kernels.library import KernelError

LOAD = "from jcl.kernels.library import load_library; print(load_library().jcl_lanes())"


@pytest.fixture
def empty(tmp_path, monkeypatch) -> Path:
    """An empty cache, and no library in this process."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("JCL_KERNELS", raising=False)
    monkeypatch.delenv("CC", raising=False)
    library.load_library.cache_clear()
    library._say.cache_clear()
    yield tmp_path / "jcl" / "kernels"
    library.load_library.cache_clear()
    library._say.cache_clear()


@pytest.fixture
def cache(empty, tmp_path_factory, monkeypatch) -> Path:
    """An empty cache, and a compiler that does not take its time to optimise."""
    if not shutil.which("cc"):
        pytest.skip("tests of the kernels: no C compiler here (cc, gcc, clang); on Debian: apt install gcc")
    monkeypatch.setenv("CC", str(compiler(tmp_path_factory.mktemp("quick"), 'exec cc "$@" -O0')))
    return empty


def compiler(folder: Path, script: str) -> Path:
    path = folder / "compiler"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def test_compiled_once_and_kept(cache, monkeypatch):
    library.load_library()
    (kept,) = cache.iterdir()
    assert kept.suffix == ".so"
    assert stat.S_IMODE(cache.stat().st_mode) == 0o700
    before = kept.stat().st_mtime_ns
    library.load_library.cache_clear()
    library.load_library()
    assert kept.stat().st_mtime_ns == before
    # other flags are another file
    monkeypatch.setattr(library, "FLAGS", (*library.FLAGS, "-DOTHER"))
    library.load_library.cache_clear()
    library.load_library()
    assert len(list(cache.glob("*.so"))) == 2


def test_several_processes_compile_beside_each_other(cache):
    commands = [subprocess.Popen([sys.executable, "-c", LOAD], stdout=subprocess.PIPE, text=True) for _ in range(3)]
    answers = {command.communicate()[0].strip() for command in commands}
    assert all(command.returncode == 0 for command in commands)
    assert len(answers) == 1
    assert len(list(cache.iterdir())) == 1  # and nothing half done


def test_a_damaged_file_in_the_cache_is_made_again(cache):
    library.load_library()
    (kept,) = cache.iterdir()
    kept.write_bytes(b"no library")
    done = subprocess.run([sys.executable, "-c", LOAD], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert len(kept.read_bytes()) > 1000


def test_no_home_to_write_to_is_no_trouble(cache, monkeypatch):
    cache.parent.mkdir()
    (cache.parent / "kernels").write_text("a file")
    assert library.load_library().jcl_lanes() in (4, 8, 16)
    assert (cache.parent / "kernels").read_text() == "a file"


@pytest.mark.parametrize(
    ("script", "wanted"),
    [
        ("exit 3", "exit code 3"),
        ('[ "$1" = --version ] || { echo "x.c: error: no headers" >&2; exit 1; }', "error: no headers"),
    ],
)
def test_a_compiler_that_fails_is_told_and_leaves_nothing(empty, monkeypatch, script, wanted):
    monkeypatch.setenv("CC", str(compiler(empty.parent.parent, script)))
    with pytest.raises(KernelError, match=wanted) as told:
        library.load_library()
    assert "\n" not in str(told.value)
    assert not empty.exists() or not list(empty.iterdir())


def test_words_of_the_compilers_command_make_another_file(cache, monkeypatch):
    """Such as `gcc -mno-avx512f`: what it compiles must not be taken for what the compiler alone does."""
    library.load_library()
    monkeypatch.setenv("CC", f"{os.environ['CC']} -DLANES=4")
    library.load_library.cache_clear()
    assert library.load_library().jcl_lanes() == 4
    assert len(list(cache.glob("*.so"))) == 2


def test_where_they_cannot_be_had_one_line_says_so_and_how_to_get_them(empty, monkeypatch, capsys):
    monkeypatch.setattr(library.shutil, "which", lambda name: None)
    assert [have_kernels(), have_kernels()] == [False, False]
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert "no C compiler here (cc, gcc, clang)" in told
    assert "apt install gcc" in told


@pytest.mark.parametrize("system", ["Linux", "Darwin", "Windows"])
def test_nothing_is_said_where_they_are_not_wanted_or_not_for_the_system(empty, monkeypatch, capsys, system):
    monkeypatch.setattr(library.platform, "system", lambda: system)
    if system == "Linux":
        monkeypatch.setenv("JCL_KERNELS", "off")
    assert not have_kernels()
    assert capsys.readouterr().err == ""


def test_no_compiler_another_system_and_switched_off(empty, monkeypatch):
    monkeypatch.setenv("CC", "/nowhere/cc")
    with pytest.raises(KernelError, match="no C compiler here"):
        library.load_library()
    monkeypatch.delenv("CC")
    monkeypatch.setattr(library.shutil, "which", lambda name: None)
    with pytest.raises(KernelError, match="no C compiler here"):
        library.load_library()
    monkeypatch.setattr(library.platform, "system", lambda: "Windows")
    with pytest.raises(KernelError, match="not Windows"):
        library.load_library()
    monkeypatch.setenv("JCL_KERNELS", "off")
    with pytest.raises(KernelError, match="JCL_KERNELS"):
        library.load_library()


def test_a_full_disk_is_told(cache, monkeypatch):
    """The compiler's own message, by a limit on the size of files that is too small for what it writes."""
    monkeypatch.setenv("CC", str(compiler(cache.parent.parent, 'ulimit -f 1; exec cc "$@" -O0')))
    with pytest.raises(KernelError):
        library.load_library()
    assert not list(cache.glob("*.so"))


def test_the_threads_are_those_of_pytorch(cache):
    """One library of threads in the process: a second one would spin beside the first."""
    code = (
        "import torch, pathlib; from jcl.kernels.convolution import convolve; torch.set_num_threads(2);"
        "torch.ones(64, 512, 512).sum(); count = lambda: len(list(pathlib.Path('/proc/self/task').iterdir()));"
        "before = count(); convolve(torch.ones(8, 16, 64, 64), torch.ones(16, 16, 3, 3)); print(before, count())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env={**os.environ})
    before, after = map(int, done.stdout.split())
    assert after == before
