"""What is said of a case while it is prepared stays with it, and is said again."""

import json
from pathlib import Path

import numpy as np
import pytest

from jcl.checks.store_checks import check_folder, inspect_manifest
from jcl.config import PrepareConfig
from jcl.data.store import Store
from jcl.errors import DataError
from jcl.stages.prepare import prepare
from support.niftifiles import save_placed

AFFINE = np.diag([-1.5, -1.5, 5.0, 1])
SCAN = np.random.default_rng(0).integers(0, 200, (20, 18, 4)).astype(np.int16)
MASK = (SCAN > 150).astype(np.uint8)
MOVED = AFFINE + np.outer([1, 1, 1, 0], [0, 0, 0, 9])
SAID = "its sform and its qform lie 6 voxels apart; the sform was taken, as by FSL, FreeSurfer and nibabel"


def scans(folder: Path) -> Path:
    """One scan whose forms agree, and one of which neither the scan's nor the label's do."""
    for name, qform in (("plain", AFFINE), ("two", MOVED)):
        for kind, array in (("images", SCAN), ("labels", MASK)):
            save_placed(folder / kind / f"{name}.nii", array, sform=AFFINE, qform=qform)
    return folder


@pytest.mark.parametrize("workers", [1, 2])
def test_which_statement_was_taken_is_said_and_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], workers: int
) -> None:
    source = scans(tmp_path / "scans")
    for _ in range(2):  # the second time all is there
        store = prepare(PrepareConfig(source=source, out=tmp_path / "store", workers=workers))
        said = capsys.readouterr().err
        lines = [f"images/two.nii: {SAID}", f"labels/two.nii: {SAID}"]
        assert said.splitlines()[-2:] == [f"note: {line}" for line in lines]
    plain, two = store.cases
    assert (plain.notes, two.notes) == ((), tuple(lines))
    assert [finding.text for finding in inspect_manifest(store) if finding.kind == "read"] == lines
    assert not [finding for record in store.cases for finding in check_folder(store, record)]
    assert Store.open(tmp_path / "store").cases == store.cases


def test_a_case_with_nothing_to_say_has_the_record_that_it_always_had(tmp_path: Path) -> None:
    prepare(PrepareConfig(source=scans(tmp_path / "scans"), out=tmp_path / "store", workers=1))
    record = json.loads((tmp_path / "store" / "cases" / "plain" / "case.json").read_text())
    assert "notes" not in record


@pytest.mark.parametrize(("value", "kind"), [(-1, np.int16), (200, np.int8), (4294967295, np.uint32)])
def test_label_values_that_are_none_are_refused_before_they_are_classes(tmp_path: Path, value: int, kind: type) -> None:
    """200 in 8 bits with a sign is -56, which became the class "-56" and was written as 200, and 4294967295 as -1."""
    save_placed(tmp_path / "in" / "images" / "a.nii", SCAN, sform=AFFINE)
    label = np.where(MASK > 0, value, 0).astype(np.int64).astype(kind)
    save_placed(tmp_path / "in" / "labels" / "a.nii", label, sform=AFFINE)
    with pytest.raises(
        DataError, match=r"none of the 1 cases can be used; the first: labels/a\.nii: its label values go"
    ):
        prepare(PrepareConfig(source=tmp_path / "in", out=tmp_path / "store", workers=1))


@pytest.mark.parametrize("value", [-1, 0, 2**31])
def test_label_values_that_are_none_cannot_be_named(tmp_path: Path, value: int) -> None:
    from jcl.data.datasets import load_spec
    from jcl.errors import UsageError

    (tmp_path / "set.toml").write_text(f'[labels]\n{value} = "liver"\n')
    with pytest.raises(UsageError, match=r"set\.toml: labels: "):
        load_spec(tmp_path / "set.toml")
