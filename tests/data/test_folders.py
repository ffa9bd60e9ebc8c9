"""What names of folders and files say: roles, names in other forms of Unicode, and what a walk passes over."""

import os
import unicodedata
from pathlib import Path

import pytest

from jcl.data.folders import IMAGE, LABEL, folded, label_words, refuse_label_folder, role_of, walk, without_roles
from jcl.data.leftout import LeftOut
from jcl.errors import DataError


@pytest.mark.parametrize(
    ("folders", "kind", "trains"),
    [
        (["images"], IMAGE, True),
        (["Images"], IMAGE, True),
        (["imagesTr", "site 1"], IMAGE, True),
        (["IMAGESTS"], IMAGE, False),
        (["imagesVa"], IMAGE, False),
        (["labelsTs"], LABEL, False),
        (["Labels"], LABEL, True),
        (["site", "masks"], LABEL, True),
        (["Ground Truth"], LABEL, True),
        (["segmentation", "images"], IMAGE, True),
    ],
)
def test_the_innermost_folder_with_a_role_decides(folders: list[str], kind: str, trains: bool) -> None:
    role = role_of(folders)
    assert role is not None
    assert (role.kind, role.trains) == (kind, trains)


def test_other_folders_have_no_role_and_stay_in_names() -> None:
    assert role_of(["anna", "T1"]) is None
    assert without_roles(["seg", "Images", "anna", "labelsTs"]) == ["seg", "anna"]


def test_names_are_compared_in_one_form() -> None:
    """macOS stores the accents of names apart: https://github.com/zed-industries/zed/issues/30503."""
    decomposed = unicodedata.normalize("NFD", "Müller")
    assert decomposed != "Müller"
    assert folded(decomposed) == folded("MÜLLER") == "müller"


@pytest.mark.parametrize(
    ("name", "rest"),
    [
        ("p1_seg", "p1"), ("case 3-label", "case_3"), ("mask", ""), ("mask_07", "07"), ("x.GT", "x"),
        ("unlabel", None), ("labelled_1", None), ("image", None),
    ],
)  # fmt: skip
def test_words_that_mark_labels(name: str, rest: str | None) -> None:
    assert label_words(name) == rest


def test_a_walk_counts_what_is_hidden(tmp_path: Path) -> None:
    """macOS's `._x.nii.gz` made nnU-Net look for cases that are not there: https://github.com/MIC-DKFZ/nnUNet/issues/1601."""
    for name in ("a.nii", "._a.nii", ".git/config"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    left_out = LeftOut()
    assert [path.name for path in walk(tmp_path, left_out)] == ["a.nii"]
    assert left_out.lines(tmp_path) == ["left out: 1 hidden file, 1 hidden folder"]


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may open any folder")
def test_a_folder_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(mode=0o000)
    left_out = LeftOut()
    assert list(walk(tmp_path, left_out)) == []
    assert "closed (cannot be opened" in left_out.lines(tmp_path)[0]


def test_a_folder_of_labels_alone_is_refused(tmp_path: Path) -> None:
    (tmp_path / "labelsTr").mkdir()
    with pytest.raises(DataError, match=r"labelsTr: a folder of labels by its name; give the folder that has the"):
        refuse_label_folder(tmp_path / "labelsTr")
    (tmp_path / "labelsTr" / "images").mkdir()
    refuse_label_folder(tmp_path / "labelsTr")
