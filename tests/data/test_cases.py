"""Cases found in folders laid out as data sets are distributed, and whose each is."""

import json
import os
from pathlib import Path

import pytest

from jcl.data.cases import find_cases
from jcl.data.datasets import DatasetSpec, load_spec, resolve
from jcl.errors import DataError, UsageError
from support.setfolders import lay_out, write_msd


def shown(source: Path, spec: DatasetSpec, patient: str | None = None) -> list[tuple[str, str, list[str], str | None]]:
    def below(path: Path) -> str:
        return path.relative_to(source).as_posix()

    return [
        (found.case, found.patient, [below(path) for path in found.images], below(found.label) if found.label else None)
        for found in find_cases(source, spec, patient)
    ]


@pytest.mark.parametrize(
    ("name", "files", "expected"),
    [
        (
            "chd",
            ["ct_1001_image.nii.gz", "ct_1001_label.nii.gz", "ct_1128_image.nii.gz", "notes_image.nii.gz"],
            [
                ("ct_1001", "ct_1001", ["ct_1001_image.nii.gz"], "ct_1001_label.nii.gz"),
                ("ct_1128", "ct_1128", ["ct_1128_image.nii.gz"], None),
            ],
        ),
        (
            "mmwhs",
            [
                "ct_train/ct_train_1001_image.nii.gz", "ct_train/ct_train_1001_label.nii.gz",
                "mr_train_1001_image.nii.gz",
            ],
            [
                (
                    "ct_train_1001", "ct_train_1001",
                    ["ct_train/ct_train_1001_image.nii.gz"], "ct_train/ct_train_1001_label.nii.gz",
                ),
                ("mr_train_1001", "mr_train_1001", ["mr_train_1001_image.nii.gz"], None),
            ],
        ),
        (
            "mmwhs_mr",
            ["ct_train_1001_image.nii.gz", "mr_train_1002_image.nii.gz"],
            [("mr_train_1002", "mr_train_1002", ["mr_train_1002_image.nii.gz"], None)],
        ),
        (
            "hvsmr",
            [
                "training_axial_full_pat0.nii.gz", "training_axial_full_pat0-label.nii.gz",
                "training_sa_crop_pat0.nii.gz",
            ],
            [
                (
                    "training_axial_full_pat0", "pat0",
                    ["training_axial_full_pat0.nii.gz"], "training_axial_full_pat0-label.nii.gz",
                ),
                ("training_sa_crop_pat0", "pat0", ["training_sa_crop_pat0.nii.gz"], None),
            ],
        ),
        (
            "acdc",
            [
                "patient001/patient001_4d.nii.gz", "patient001/patient001_frame01.nii.gz",
                "patient001/patient001_frame01_gt.nii.gz", "patient001/patient001_frame12.nii.gz",
            ],
            [
                (
                    "patient001_frame01", "patient001",
                    ["patient001/patient001_frame01.nii.gz"], "patient001/patient001_frame01_gt.nii.gz",
                ),
                ("patient001_frame12", "patient001", ["patient001/patient001_frame12.nii.gz"], None),
            ],
        ),
        (
            "brats2018",
            [f"HGG/B_1/B_1_{part}.nii.gz" for part in ("flair", "seg", "t1", "t1ce", "t2")],
            [
                (
                    "B_1", "B_1",
                    [f"HGG/B_1/B_1_{part}.nii.gz" for part in ("t1", "t1ce", "t2", "flair")], "HGG/B_1/B_1_seg.nii.gz",
                ),
            ],
        ),
        (
            "kits2019",
            ["case_00000/imaging.nii.gz", "case_00000/segmentation.nii.gz", "case_00210/imaging.nii.gz"],
            [
                ("case_00000", "case_00000", ["case_00000/imaging.nii.gz"], "case_00000/segmentation.nii.gz"),
                ("case_00210", "case_00210", ["case_00210/imaging.nii.gz"], None),
            ],
        ),
    ],
)  # fmt: skip
def test_cases_of_a_layout(tmp_path: Path, name: str, files: list[str], expected: list[object]) -> None:
    assert shown(lay_out(tmp_path, *files), load_spec(name)) == expected


def test_brats_has_four_channels_and_a_missing_one_is_named(tmp_path: Path) -> None:
    assert load_spec("brats2018").channels == 4
    lay_out(tmp_path, *(f"B/B_{part}.nii.gz" for part in ("t1", "t1ce", "flair")))
    with pytest.raises(DataError, match=r"case B has no file that matches .*_t2"):
        find_cases(tmp_path, load_spec("brats2018"))


@pytest.mark.parametrize(
    "files",
    [
        ["images/a.nii.gz", "images/b.nrrd", "labels/a.nii.gz"],
        ["a.nii.gz", "b.nrrd", "labels/a.nii.gz"],
        ["imagesTr/a.nii.gz", "imagesTr/b.nrrd", "labelsTr/a.nii.gz"],
        ["images/a.nii.gz", "images/b.nrrd", "images/._a.nii.gz", "labels/a.mha", "preview/a.png", "images/b.txt"],
    ],
)
def test_a_folder_of_images_and_labels(tmp_path: Path, files: list[str]) -> None:
    found = shown(lay_out(tmp_path, *files), load_spec("folder"))
    assert [(case, label is not None) for case, _, _, label in found] == [("a", True), ("b", False)]


def test_folders_in_folders(tmp_path: Path) -> None:
    lay_out(tmp_path, "images/site 1/a.nii", "labels/site 1/a.nii", "images/site 2/a.nii")
    lay_out(tmp_path, "site 3/images/a.nii", "site 3/labels/a.nii")
    found = shown(tmp_path, load_spec("auto"))
    assert [(case, label) for case, _, _, label in found] == [
        ("site 1_a", "labels/site 1/a.nii"), ("site 2_a", None), ("site 3_a", "site 3/labels/a.nii"),
    ]  # fmt: skip


def test_links_to_folders_are_followed_but_not_in_circles(tmp_path: Path) -> None:
    lay_out(tmp_path / "disk", "a.nii")
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "images").symlink_to(tmp_path / "disk")
    (tmp_path / "disk" / "again").symlink_to(tmp_path / "disk")
    assert [found.case for found in find_cases(tmp_path / "source", load_spec("folder"))] == ["a"]


def test_the_order_is_that_of_the_names(tmp_path: Path) -> None:
    lay_out(tmp_path, "10.nii", "2.nii", "1.nii", "ä.nii", "Z.nii")
    assert [found.case for found in find_cases(tmp_path, load_spec("folder"))] == ["1", "10", "2", "Z", "ä"]


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ([], r"no image found \(\.nii\.gz, "),
        (["labels/a.nii.gz"], "no image found"),
        (["images/a.nii.gz", "labels/b.nii.gz"], r"labels/b\.nii\.gz: this label has no image"),
        (["images/a.nii.gz", "images/b.mgz", "labels/b.nii.gz"], r"left out: images/b\.mgz \(not readable: FreeSurfer"),
        (["images/a.nii.gz", "images/a.mha"], r"the case name a occurs twice"),
        (["a_b.nii", "a/b.nii"], "the case name a_b occurs twice"),
        (["a.nii", "A.nii"], "differs from A in upper and lower case only"),
        (["images/.nii"], "no image found"),
    ],
)
def test_folders_that_cannot_be_used(tmp_path: Path, files: list[str], words: str) -> None:
    with pytest.raises(DataError, match=words) as caught:
        find_cases(lay_out(tmp_path, *files), load_spec("folder"))
    assert "\n" not in str(caught.value)


def test_patients_by_names_of_bids(tmp_path: Path) -> None:
    """Two sessions of a subject are one patient's, whom no fold may part."""
    lay_out(
        tmp_path, "sub-01/ses-1/anat/sub-01_ses-1_T1w.nii", "sub-01/ses-2/anat/sub-01_ses-2_T1w.nii",
        "sub-02/anat/sub-02_T1w.nii", "sub-lime.nii", "subject-1.nii", "x-sub-01.nii", "sub-01b_T1w.nii",
    )  # fmt: skip
    spec = load_spec("folder")
    patients = [patient for _, patient, _, _ in shown(tmp_path, spec)]
    assert patients == ["sub-01", "sub-01", "sub-01b", "sub-02", "sub-lime", "subject-1", "x-sub-01"]
    by_case = shown(tmp_path, spec, "(.*)")
    assert [patient for _, patient, _, _ in by_case] == [case for case, _, _, _ in by_case]


def test_patients_by_expression(tmp_path: Path) -> None:
    lay_out(tmp_path, "p1_v1.nii", "p1_v2.nii", "p2_v1.nii")
    spec = load_spec("folder")
    assert [patient for _, patient, _, _ in shown(tmp_path, spec, r"^(p\d)")] == ["p1", "p1", "p2"]
    bad = {"^p": "has no group", "(x)": "finds no patient in the case name 'p1_v1'", "(": "not a regular expression"}
    for regex, words in bad.items():
        with pytest.raises(UsageError, match=words):
            find_cases(tmp_path, spec, regex)
    with pytest.raises(UsageError, match=r"unterminated|missing"):
        resolve(spec, tmp_path, patient="(")


def test_nnunet_channels_are_files(tmp_path: Path) -> None:
    lay_out(tmp_path, *(f"imagesTr/{case}_000{channel}.nii.gz" for case in "ab" for channel in (1, 0)))
    lay_out(tmp_path, "labelsTr/a.nii.gz")
    content = {"channel_names": {"0": "T1", "1": "T2"}, "labels": {"background": 0}}
    (tmp_path / "dataset.json").write_text(json.dumps(content))
    spec = resolve(load_spec("auto"), tmp_path)
    assert spec.channels == 2
    assert shown(tmp_path, spec) == [
        ("a", "a", ["imagesTr/a_0000.nii.gz", "imagesTr/a_0001.nii.gz"], "labelsTr/a.nii.gz"),
        ("b", "b", ["imagesTr/b_0000.nii.gz", "imagesTr/b_0001.nii.gz"], None),
    ]


def test_a_case_that_only_dataset_json_names_is_kept_to_be_told_of(tmp_path: Path) -> None:
    entry = {"image": "./imagesTr/c_3.nii.gz", "label": "./labelsTr/c_3.nii.gz"}
    write_msd(tmp_path, labels={}, training=[entry, "x", 3])
    assert "c_3" in [found.case for found in find_cases(tmp_path, load_spec("msd"))]


@pytest.mark.parametrize("name", ["../secret.nii.gz", "/etc/secret.nii.gz", "imagesTr/../../secret.nii.gz"])
def test_dataset_json_cannot_name_files_elsewhere(tmp_path: Path, name: str) -> None:
    write_msd(tmp_path, labels={}, training=[{"image": name}])
    with pytest.raises(DataError, match="outside of the folder"):
        find_cases(tmp_path, load_spec("msd"))


@pytest.mark.skipif(os.name != "posix" or os.uname().sysname != "Linux", reason="needs names of any bytes")
def test_names_in_any_bytes(tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"caf\xe9 \xe6.nii")).touch()
    lay_out(tmp_path, "患者 1.nii", "μ=0.nii")
    assert len(find_cases(tmp_path, load_spec("folder"))) == 3
