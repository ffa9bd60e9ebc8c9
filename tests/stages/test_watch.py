"""`jcl predict --watch`: each scan that arrives is segmented once, whatever ends the process in the middle."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import SimpleITK as sitk

from jcl.config import FinetuneConfig, PredictConfig
from jcl.errors import DataError, UsageError
from jcl.files import read_json
from jcl.stages.finetune import finetune
from jcl.stages.predict import predict
from jcl.stages.watch import watch
from support.dicomfiles import write_series
from support.scans import write_volumes
from support.shared import made_once

SMALL = {"width": 2, "batch_size": 2, "kernels": "off", "precision": "float32"}


@pytest.fixture(scope="module")
def run(store_path, tmp_path_factory) -> Path:
    return made_once(
        tmp_path_factory,
        "watching-run",
        lambda out: finetune(FinetuneConfig(store=store_path, init="none", out=out, steps=2, **SMALL)),
    )


@pytest.fixture
def scans(tmp_path) -> Path:
    return write_volumes(tmp_path / "made", patients=3, labelled=0) / "images"


class Watched:
    """A watched folder, looked at when a test asks for it, with a clock of its own."""

    def __init__(self, run: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, settle: float = 10.0) -> None:
        self.incoming, self.out = folder / "incoming", folder / "out"
        self.incoming.mkdir()
        self.now = 0.0
        self.monkeypatch = monkeypatch
        self.config = PredictConfig(run=run, watch=self.incoming, out=self.out, settle=settle, precision="float32")

    def go(self, *moments) -> list[str]:
        """Names of what is segmented, when these things happen one after the other, each 6 seconds after the last."""
        from jcl.inference import arrivals

        self.monkeypatch.setattr(arrivals.time, "monotonic", lambda: self.now)
        waiting = list(moments)

        def idle() -> bool:
            self.now += 6
            if waiting:
                waiting.pop(0)()
                return True
            return False

        written = [path.name for path in watch(self.config, idle=idle)]
        self.monkeypatch.undo()
        return written

    def arrive(self, path: Path, name: str | None = None):
        return lambda: shutil.copy(path, self.incoming / (name or path.name))

    def record(self) -> dict:
        return read_json(self.out / "watched.json")["scans"]


def nothing() -> None:
    """Time goes by."""


def test_each_scan_once_also_over_several_starts(run, scans, tmp_path, monkeypatch, capsys):
    box = Watched(run, tmp_path, monkeypatch)
    one, two, three = (scans / f"p{n}.nii.gz" for n in range(3))
    assert box.go(box.arrive(one), nothing, nothing, box.arrive(two), nothing, nothing, nothing) == [one.name, two.name]
    assert box.go(nothing, nothing, nothing) == []
    box.arrive(three)()
    assert box.go(nothing, nothing, nothing) == [three.name]
    (box.out / one.name).unlink()  # as who takes the results away does
    os.utime(box.incoming / one.name)  # a change of its time alone is none
    assert box.go(nothing, nothing, nothing) == []
    shutil.copy(two, box.incoming / one.name)
    assert box.go(nothing, nothing, nothing) == [one.name]
    plain = predict(PredictConfig(run=run, source=two, out=tmp_path / "plain", precision="float32"))
    same = [sitk.GetArrayFromImage(sitk.ReadImage(str(path))) for path in (plain[0], box.out / one.name)]
    assert (same[0] == same[1]).all()
    assert {name: entry["status"] for name, entry in box.record().items()} == dict.fromkeys(("p0", "p1", "p2"), "done")


def test_a_file_that_is_still_written_is_waited_for(run, scans, tmp_path, monkeypatch):
    box = Watched(run, tmp_path, monkeypatch)
    whole = (scans / "p0.nii.gz").read_bytes()
    parts = [lambda n=n: (box.incoming / "p0.nii.gz").write_bytes(whole[: len(whole) * n // 4]) for n in (1, 2, 3, 4)]
    assert box.go(*parts) == []
    assert box.record() == {} if (box.out / "watched.json").exists() else True
    assert box.go(nothing, nothing, nothing) == ["p0.nii.gz"]


def test_a_bad_scan_is_tried_again_only_when_it_changes(run, scans, tmp_path, monkeypatch, capsys):
    box = Watched(run, tmp_path, monkeypatch)
    (box.incoming / "p0.nii.gz").write_bytes(b"no scan at all")
    box.arrive(scans / "p1.nii.gz")()
    assert box.go(nothing, nothing, nothing) == ["p1.nii.gz"]
    failed = box.record()["p0"]
    assert failed["status"] == "failed"
    assert "p0.nii.gz" in failed["reason"]
    assert "\n" not in failed["reason"]
    assert f"failed: {failed['reason']}" in capsys.readouterr().err
    assert box.go(nothing, nothing, nothing) == []
    assert "failed:" not in capsys.readouterr().err
    box.arrive(scans / "p0.nii.gz")()
    assert box.go(nothing, nothing, nothing) == ["p0.nii.gz"]
    assert box.record()["p0"]["status"] == "done"


def test_a_series_waits_for_its_last_file_and_keeps_its_result_when_another_comes(run, tmp_path, monkeypatch):
    box = Watched(run, tmp_path, monkeypatch)
    first = write_series(tmp_path / "first")
    loose = [box.arrive(path, f"a{path.name}") for path in first]
    assert box.go(*loose[:-1]) == []
    assert len(box.go(loose[-1], nothing, nothing)) == 1
    assert [entry["status"] for entry in box.record().values()] == ["done"]
    second = write_series(tmp_path / "second", series="b")
    for path in second:
        box.arrive(path, f"b{path.name}")()
    assert len(box.go(nothing, nothing, nothing)) == 1


def test_what_cannot_be_watched_is_refused(run, tmp_path):
    with pytest.raises(DataError, match="no such folder"):
        predict(PredictConfig(run=run, watch=tmp_path / "none", out=tmp_path / "out"))
    (tmp_path / "in").mkdir()
    with pytest.raises(UsageError, match="scans arrive there; choose another --out"):
        predict(PredictConfig(run=run, watch=tmp_path / "in", out=tmp_path / "in"))
    with pytest.raises(UsageError, match="missing: source, or --watch FOLDER"):
        PredictConfig(run=run, out=tmp_path / "out")


@pytest.mark.long
@pytest.mark.timeout(1200)
@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes cannot be copied here")
def test_a_kill_at_every_change_loses_nothing_and_does_nothing_twice(run, scans, tmp_path):
    tried = subprocess.run(
        [sys.executable, "-c", TRY_ALL, str(run), str(scans), str(tmp_path)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[1]), os.environ["PYTHONPATH"]])},
        capture_output=True,
        check=False,
        text=True,
    )
    assert tried.returncode == 0, tried.stderr[-3000:]
    assert int(tried.stdout.splitlines()[-1]) > 6


TRY_ALL = """
import sys
from pathlib import Path
from stages.test_watch import try_all_moments
print(try_all_moments(*map(Path, sys.argv[1:])))
"""


def try_all_moments(run: Path, scans: Path, folder: Path) -> int:
    """Kill it before each change of a file, and half-way through what it writes; and start it again."""
    from support.cut_off import outcome

    (scans / "p2.nii.gz").unlink()

    def start(out: Path):
        config = PredictConfig(run=run, watch=scans, out=out, settle=0.0, precision="float32")
        return lambda: (folder / "done").write_text(" ".join(path.name for path in watch(config, idle=lambda: False)))

    start(folder / "first")()
    expected = {path.name: path.read_bytes() for path in (folder / "first").iterdir()}
    assert sorted(expected) == ["p0.nii.gz", "p1.nii.gz", "watched.json"]
    (folder / "whole").mkdir()
    code, count = outcome(start(folder / "whole"), folder / "whole")
    assert code == 0
    for at in range(count):
        for half in (False, True):
            out = folder / f"{at}-{half}"
            out.mkdir()
            outcome(start(out), out, at=at, half=half)
            recorded = read_json(out / "watched.json")["scans"] if (out / "watched.json").exists() else {}
            assert all((out / f"{name}.nii.gz").read_bytes() == expected[f"{name}.nii.gz"] for name in recorded)
            assert outcome(start(out), out)[0] == 0
            again = {name.removesuffix(".nii.gz") for name in (folder / "done").read_text().split()}
            assert again == {"p0", "p1"} - set(recorded), (at, half)
            assert {path.name: path.read_bytes() for path in out.iterdir()} == expected, (at, half)
            shutil.rmtree(out)
    return count


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_kill_and_a_polite_end_of_the_program(run, scans, tmp_path):
    incoming, out = tmp_path / "incoming", tmp_path / "out"
    incoming.mkdir()
    command = [sys.executable, "-m", "jcl", "predict", str(run), "--watch", str(incoming), "--out", str(out)]
    command += ["--settle", "0.5", "--precision", "float32"]

    def begin() -> subprocess.Popen[str]:
        return subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    shutil.copy(scans / "p0.nii.gz", incoming)
    process = begin()
    _wait(lambda: (out / "p0.nii.gz").exists(), process)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    for name in ("p1.nii.gz", "p2.nii.gz"):
        shutil.copy(scans / name, incoming)
    process = begin()
    _wait(lambda: (out / "watched.json").exists() and len(read_json(out / "watched.json")["scans"]) == 3, process)
    process.send_signal(signal.SIGTERM)
    printed, said = process.communicate(timeout=120)
    assert process.returncode == 0, said
    assert sorted(path.name for path in out.iterdir()) == ["p0.nii.gz", "p1.nii.gz", "p2.nii.gz", "watched.json"]
    assert said.count("segmented: p1") == said.count("segmented: p2") == 1
    assert "segmented: " in printed


def _wait(done, process: subprocess.Popen[str]) -> None:
    end = time.monotonic() + 240
    while not done():
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < end
        time.sleep(0.05)
