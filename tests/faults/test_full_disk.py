"""A disk that fills up: named in one line, nothing that was whole is lost, and the same command goes on with room."""

import contextlib
import errno
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from jcl.benchmark.benchmark import benchmark
from jcl.config import (
    BenchmarkConfig,
    EvaluateConfig,
    ExportConfig,
    FinetuneConfig,
    PredictConfig,
    PretrainConfig,
    ReportConfig,
)
from jcl.errors import DataError
from jcl.files import WriteError
from jcl.report.report import report
from jcl.stages.evaluate import evaluate
from jcl.stages.export import export
from jcl.stages.finetune import finetune
from jcl.stages.predict import predict
from jcl.stages.pretrain import pretrain
from jcl.training import logger
from jcl.training.trackers import tensorboard
from support.faults import finetuning, jcl, pretraining
from support.tinyrecipes import ONE_CELL

SMALL = {"width": 2, "batch_size": 2, "kernels": "off", "precision": "float32", "devices": "cpu"}
FULL = r"No space left on device\); free some space"


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of its own of 2 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)]
    if not shutil.which("mount") or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("no small disk can be mounted here")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)  # also where a failed test left a file open


def fill(disk: Path, *, leave: int = 0) -> Path:
    """A file that takes all the room but for some pages of 4 kB."""
    path = disk / "filling"
    with path.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(bytes(4096)):
            pass
    os.truncate(path, path.stat().st_size // 4096 * 4096 - leave * 4096)
    return path


@pytest.fixture(scope="module")
def run(store_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "run"
    return finetune(FinetuneConfig(store=store_path, init="none", out=out, steps=2, **SMALL))


def test_a_full_disk_is_named_and_the_rerun_is_whole(disk: Path, run: Path, store_path: Path, tmp_path: Path):
    scans = store_path.with_name("scans")
    commands = {
        "fine": lambda out: finetune(FinetuneConfig(store=store_path, init="none", out=out, steps=2, **SMALL)),
        "pre": lambda out: pretrain(PretrainConfig(stores=(store_path,), method="simclr", out=out, steps=2, **SMALL)),
        "results.json": lambda out: evaluate(EvaluateConfig(run=run, out=out)),
        "predicted": lambda out: predict(PredictConfig(run=run, source=scans, out=out)),
        "hub": lambda out: export(ExportConfig(run=run, to="hub", out=out)),
    }
    for name, command in commands.items():
        filling = fill(disk)
        with pytest.raises(DataError, match=FULL) as caught:
            command(disk / name)
        assert str(disk) in str(caught.value)
        filling.unlink()
        left = disk / name
        if left.is_dir():
            shutil.rmtree(left)
        assert not left.exists()
        command(left)
        assert left.exists()


@pytest.mark.parametrize("kind", ["pretrain", "finetune"])
def test_a_log_that_finds_no_room_costs_no_training(
    kind: str, store_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(logger, "_append", full)
    monkeypatch.setattr(tensorboard.SummaryWriter, "add_scalar", full)
    monkeypatch.setattr(tensorboard.SummaryWriter, "close", full)
    given = {"out": tmp_path / "run", "steps": 20, **SMALL}
    if kind == "finetune":
        out = finetune(FinetuneConfig(store=store_path, init="none", **given))
    else:
        out = pretrain(PretrainConfig(stores=(store_path,), method="simclr", **given))
    assert (out / "model.json").is_file()
    assert capsys.readouterr().err.count("its log has gaps from here on (No space left") == 1


def test_the_thread_of_tensorboard_ends_without_a_word_of_its_own(disk: Path, capsys: pytest.CaptureFixture[str]):
    (disk / "run").mkdir()
    with logger.RunLog(disk / "run", "train", steps=40, start=0, batch_size=1) as log:
        fill(disk)
        for _ in range(40):
            log.add({"loss": 1.0})
            with contextlib.suppress(OSError):
                log.trackers[-1].writer.flush()
    said = capsys.readouterr().err
    assert "Traceback" not in said
    assert said.count("its log has gaps from here on (No space left") == 1


def test_half_a_line_is_taken_back(disk: Path):
    log = disk / "log.jsonl"
    log.write_bytes(b'{"step": 1}\n' * 300)
    size = log.stat().st_size
    fill(disk)
    with pytest.raises(OSError, match="No space left"):
        logger._append(log, b"x" * 8192)
    assert log.stat().st_size == size


@pytest.mark.slow
def test_a_report_that_finds_no_room(disk: Path, store_path: Path, tmp_path: Path):
    (tmp_path / "recipe.toml").write_text(ONE_CELL)
    data = store_path.with_name("scans").parent
    benchmark(BenchmarkConfig(recipe=tmp_path / "recipe.toml", data=data, out=tmp_path / "bench", workers=0))
    config = ReportConfig(folder=tmp_path / "bench", out=disk / "report.html")
    for leave in (0, 3):  # none for the lock; some for it, and not enough for the page
        filling = fill(disk, leave=leave)
        with pytest.raises(WriteError, match=rf"report\.html: cannot be written .*{FULL}"):
            report(config)
        assert [path.name for path in disk.iterdir()] == ["filling"]
        filling.unlink()
    report(config)
    names = ("report-summary.csv", "report.csv", "report.html", "report.md", "report.tex")
    assert sorted(path.name for path in disk.iterdir()) == list(names)


@pytest.mark.slow
@pytest.mark.parametrize("training", [finetuning, pretraining])
def test_a_disk_that_fills_while_training(disk: Path, store_path: Path, training: Callable[..., tuple[object, ...]]):
    given = training(store_path, disk / "run", steps=400, more=("--checkpoint-minutes", "0.001"))
    work = jcl(*given)
    while not list(disk.glob("run/checkpoints/step-*")):
        assert work.poll() is None
    filling = fill(disk)
    said = work.communicate(timeout=120)[1].decode()
    assert work.returncode == 3, said
    assert "No space left" in said
    assert "Traceback" not in said
    filling.unlink()
    again = jcl(*given, "--resume")
    again.communicate(timeout=240)
    assert again.returncode == 0


@pytest.mark.parametrize("left", [(), ("model.safetensors",), ("state.json",), ("model.safetensors", "state.json")])
def test_a_half_deleted_checkpoint_is_passed_over(store_path: Path, tmp_path: Path, left: tuple[str, ...]):
    given = {"store": store_path, "init": "none", "out": tmp_path / "run", "steps": 3, **SMALL}
    finetune(FinetuneConfig(**given, checkpoint_minutes=0.0))
    run = tmp_path / "run"
    (run / "model.json").unlink()
    newest = max(run.glob("checkpoints/step-*"))
    for path in newest.iterdir():
        if path.name not in left:
            path.unlink()
    with pytest.warns(UserWarning, match="checkpoint passed over"):
        finetune(FinetuneConfig(**given, checkpoint_minutes=0.0, resume=True))
    assert (run / "model.json").is_file()


def test_what_a_killed_export_left_is_cleared(run: Path, tmp_path: Path):
    for name in (".model.1.tmp", ".model.2.tmp"):
        (tmp_path / name).mkdir()
    export(ExportConfig(run=run, to="hub", out=tmp_path / "model"))
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_folder_that_cannot_be_written_is_one_line(run: Path, store_path: Path, tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(WriteError, match=r"file/run: cannot be written"):
        finetune(FinetuneConfig(store=store_path, init="none", out=tmp_path / "file" / "run", steps=1, **SMALL))
