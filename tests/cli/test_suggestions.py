"""`jcl suggest` from the command line, on generated patients: from no label to the second round."""

import csv
import json
from pathlib import Path

import pytest

from jcl.cli import main as cli
from jcl.data.phantom import write_dataset
from jcl.data.splits import read_split
from support.shared import made_once

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten patients, four of them with labels; a pre-training and a fine-tuning of a step or two."""

    def make(out: Path) -> None:
        write_dataset(out / "volumes", labelled=range(4), unlabelled=range(4, 10), size=32, slices=6)
        for line in (
            "prepare {0}/volumes --out {0}/store --workers 1",
            "pretrain {0}/store --out {0}/pre --fold 0 --folds 4 --width 4 --steps 2 --batch-size 4",
            "finetune {0}/store --init {0}/pre --out {0}/fine --patients 2 --steps 2",
        ):
            assert cli.main([word.format(out) for word in line.split()]) == 0

    return made_once(tmp_path_factory, "suggest-phantom", make)


def run(folder: Path, *words: str) -> int:
    return cli.main(["suggest", str(folder / "store"), *words])


def test_a_cold_start(folder: Path, capsys: pytest.CaptureFixture):
    assert run(folder, "--run", str(folder / "pre"), "-n", "3") == 0
    said = capsys.readouterr().out
    assert "To label next: 3 of 6 patients" in said
    assert "6 candidates; not among them: 1 held back by the run's split, 3 with labels" in said
    assert "doubt" not in said
    assert "--source FOLDER" in said
    assert "jcl prepare --sparse" in said


def test_a_fine_tuning_as_json(folder: Path, capsys: pytest.CaptureFixture):
    words = ("--run", str(folder / "fine"), "-n", "2", "--slices", "2", "--source", str(folder / "volumes"), "--json")
    assert run(folder, *words) == 0
    found = json.loads(capsys.readouterr().out)
    split = read_split(folder / "fine" / "split.json")
    assert (found["trained"], found["held_back"]) == (2, len(split.test))
    for each in found["suggestions"]:
        assert each["patient"] not in {*split.train, *split.test}
        assert 0 <= each["doubt"] <= 1
        assert [len(case["chosen"]) for case in each["cases"]] == [2]
        for case in each["cases"]:
            for one in case["chosen"]:
                assert (folder / "volumes" / one["origin"]["file"]).is_file()
                assert 0 <= one["origin"]["index"] < case["slices"]


def test_the_files(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture):
    words = ("--run", str(folder / "pre"), "-n", "2", "--out", str(tmp_path / "s.csv"))
    assert run(folder, *words, "--overview", str(tmp_path / "s.png"), "--source", str(folder / "volumes")) == 0
    said = capsys.readouterr().out
    with (tmp_path / "s.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 6
    assert {row["rank"] for row in rows} == {"1", "2"}
    for row in rows:
        assert row["patient"] in said
        assert row["index"] in said
    assert (tmp_path / "s.png").read_bytes().startswith(b"\x89PNG")


def test_the_second_round_in_the_store_with_the_new_labels(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture):
    """Who was labelled is not asked for again, though the store is another now; who is tested still is not."""
    assert run(folder, "--run", str(folder / "fine"), "-n", "1", "--json") == 0
    first = json.loads(capsys.readouterr().out)["suggestions"][0]["patient"]
    number = int(first.rpartition("_")[2])
    labelled = [*range(4), number]
    unlabelled = [other for other in range(4, 10) if other != number]
    write_dataset(tmp_path / "volumes", labelled=labelled, unlabelled=unlabelled, size=32, slices=6)
    assert cli.main(["prepare", str(tmp_path / "volumes"), "--out", str(tmp_path / "store"), "--workers", "1"]) == 0
    capsys.readouterr()
    words = ["suggest", str(tmp_path / "store"), "--run", str(folder / "fine"), "--json"]
    assert cli.main([*words, "-n", "5"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert sorted(each["patient"] for each in found["suggestions"]) == [f"phantom_{n:03d}" for n in unlabelled]
    assert cli.main([*words, "-n", "6", "--among", "all"]) == 0
    found = json.loads(capsys.readouterr().out)
    split = read_split(folder / "fine" / "split.json")
    assert not {each["patient"] for each in found["suggestions"]} & {*split.train, *split.test}


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["--run", "{0}/pre", "-n", "7"], 2, "7 patients asked for; of its 10 patients 6 may be suggested"),
        (["--run", "{0}/nothing"], 3, "nothing: no such folder; check its name"),
        (["--run", "{0}/pre", "{0}/fine"], 2, "pre: a pre-training, which is given alone"),
        (["--run", "{0}/pre", "--out", "x.txt"], 2, "--out x.txt: give a file whose name ends with .csv or .json"),
        (["--run", "{0}/pre", "-n", "two"], 2, "argument -n/--patients: invalid int value: 'two'"),
        (["-n", "2"], 2, "missing: run (usage: jcl suggest STORE --run RUN [options])"),
    ],
)
def test_mistakes_are_one_line(folder: Path, words: list[str], code: int, message: str, capsys: pytest.CaptureFixture):
    assert run(folder, *(word.format(folder) for word in words)) == code
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1
    assert message in said[0]
