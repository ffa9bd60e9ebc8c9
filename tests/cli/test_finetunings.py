"""Fine-tunings side by side: each done once, all stopped by one signal, and gone on with."""

import os
import signal
import threading
import time
from pathlib import Path

import pytest

from jcl.cli.finetunings import FineTuning, finetune_all
from jcl.config import FinetuneConfig, PrepareConfig
from jcl.data.phantom import write_dataset
from jcl.errors import DataError, Interrupted
from jcl.files import read_json
from jcl.stages.prepare import prepare

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("finetunings")
    write_dataset(folder / "volumes", labelled=range(4), unlabelled=(), size=32, slices=8)
    prepare(PrepareConfig(source=folder / "volumes", out=folder / "store", size=32, spacing=7.5, workers=1))
    return folder / "store"


def tunings(store: Path, out: Path, steps: int, count: int = 2) -> list[FineTuning]:
    return [
        FineTuning(
            FinetuneConfig(
                store=store, init="none", width=2, out=out / f"run-{seed}", steps=steps, seed=seed, resume=True,
                checkpoint_minutes=60,
            ),
            out / f"results-{seed}.json",
        )
        for seed in range(count)
    ]  # fmt: skip


def test_stopped_by_one_signal_then_gone_on_with(store: Path, tmp_path: Path):
    """The same weights as those of runs that nothing stopped."""
    finetune_all(tunings(store, tmp_path, 150))
    whole = [read_json(tmp_path / f"run-{seed}" / "model.json")["sha256"] for seed in range(2)]
    out = tmp_path / "stopped"
    out.mkdir()
    both = tunings(store, out, 150)

    def stop_when_begun() -> None:
        limit = time.monotonic() + 120
        while time.monotonic() < limit and not all((each.settings.out / "run.json").exists() for each in both):
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=stop_when_begun).start()
    with pytest.raises(Interrupted, match="the same command goes on"):
        finetune_all(both)
    assert not all(each.results.is_file() for each in both)
    finetune_all(both)
    assert [read_json(out / f"run-{seed}" / "model.json")["sha256"] for seed in range(2)] == whole
    assert all(each.done() == 150 for each in both)


def test_what_is_done_is_left_alone_and_an_error_is_raised(store: Path, tmp_path: Path):
    (done,) = tunings(store, tmp_path, 2, count=1)
    finetune_all([done])
    before = done.results.stat().st_mtime_ns
    finetune_all([done])
    assert done.results.stat().st_mtime_ns == before
    (missing,) = tunings(tmp_path / "nowhere", tmp_path / "other", 2, count=1)
    (tmp_path / "other").mkdir()
    with pytest.raises(DataError, match="nowhere"):
        finetune_all([done, missing])
