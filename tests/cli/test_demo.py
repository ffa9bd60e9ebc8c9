"""The demo from end to end, tiny; and that it keeps out of folders that are not its own."""

import dataclasses
import json
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import pytest

from jcl.cli import demo as module
from jcl.cli.demo import Plan, demo
from jcl.cli.finetunings import FineTuning
from jcl.config import DemoConfig
from jcl.errors import Interrupted, UsageError

TINY = Plan(
    unlabelled=2, labelled=1, draws=2, tested=2, size=32, slices=8, spacing=7.5,
    width=4, pretrain_steps=2, finetune_steps=2,
)  # fmt: skip


def contents(folder: Path) -> dict[str, bytes]:
    """Every file that a rerun must leave as it is."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.suffix in {".json", ".safetensors", ".gz"}
    }


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A demo that nothing stopped, and what it said."""
    out = tmp_path_factory.mktemp("demo") / "the demo"
    with redirect_stdout(StringIO()) as said:
        assert demo(DemoConfig(out=out), TINY) == out
    return out, said.getvalue()


def test_whole_path_then_again(finished: tuple[Path, str], capsys: pytest.CaptureFixture):
    out, said = finished
    for text in ("Random", "JCL", "gain", "LV", "Myo", "mean", str(out), "jcl prepare FOLDER", "gain of each draw"):
        assert text in said
    assert said.rstrip().endswith(str(out / "segmentations.png"))
    assert len(list((out / "results").iterdir())) == 4
    assert (out / "segmentations.png").stat().st_size > 1000
    split = json.loads((out / "pretrain" / "split.json").read_text())
    assert not {*split["train"]} & {"phantom_200", "phantom_201"}

    before = contents(out)
    demo(DemoConfig(out=out), TINY)
    assert contents(out) == before
    assert "finished already" in capsys.readouterr().err


def test_an_interrupted_demo_goes_on(finished: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Stopped after its second fine-tuning, then run again: the same results as without the stop."""
    finetune_all = module.finetune_all

    def stopping(tunings: list[FineTuning]) -> None:
        finetune_all(tunings[:2])
        raise Interrupted("stopped and saved; the same command goes on")

    out = tmp_path / "demo"
    with monkeypatch.context() as patch:
        patch.setattr(module, "finetune_all", stopping)
        with pytest.raises(Interrupted, match=r"demo: stopped and saved; the same command goes on"):
            demo(DemoConfig(out=out), TINY)
    demo(DemoConfig(out=out), TINY)
    for name in ("random-0", "jcl-0", "random-1", "jcl-1"):
        first, second = (folder / "finetune" / name / "model.json" for folder in (out, finished[0]))
        assert first.read_text() == second.read_text()


def test_a_foreign_folder_is_left_alone(tmp_path: Path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(UsageError, match="exists and is not a folder of the demo"):
        demo(DemoConfig(out=tmp_path), TINY)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_another_seed_in_the_same_folder_is_refused(tmp_path: Path):
    (tmp_path / "demo.json").write_text(json.dumps({"seed": 0, **dataclasses.asdict(TINY)}))
    with pytest.raises(UsageError, match=r"another --out|seed: 0 -> 1"):
        demo(DemoConfig(out=tmp_path, seed=1), TINY)


def test_patients_of_the_parts_are_different_people():
    unlabelled, few, tested = Plan().patients()
    everybody = [*unlabelled, *(number for draw in few for number in draw), *tested]
    assert len(set(everybody)) == len(everybody)
