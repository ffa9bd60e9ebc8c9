"""Stores, runs and benchmarks are moved, and go on; what is passed on to others has no path of this machine."""

import io
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import jcl
from jcl.benchmark.benchmark import benchmark
from jcl.benchmark.folder import DONE, RESULTS, RUN
from jcl.cli import main as cli
from jcl.config import BenchmarkConfig, ExportConfig, FinetuneConfig, PretrainConfig, ReportConfig
from jcl.errors import UsageError
from jcl.files import read_json
from jcl.report.report import report
from jcl.stages.export import export
from jcl.stages.finetune import finetune
from jcl.stages.pretrain import pretrain
from jcl.training.run_folder import read_model
from support.scans import write_volumes
from support.tinyrecipes import tiny_file

FEW: dict[str, Any] = {
    "folds": 3,
    "batch_size": 4,
    "steps": 3,
    "checkpoint_minutes": 0.0,
    "precision": "float32",
    "kernels": "off",
    "compile": "off",
}
PLACE = "a-place-that-nobody-else-has"


def tune(store: Path, init: Path, out: Path, **more: Any) -> Path:
    return finetune(FinetuneConfig(store=store, init=str(init), out=out, **FEW, **more))


def unfinish(run: Path) -> dict[str, torch.Tensor]:
    """As it was before its last step; returns its final weights."""
    weights = read_model(run)
    for name in ("model.json", "model.safetensors"):
        (run / name).unlink()
    shutil.rmtree(max((run / "checkpoints").iterdir()))
    return weights


@pytest.fixture(scope="module")
def origin(store_path, tmp_path_factory) -> Path:
    """A folder with a store, a pre-training and a fine-tuning of it."""
    folder = tmp_path_factory.mktemp("origin") / PLACE
    store = shutil.copytree(store_path, folder / "store")
    pre = PretrainConfig(stores=(store,), method="simclr", width=2, out=folder / "pre", fold=0, **FEW)
    pretrain(pre)
    tune(store, folder / "pre", folder / "fine")
    return folder


@pytest.fixture
def moved(origin, tmp_path) -> Iterator[Path]:
    """The same folder elsewhere, and none where it was."""
    folder = shutil.copytree(origin, tmp_path / "elsewhere")
    hidden = origin.rename(origin.with_name("hidden"))
    yield folder
    hidden.rename(origin)


def test_a_moved_pre_training_goes_on(moved):
    weights = unfinish(moved / "pre")
    settings: dict[str, Any] = {"method": "simclr", "width": 2, "fold": 0, "resume": True, **FEW}
    pretrain(PretrainConfig(stores=(moved / "store",), out=moved / "pre", **settings))
    assert all(torch.equal(tensor, read_model(moved / "pre")[name]) for name, tensor in weights.items())
    with pytest.raises(UsageError, match="is another run"):
        pretrain(PretrainConfig(stores=(moved / "store",), out=moved / "pre", **{**settings, "width": 3}))


def test_a_moved_fine_tuning_goes_on(moved):
    weights = unfinish(moved / "fine")
    tune(moved / "store", moved / "pre", moved / "fine", resume=True)
    assert all(torch.equal(tensor, read_model(moved / "fine")[name]) for name, tensor in weights.items())


def test_another_initial_run_is_another_run(moved):
    """Though it lies where the first one was named."""
    unfinish(moved / "fine")
    shutil.rmtree(moved / "pre")
    settings: dict[str, Any] = {"method": "simclr", "width": 2, "fold": 0, "seed": 1, **FEW}
    pretrain(PretrainConfig(stores=(moved / "store",), out=moved / "pre", **settings))
    with pytest.raises(UsageError, match=r"is another run.*init\.digest"):
        tune(moved / "store", moved / "pre", moved / "fine", resume=True)


def test_another_store_is_another_run(moved, tmp_path):
    scans, other = write_volumes(tmp_path / "scans", patients=7), tmp_path / "other"
    assert cli.main(["prepare", str(scans), "--out", str(other), "--labels", "1=ball", "--workers", "1"]) == 0
    unfinish(moved / "fine")
    with pytest.raises(UsageError, match=r"is another run.*store_digest"):
        tune(other, moved / "pre", moved / "fine", resume=True)


def test_scores_of_a_moved_run(moved, tmp_path, capsys):
    command = ["evaluate", str(moved / "fine"), "--out", str(tmp_path / "results.json")]
    assert cli.main(command) == 3
    assert "is not there; say with --store where it is now" in capsys.readouterr().err
    assert cli.main(["verify", str(moved / "fine")]) == 0
    assert "--store" in capsys.readouterr().out
    assert cli.main([*command, "--store", str(moved / "store")]) == 0
    assert len(read_json(tmp_path / "results.json")["cases"]) == 2
    tune(moved / "store", moved / "pre", moved / "fine", resume=True)  # finished: it only learns the new places
    assert cli.main(command) == 0


def test_a_fine_tuning_from_a_moved_pre_training(moved, tmp_path):
    """It takes over its split as before."""
    run = tune(moved / "store", moved / "pre", tmp_path / "new")
    assert read_json(run / "split.json") == read_json(moved / "fine" / "split.json")
    assert all(torch.equal(tensor, read_model(moved / "fine")[name]) for name, tensor in read_model(run).items())


def parts_of(path: Path) -> Iterator[bytes]:
    """The bytes of a file, and of all that is packed in it."""
    content = path.read_bytes()
    yield content
    if zipfile.is_zipfile(io.BytesIO(content)):
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            yield from (archive.read(name) for name in archive.namelist())


def with_paths(*paths: Path) -> list[str]:
    """Files that have the folder of the runs, or that of the program, in them."""
    tells = [text.encode() for text in (PLACE, str(Path(jcl.__file__).parent), str(Path(torch.__file__).parent))]
    files = [file for path in paths for file in (path.rglob("*") if path.is_dir() else [path]) if file.is_file()]
    assert files
    return [
        f"{file.name}: {tell.decode()}"
        for file in files
        for tell in tells
        if any(tell in part for part in parts_of(file))
    ]


@pytest.mark.parametrize("kind", ["hub", "monai", pytest.param("onnx", marks=pytest.mark.slow)])
def test_what_is_exported_has_no_path_of_this_machine(origin, tmp_path, kind):
    results = tmp_path / "results.json"
    assert cli.main(["evaluate", str(origin / "fine"), "--out", str(results)]) == 0
    assert with_paths(results) == []
    given = results if kind != "onnx" else None
    assert with_paths(export(ExportConfig(run=origin / "fine", to=kind, out=tmp_path / kind, results=given))) == []


@pytest.fixture(scope="module")
def bench(tmp_path_factory) -> Path:
    """A benchmark of one pre-training and two fine-tunings, and the scans."""
    folder = tmp_path_factory.mktemp("bench") / PLACE
    write_volumes(folder / "data" / "scans")
    cut = [
        ('methods = ["Random", "JCL", "MoCo"]', 'methods = ["Random", "JCL"]'),
        ("run_folds = [0, 1]", "run_folds = [0]"),
    ]
    recipe = tiny_file(folder, *cut, ("patients = [1, 2]", "patients = [1]"), ("patients = [2]", "patients = [1]"))
    benchmark(BenchmarkConfig(recipe=recipe, out=folder / "bench", data=folder / "data", workers=0))
    return folder


def test_a_moved_benchmark_goes_on_and_its_report_has_no_path(bench, tmp_path):
    moved = shutil.copytree(bench, tmp_path / "elsewhere")
    hidden = bench.rename(bench.with_name("hidden"))
    try:
        kept = {path.parent.name: path.read_bytes() for path in moved.glob(f"bench/tasks/*/{DONE}")}
        assert len(kept) == 3
        again = next(name for name in kept if name.startswith("finetune-ball-jcl"))
        scores = read_json(moved / "bench" / "tasks" / again / RESULTS)
        (moved / "bench" / "tasks" / again / DONE).unlink()  # as where it was stopped: its run is not done
        for name in ("model.json", "model.safetensors"):
            (moved / "bench" / "tasks" / again / RUN / name).unlink()
        benchmark(BenchmarkConfig(recipe=moved / "tiny.toml", out=moved / "bench", workers=0))
        after = {path.parent.name: path.read_bytes() for path in moved.glob(f"bench/tasks/*/{DONE}")}
        assert {name: mark for name, mark in after.items() if kept[name] != mark}.keys() == {again}
        assert read_json(moved / "bench" / "tasks" / again / RESULTS)["cases"] == scores["cases"]
        page = report(ReportConfig(folder=moved / "bench", out=moved / "page" / "report.html"))
    finally:
        hidden.rename(bench)
    found = [file for file in page.parent.iterdir() if str(tmp_path).encode() in file.read_bytes()]
    assert found == []
    assert with_paths(page.parent) == []
