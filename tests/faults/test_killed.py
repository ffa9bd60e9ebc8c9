"""`kill -9` at each change of a file that predict, export, evaluate and report make: a rerun ends right.

A process is cut off just before the change, and in the midst of what it writes next; what has the name of a result is
whole at any time. The commands run in copies of one process (see `support/cut_off.py`), so that all moments are tried.
"""

import gzip
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from jcl.benchmark.benchmark import benchmark
from jcl.config import BenchmarkConfig, FinetuneConfig
from jcl.errors import UsageError
from jcl.stages.finetune import finetune
from support.shared import made_once
from support.tinyrecipes import ONE_CELL

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="processes cannot be copied here")

TRY_ALL = """
import sys
from pathlib import Path
from faults.test_killed import COMMANDS, try_all_moments
inputs, folder, name = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
print(try_all_moments(COMMANDS[name](inputs), folder))
"""


def _predict(inputs: Path) -> Callable[[Path], object]:
    from jcl.config import PredictConfig
    from jcl.stages.predict import predict

    return lambda out: predict(PredictConfig(run=inputs / "run", source=inputs / "scans", out=out / "segmented"))


def _second_look(inputs: Path) -> Callable[[Path], object]:
    from jcl.config import PredictConfig
    from jcl.inference import overview
    from jcl.stages.predict import predict

    more = {"volumes": True, "doubt": True, "probabilities": True, "overview": True}
    run, scan = inputs / "run", sorted((inputs / "scans").iterdir())[0]
    overview.draw_overview = _once(overview.draw_overview)  # takes long, and writes nothing
    with TemporaryDirectory() as first:
        predict(PredictConfig(run=run, source=scan, out=Path(first, "segmented"), **more))
    return lambda out: predict(PredictConfig(run=run, source=scan, out=out / "segmented", **more))


def _export(inputs: Path) -> Callable[[Path], object]:
    from jcl.config import ExportConfig
    from jcl.stages.export import export

    def run(out: Path) -> None:
        refused = pytest.raises(UsageError, match="exists") if (out / "hub").exists() else nullcontext()
        with refused:  # what is there is whole
            export(ExportConfig(run=inputs / "run", to="hub", out=out / "hub"))

    return run


def _evaluate(inputs: Path) -> Callable[[Path], object]:
    from jcl.config import EvaluateConfig
    from jcl.stages.evaluate import evaluate

    return lambda out: evaluate(EvaluateConfig(run=inputs / "run", out=out / "results.json"))


def _report(inputs: Path) -> Callable[[Path], object]:
    from jcl.config import ReportConfig

    stage = import_module("jcl.report.report")
    for name in ("summarise_benchmark", "draw_table", "draw_pretrainings"):  # what takes long, and writes nothing
        setattr(stage, name, _once(getattr(stage, name)))
    with TemporaryDirectory() as first:
        stage.report(ReportConfig(folder=inputs / "bench", out=Path(first, "report.html")))
    return lambda out: stage.report(ReportConfig(folder=inputs / "bench", out=out / "report.html"))


def _once(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, whose first answer is kept for all others: there is one table, of one benchmark."""
    kept: list[Any] = []

    def answer(*arguments: Any) -> Any:
        if not kept:
            kept.append(function(*arguments))
        return kept[0]

    return answer


COMMANDS = {
    "predict": _predict,
    "second look": _second_look,
    "export": _export,
    "evaluate": _evaluate,
    "report": _report,
}


def contents(folder: Path) -> dict[str, bytes]:
    """Of each file that has the name of a result."""
    paths = (path for path in folder.rglob("*") if path.is_file())
    named = {path.relative_to(folder).as_posix(): path for path in paths}
    return {
        name: gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        for name, path in named.items()
        if not any(part.startswith(".") for part in Path(name).parts)
    }


def try_all_moments(command: Callable[[Path], object], folder: Path) -> int:
    """Cut the command off at every moment, and see that the rerun is right; returns how many moments there were."""
    from support.cut_off import outcome

    whole = folder / "whole"
    whole.mkdir()
    code, count = outcome(lambda: command(whole), whole)
    assert code == 0, code
    expected = contents(whole)
    for at in range(count):
        for half in (False, True):
            out = folder / f"{at}-{half}"
            out.mkdir()
            code, _ = outcome(lambda out=out: command(out), out, at=at, half=half)
            where = f"change {at} of {count}, {'half-written' if half else 'killed'}, {code}"
            assert half or code < 0, where
            for name, content in contents(out).items():
                assert content == expected[name], (where, name)
            code, _ = outcome(lambda out=out: command(out), out)
            assert code == 0, where
            assert contents(out) == expected, where
            left = [path.name for path in out.rglob(".*")]
            assert not left, (where, left)
            shutil.rmtree(out)
    return count


@pytest.fixture(scope="module")
def inputs(store_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fine-tuned run, three scans, and a benchmark."""

    def make(out: Path) -> None:
        small = {"width": 2, "batch_size": 2, "kernels": "off", "precision": "float32", "devices": "cpu"}
        finetune(FinetuneConfig(store=store_path, init="none", out=out / "run", steps=2, **small))
        (out / "scans").mkdir()
        for path in sorted(store_path.with_name("scans").rglob("*.nii.gz"))[:2]:
            shutil.copy(path, out / "scans")
        (out / "recipe.toml").write_text(ONE_CELL)
        data = store_path.with_name("scans").parent
        benchmark(BenchmarkConfig(recipe=out / "recipe.toml", data=data, out=out / "bench", workers=0))

    return made_once(tmp_path_factory, "cut_off", make)


LONG = pytest.param("second look", marks=[pytest.mark.long, pytest.mark.timeout(900)])


@pytest.mark.slow
@pytest.mark.parametrize("name", [LONG if name == "second look" else name for name in COMMANDS])
def test_a_kill_at_every_change(inputs: Path, tmp_path: Path, name: str):
    folders: Sequence[str] = [str(Path(__file__).parents[1]), os.environ["PYTHONPATH"]]
    tried = subprocess.run(
        [sys.executable, "-c", TRY_ALL, str(inputs), str(tmp_path), name],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(folders), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        check=False,
        text=True,
    )
    assert tried.returncode == 0, tried.stderr[-3000:]
    assert int(tried.stdout.splitlines()[-1]) > 2
