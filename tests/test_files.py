"""Disks that take names for one which differ in capitals alone, as those of macOS and Windows do.

Files have been lost to it elsewhere: https://github.com/tensorflow/datasets/issues/8,
https://github.com/lemire/testingRNG/issues/2, https://github.com/lcgamboa/picsim/issues/4.
Here a link makes the folder answer to its name in other capitals.
"""

import errno
from pathlib import Path

import pytest

from jcl.config import PredictConfig
from jcl.errors import DataError
from jcl.files import check_apart, read_error
from jcl.stages.predict import predict
from support.scans import write_volumes


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """A folder on such a disk."""
    folder = tmp_path / "out"
    folder.mkdir()
    (tmp_path / "OUT").symlink_to(folder)
    return folder


def test_names_that_would_be_one_are_refused(out: Path) -> None:
    check_apart(out, ["p1", "p2"])
    with pytest.raises(DataError, match="takes Straße and STRASSE for one name; rename one of them"):
        check_apart(out, ["p1", "Straße", "STRASSE"])


def test_a_disk_that_keeps_them_apart_and_a_folder_without_letters(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "1").mkdir()
    for name in ("out", "1"):
        check_apart(tmp_path / name, ["p1", "P1"])


def test_no_result_takes_the_place_of_another(out: Path, tmp_path: Path) -> None:
    scans = write_volumes(tmp_path / "scans", patients=2, labelled=0) / "images"
    (scans / "p1.nii.gz").rename(scans / "P0.nii.gz")
    run = Path(__file__).parent / "stages" / "runs-0.1" / "finetune"
    with pytest.raises(DataError, match=r"takes P0\.nii\.gz and p0\.nii\.gz for one name"):
        predict(PredictConfig(run=run, source=scans, out=out))
    assert len(predict(PredictConfig(run=run, source=scans, out=tmp_path / "other"))) == 2


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (errno.ENOENT, "cannot be read (no such file); prepare it again"),
        (errno.EIO, "cannot be read (the disk or network reports an error); prepare it again"),
        (errno.EACCES, "cannot be read (permission denied); change its permissions"),
    ],
)
def test_the_repair_is_named_where_a_file_is_lost(number: int, said: str):
    error = OSError(number, "what the system says")
    assert str(read_error(Path("cases"), error, "prepare it again")) == f"cases: {said}"


def test_without_a_repair_the_name_is_to_be_checked():
    error = OSError(errno.ENOENT, "No such file or directory")
    assert str(read_error(Path("cases"), error)) == "cases: cannot be read (no such file); check its name"
