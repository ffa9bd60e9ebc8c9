"""The digest of code changes with what a run can reach, and with nothing else."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from jcl.benchmark import sourcecode
from jcl.benchmark.sourcecode import code_digest, reached


def forget() -> None:
    for kept in (sourcecode._digest, sourcecode._file_of, sourcecode._imports, sourcecode._meaning):
        kept.cache_clear()


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Digest of a module of one's own with the source that is given."""
    monkeypatch.syspath_prepend(tmp_path)

    def digest(source: str) -> str:
        (tmp_path / "own_backbone.py").write_text(source)
        forget()
        return code_digest(["own_backbone"])

    return digest


BEFORE = '"""Doc."""\n\n\ndef f(x):\n    """Doc."""\n    return x + 1  # why\n'


@pytest.mark.parametrize(
    ("after", "same"),
    [
        ('"""Other."""\ndef f(x):\n    """Words."""\n    return (x +\n        1)\n', True),
        ("def f(x):\n    return x + 2\n", False),
        ("def f(x, y=0):\n    return x + 1\n", False),
        (BEFORE + "\ng = f(1)\n", False),
    ],
)
def test_comments_docstrings_and_layout_do_not_count(own, after: str, same: bool):
    assert (own(BEFORE) == own(after)) == same


IMPORTED = """
import importlib, sys
importlib.import_module(sys.argv[1])
print(*[name for name in sys.modules if name.split(".")[0] == "jcl"])
"""


@pytest.mark.parametrize("stage", ["pretrain", "finetune", "evaluate"])
def test_all_that_python_imports_is_reached(stage: str):
    """In an interpreter of its own: operators of PyTorch are registered once in each."""
    command = [sys.executable, "-c", IMPORTED, f"jcl.stages.{stage}"]
    loaded = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert len(loaded) > 15
    assert set(loaded) <= set(reached([f"jcl.stages.{stage}"])) | set(sourcecode.LEFT_OUT)


def test_what_a_run_cannot_reach_does_not_count():
    finetuning = reached(["jcl.stages.finetune", "jcl.stages.evaluate", "jcl.backbones.unet"])
    strangers = ("jcl.methods.", "jcl.report", "jcl.benchmark", "jcl.cli.main", "jcl.export", "jcl.backbones.ukan")
    shared = ("jcl.methods._base", "jcl.methods._settings")  # as `jcl.methods` itself, which `jcl` names
    assert not [name for name in finetuning if name.startswith(strangers) and name not in shared]
    assert {
        "jcl.training.optim",
        "jcl.augment.spatial",
        "jcl.metrics",
        "jcl.backbones._transfer",
        "jcl.data.splits",
    } <= set(finetuning)


def test_a_method_counts_for_its_own_runs():
    digests = {code_digest(["jcl.stages.pretrain", f"jcl.methods.{name}"]) for name in ("jcl", "moco", "simclr")}
    assert len(digests) == 3


def test_the_c_files_beside_what_is_reached_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """On a copy of the package: those of the kernels, which trainings reach, and not of a folder that none does."""
    package = tmp_path / "jcl"
    shutil.copytree(Path(sourcecode.__file__).parents[1], package, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(sourcecode, "__file__", str(package / "benchmark" / "sourcecode.py"))
    forget()
    before = code_digest(["jcl.stages.finetune"])
    (package / "elsewhere").mkdir()
    (package / "elsewhere" / "other.c").write_text("int x;")
    sourcecode._digest.cache_clear()
    assert code_digest(["jcl.stages.finetune"]) == before
    header = package / "kernels" / "tiles.h"
    header.write_text(header.read_text().replace("TILE = 4", "TILE = 2"))
    sourcecode._digest.cache_clear()
    assert code_digest(["jcl.stages.finetune"]) != before
    forget()
