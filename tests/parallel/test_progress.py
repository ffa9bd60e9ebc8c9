"""Progress: lines now and then without a terminal, a bar on one; what the whole will cost, once it is measured."""

import time
from pathlib import Path

import pytest

from jcl.parallel import progress
from jcl.parallel.progress import Cost, Outlay, ProgressBar, at_work


@pytest.fixture
def clock(monkeypatch):
    """Seconds that pass only when the test says so."""
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def outlay(folder: Path, disk: float = 2e6) -> Outlay:
    """Of a work that takes 1.5 GB of memory, and leaves so many bytes in the end."""
    return Outlay("scans", folder, lambda share, seconds: disk, lambda: 1_500_000_000)


def test_a_line_after_ten_seconds_and_then_now_and_then_with_the_time_left(clock, capsys):
    with ProgressBar("read", total=10, done=2, count="file {done}/{total}") as bar:
        for number in range(8):
            clock[0] += 20.0
            bar.advance(f"scan{number}" if number < 3 else "")
    assert capsys.readouterr().err.splitlines() == [
        "read: file 3/10, scan0, 2 min left",
        "read: file 5/10, scan2, 2 min left",
        "read: file 7/10, scan2, 60 s left",
        "read: file 9/10, scan2, 20 s left",
    ]


@pytest.mark.parametrize("end", [False, True])
def test_the_end_of_short_work_is_said_where_that_is_wanted(capsys, end):
    with ProgressBar("read", total=2, estimate=False, end=end) as bar:
        bar.advance()
        bar.advance("last")
    assert capsys.readouterr().err == ("read: 2 of 2, last\n" if end else "")


def test_a_bar_on_a_terminal(monkeypatch, capsys, clock):
    monkeypatch.setattr(progress.sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    with ProgressBar("read", total=3) as bar:
        clock[0] += 7.0
        bar.advance("scan0")
        bar.say("scan1 is [broken]")
        bar.bar.refresh()
        bar.update(3, "scan2")
    told = capsys.readouterr().err
    assert "scan1 is [broken]" in told
    assert "left 14 s" in told
    assert "3/3" in told
    assert "scan2" in told


def test_long_work_is_announced_once_with_what_it_will_cost(clock, capsys, tmp_path):
    with ProgressBar("read", total=100, done=10, outlay=outlay(tmp_path)) as bar:
        for _ in range(4):
            clock[0] += 2.0
            bar.advance()
    assert capsys.readouterr().err.splitlines() == [
        "read: expected for 90 scans: about 3 min, 1.5 GB of memory, 2 MB on the disk"
    ]
    assert bar.cost == Cost(seconds=200.0, memory=1_500_000_000, disk=2_000_000)


def test_short_work_is_not_announced(clock, capsys, tmp_path):
    with ProgressBar("read", total=20, outlay=outlay(tmp_path)) as bar:
        for _ in range(3):
            clock[0] += 2.5
            bar.advance()
    assert capsys.readouterr().err == ""
    assert bar.cost is not None
    assert bar.cost.seconds == 50.0


def test_what_does_not_fit_the_disk_is_said_before(clock, capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(progress, "free_disk", lambda folder: 10_000_000)
    with ProgressBar("read", total=100, outlay=outlay(tmp_path, disk=3e9)) as bar:
        clock[0] += 6.0
        bar.advance()
    assert "3.0 GB on the disk (10 MB are free: make room)" in capsys.readouterr().err


def test_the_first_step_says_nothing_of_the_speed_of_the_others(clock, capsys, tmp_path):
    with ProgressBar("train", total=101, warm=1, outlay=outlay(tmp_path)) as bar:
        clock[0] += 60.0
        bar.advance()
        assert bar.cost is None
        for _ in range(6):
            clock[0] += 1.0
            bar.advance()
    assert "about 1" not in capsys.readouterr().err.replace("about 100 s", "")
    assert bar.cost is not None
    assert bar.cost.seconds == 101.0


def test_a_single_one_is_measured_though_it_is_the_first(clock, tmp_path):
    with ProgressBar("train", total=1, warm=1, outlay=outlay(tmp_path)) as bar:
        clock[0] += 60.0
        bar.advance()
    assert bar.cost is not None


def test_large_ones_count_for_more_and_a_part_of_one_counts(clock, capsys):
    """Of 10 + 30: after the small one and a third of the large, half is done."""
    with ProgressBar("predict", total=2, work=40) as bar:
        clock[0] += 5.0
        bar.advance("small", 10)
        clock[0] += 15.0
        bar.within(1 / 3, "large", 30)
    assert capsys.readouterr().err == "predict: 1 of 2 and 33 % of the next, large, 20 s left\n"


def test_work_of_unknown_length_is_said_to_go_on(monkeypatch, capsys):
    monkeypatch.setattr(progress, "FIRST_SECONDS", 0.01)
    with at_work("look"):
        time.sleep(0.1)
    assert capsys.readouterr().err == "look: at work for 0 s\n"
    monkeypatch.undo()
    with at_work("look"):
        pass
    assert capsys.readouterr().err == ""
