"""`run.log` has what the report of a fault needs, and no path, name or voxel."""

import contextlib
import warnings
from pathlib import Path

import pytest

from jcl.config import FinetuneConfig
from jcl.errors import DataError
from jcl.training.run_record import RECORD, recorded


def config_in(folder: Path) -> FinetuneConfig:
    return FinetuneConfig(store=folder / "Miller_Anna", init="Miller_Anna", out=folder, steps=3)


@contextlib.contextmanager
def attempt(folder: Path):
    """A training that warns and ends by an error nobody foresaw."""
    with recorded(config_in(folder)):
        warnings.showwarning(UserWarning("odd"), UserWarning, "file.py", 3)
        yield


def test_what_a_report_needs_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(warnings, "showwarning", lambda *_: None)
    (tmp_path / "run.json").touch()
    with pytest.raises(ValueError, match="4, 5"), attempt(tmp_path):
        raise ValueError(f"shapes 4, 5 of 'Miller_Anna' in {tmp_path}/Miller_Anna/scan.nii")
    said = (tmp_path / RECORD).read_text()
    for word in ("jcl 0", "Python 3", "torch 2", "machine: ", "steps=3", "warning: UserWarning: odd", "shapes 4, 5"):
        assert word in said, word
    assert "test_run_record.py:" in said
    assert "Miller" not in said
    assert str(tmp_path) not in said


def test_a_foreseen_error_is_its_kind_and_place_alone(tmp_path: Path):
    (tmp_path / "run.json").touch()
    with pytest.raises(DataError), recorded(config_in(tmp_path)):
        raise DataError("patient Miller is odd")
    said = (tmp_path / RECORD).read_text()
    assert "ended: DataError at test_run_record.py:" in said
    assert "Miller" not in said


def test_no_run_no_record_and_each_attempt_is_added(tmp_path: Path):
    with recorded(config_in(tmp_path)):
        pass
    assert not [*tmp_path.iterdir()]
    (tmp_path / "run.json").touch()
    for _ in range(2):
        with recorded(config_in(tmp_path)):
            pass
    assert (tmp_path / RECORD).read_text().count("ended: finished") == 2
