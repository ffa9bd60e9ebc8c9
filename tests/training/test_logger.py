"""The log of a training: means over ten steps, and the same lines after a resume."""

import json

import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from jcl.training.logger import RunLog


def lines(path):
    return [json.loads(line) for line in (path / "log.jsonl").read_text().splitlines()]


def fill(log: RunLog, first: int, last: int) -> None:
    for step in range(first, last):
        log.add({"loss": torch.tensor(float(step)), "learning_rate": 0.5})


def test_means_of_ten_steps_and_the_rest(tmp_path):
    with RunLog(tmp_path, "train", steps=25, start=0, batch_size=4) as log:
        fill(log, 0, 25)
    found = lines(tmp_path)
    assert [entry["step"] for entry in found] == [10, 20, 25]
    assert [entry["loss"] for entry in found] == [4.5, 14.5, 22.0]
    assert all(entry["learning_rate"] == 0.5 and entry["slices_per_second"] > 0 for entry in found)


def test_a_loss_that_begins_or_ends_in_the_middle_of_ten_steps(tmp_path):
    """As where the first half of a training, of 5 steps, has other losses than the second."""
    with RunLog(tmp_path, "train", steps=10, start=0, batch_size=4) as log:
        for step in range(10):
            phase = {"first": torch.tensor(step)} if step < 5 else {"second": torch.tensor(step)}
            log.add({"loss": torch.tensor(float(step)), **phase})
    (entry,) = lines(tmp_path)
    assert (entry["loss"], entry["first"], entry["second"]) == (4.5, 2.0, 7.0)


def test_resume_drops_what_will_be_logged_again_and_a_cut_line(tmp_path):
    with RunLog(tmp_path, "train", steps=40, start=0, batch_size=4) as log:
        fill(log, 0, 30)
    with (tmp_path / "log.jsonl").open("a") as file:
        file.write('{"step": 40, "lo')
    with RunLog(tmp_path, "train", steps=40, start=20, batch_size=4) as log:
        fill(log, 20, 40)
    assert [entry["step"] for entry in lines(tmp_path)] == [10, 20, 30, 40]


def test_a_value_that_is_no_number_is_null(tmp_path):
    with RunLog(tmp_path, "train", steps=1, start=0, batch_size=1) as log:
        means = log.add({"loss": torch.tensor(float("nan"))})
    assert means is not None
    assert lines(tmp_path)[0]["loss"] is None


def test_tensorboard_has_every_value(tmp_path):
    with RunLog(tmp_path, "train", steps=10, start=0, batch_size=1) as log:
        fill(log, 0, 10)
    board = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert set(board.Tags()["scalars"]) == {"loss", "learning_rate", "slices_per_second"}
    assert board.Scalars("loss")[0].value == 4.5


def test_pictures_of_the_views(tmp_path):
    with RunLog(tmp_path, "train", steps=1, start=0, batch_size=1) as log:
        log.pictures("views/0", torch.rand(1, 2, 8, 10))
    board = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert board.Tags()["images"] == ["views/0"]
    assert (board.Images("views/0")[0].width, board.Images("views/0")[0].height) == (10, 8)


def test_plain_progress_where_there_is_no_terminal(tmp_path, capsys):
    with RunLog(tmp_path, "train", steps=10, start=0, batch_size=1) as log:
        fill(log, 0, 10)
    assert "train: step 10/10, loss 4.500" in capsys.readouterr().err
