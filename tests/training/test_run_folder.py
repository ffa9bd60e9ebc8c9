"""What a run folder records, where several processes have to agree on it."""

from pathlib import Path

import pytest

from jcl.errors import UsageError
from jcl.training.run_folder import start_run
from support.groups import in_two_processes


def test_processes_that_are_given_other_data_do_not_begin(tmp_path: Path):
    """As on two machines, of which one has another store or command; where each has it does not matter."""
    in_two_processes(begin, tmp_path)
    assert (tmp_path / "same" / "run.json").is_file()
    for name in ("store", "rate"):
        assert not (tmp_path / name).exists()
        assert {(tmp_path / f"{name}-{number}.txt").read_text() for number in range(2)} == {"refused"}


def begin(number: int, folder: Path) -> None:
    def info(digest: str, rate: float) -> dict[str, object]:
        settings = {"store": f"/disk{number}/store", "learning_rate": rate, "workers": number}
        return {"settings": settings, "store": f"/disk{number}/store", "store_digest": digest, "init": {"run": None}}

    start_run(folder / "same", info("a", 0.1))
    for name, content in {"store": info("ab"[number], 0.1), "rate": info("a", 0.1 + number)}.items():
        with pytest.raises(UsageError, match="do not have the same data and settings"):
            start_run(folder / name, content)
        (folder / f"{name}-{number}.txt").write_text("refused")
