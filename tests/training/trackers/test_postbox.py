"""A tracker that is slow or fails holds nothing up."""

import threading
import time

import numpy as np
import pytest

from jcl.training.logger import RunLog
from jcl.training.trackers import postbox
from jcl.training.trackers.postbox import Postbox


class Kept:
    def __init__(self, before=lambda: None) -> None:
        self.got, self.before = [], before

    def scalars(self, values, step) -> None:
        self.before()
        self.got.append((dict(values), step))

    def picture(self, name, image, step) -> None:
        self.got.append((name, image.shape, step))

    def close(self, outcome) -> None:
        self.got.append(outcome)


def test_all_arrives_in_order():
    kept = Kept()
    box = Postbox(kept)
    for step in range(50):
        box.scalars({"loss": 1.0}, step)
    box.picture("views", np.zeros((2, 3, 3), np.uint8), 50)
    box.close("finished")
    assert kept.got == [*[({"loss": 1.0}, n) for n in range(50)], ("views", (2, 3, 3), 50), "finished"]
    assert box.trouble is None


def test_one_that_hangs_is_not_waited_for(monkeypatch):
    monkeypatch.setattr(postbox, "LAST_SECONDS", 0.1)
    ever = threading.Event()
    box = Postbox(Kept(ever.wait))
    begun = time.monotonic()
    for step in range(10 * postbox.MOST):
        box.scalars({"loss": 1.0}, step)
    box.close("finished")
    assert time.monotonic() - begun < 60
    assert box.trouble == "it does not keep up"
    ever.set()


def test_one_that_fails_is_told_of_once_and_gets_what_follows(tmp_path, capsys):
    times = iter(range(100))

    def fail() -> None:
        if next(times) < 2:
            raise ConnectionError("nobody\nis there")

    kept = Kept(fail)
    box = Postbox(kept)
    with RunLog(tmp_path, "train", steps=40, start=0, batch_size=1, trackers={"theirs": box}) as log:
        for _ in range(40):
            log.add({"loss": 1.0})
    said = [line for line in capsys.readouterr().err.splitlines() if "warning" in line]
    assert said == [
        f"warning: {tmp_path}: theirs does not get all of it from here on (nobody is there); log.jsonl has it, and the "
        "training goes on"
    ]
    assert [entry[1] for entry in kept.got[:-1]] == [30, 40]
    assert kept.got[-1] == "finished"
    assert len((tmp_path / "log.jsonl").read_text().splitlines()) == 4


@pytest.mark.parametrize(("error", "outcome"), [(KeyboardInterrupt, "interrupted"), (ValueError, "failed")])
def test_how_it_ended(tmp_path, error, outcome):
    kept = Kept()
    with pytest.raises(error), RunLog(tmp_path, "t", steps=1, start=0, batch_size=1, trackers={"k": Postbox(kept)}):
        raise error
    assert kept.got == [outcome]
