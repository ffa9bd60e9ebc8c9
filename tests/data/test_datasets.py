"""Specs of data sets, and their cases found in folders laid out as they are distributed."""

import json
import os
from pathlib import Path

import pytest

from jcl.data.datasets import CaseSource, DatasetSpec, find_cases, load_spec, parse_labels, resolve, spec_names
from jcl.errors import DataError, UsageError

TABLE = {  # name: in-plane mm, size, label values in order
    "chd": (1.0, 512, [1, 2, 3, 4, 5, 6, 7]),
    "mmwhs": (1.0, 256, [500, 600, 420, 550, 205, 820, 850]),
    "mmwhs_ct": (1.0, 256, [500, 600, 420, 550, 205, 820, 850]),
    "mmwhs_mr": (1.0, 256, [500, 600, 420, 550, 205, 820, 850]),
    "hvsmr": (0.7, 352, [1, 2]),
    "acdc": (1.0, 352, [1, 2, 3]),
    "brats2018": (1.0, 192, [1, 2, 4]),
    "kits2019": (1.0, 512, [1, 2]),
    "chaos": (1.0, 256, [63, 126, 189, 252]),
    "isic2018": (None, 256, [255, 1]),
    "msd_heart": (None, 320, []),
    "msd_hippocampus": (None, 32, []),
    "msd_spleen": (None, 512, []),
    "msd": (None, None, []),
    "folder": (None, None, []),
    "auto": (None, None, []),
}


def lay_out(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def shown(source: Path, spec: DatasetSpec, patient: str | None = None) -> list[tuple[str, str, list[str], str | None]]:
    def below(path: Path) -> str:
        return path.relative_to(source).as_posix()

    return [
        (found.case, found.patient, [below(path) for path in found.images], below(found.label) if found.label else None)
        for found in find_cases(source, spec, patient)
    ]


def test_every_spec_is_in_the_table_and_says_where_to_get_the_data() -> None:
    assert set(spec_names()) == set(TABLE)
    for name, (spacing, size, values) in TABLE.items():
        spec = load_spec(name)
        assert (spec.name, spec.spacing, spec.size, list(spec.labels)) == (name, spacing, size, values)
        assert spec.clip == (1.0, 99.0)
        if name not in ("folder", "auto"):
            assert spec.source_url.startswith("http")
        if name not in ("folder", "auto", "msd"):
            assert spec.title
            assert spec.modality
            assert spec.licence


def test_other_values_are_background_only_where_the_data_set_says_so() -> None:
    other = {name for name in spec_names() if load_spec(name).other_labels == "background"}
    assert other == {"chd", "mmwhs", "mmwhs_ct", "mmwhs_mr"}


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


def write_msd(folder: Path, **content: object) -> Path:
    lay_out(folder, "imagesTr/a_1.nii.gz", "imagesTr/b_2.nii.gz", "labelsTr/a_1.nii.gz", "imagesTr/._a_1.nii.gz")
    (folder / "dataset.json").write_text(json.dumps(content))
    return folder


@pytest.mark.parametrize(
    "labels", [{"0": "background", "2": "spleen", "1": "liver"}, {"background": 0, "spleen": 2, "liver": 1}]
)
def test_msd_labels_in_both_orders(tmp_path: Path, labels: dict[str, object]) -> None:
    write_msd(tmp_path, labels=labels, modality={"0": "T1", "1": "T2"}, name="Both", licence="CC0")
    spec = resolve(load_spec("auto"), tmp_path)
    assert (spec.name, spec.title, spec.modality, spec.licence, spec.channels) == ("msd", "Both", "T1, T2", "CC0", 2)
    assert list(spec.labels.items()) == [(1, "liver"), (2, "spleen")]
    assert [(case, label is not None) for case, _, _, label in shown(tmp_path, spec)] == [("a_1", True), ("b_2", False)]


def test_msd_presets_keep_their_size(tmp_path: Path) -> None:
    write_msd(tmp_path, labels={"0": "background", "1": "x"}, modality={"0": "MRI"})
    spec = resolve(load_spec("msd_hippocampus"), tmp_path)
    assert (spec.name, spec.size, spec.labels) == ("msd_hippocampus", 32, {1: "x"})


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


@pytest.mark.parametrize("content", ["{", "[]", '{"labels": 3}', '{"labels": {"x": "y"}}', '{"modality": 3}', "\x00"])
def test_bad_dataset_json(tmp_path: Path, content: str) -> None:
    (tmp_path / "dataset.json").write_text(content)
    with pytest.raises(DataError, match=r"dataset\.json"):
        resolve(load_spec("msd"), tmp_path)


def test_given_values_win(tmp_path: Path) -> None:
    spec = resolve(load_spec("chd"), tmp_path, spacing=0.5, size=64, labels="1=a, 9 = b", patient="(x)")
    assert (spec.spacing, spec.size, spec.labels, spec.patient) == (0.5, 64, {1: "a", 9: "b"}, "(x)")
    assert resolve(load_spec("chd"), tmp_path).size == 512


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"spacing": 0.0}, "larger than 0"),
        ({"spacing": float("nan")}, "larger than 0"),
        ({"spacing": float("inf")}, "larger than 0"),
        ({"size": 0}, "at least 1"),
        ({"labels": "1"}, "VALUE=NAME"),
        ({"labels": "0=background"}, "VALUE=NAME"),
        ({"labels": "1=a,1=b"}, "named twice"),
        ({"labels": ",".join(f"{n}=c{n}" for n in range(1, 258))}, "at most 255"),
    ],
)
def test_given_values_that_cannot_be(tmp_path: Path, given: dict[str, object], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        resolve(load_spec("folder"), tmp_path, **given)  # type: ignore[arg-type]


def test_no_such_source(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such folder"):
        resolve(load_spec("folder"), tmp_path / "none")


def test_several_values_may_have_one_name() -> None:
    spec = DatasetSpec(name="x", labels=parse_labels("1=tumour,2=liver,4=tumour"))
    assert spec.class_names == ("tumour", "liver")


def test_an_unknown_name_lists_the_known() -> None:
    with pytest.raises(UsageError, match=r"no data set is named 'cdh'; known: acdc, auto, brats2018, chaos, chd"):
        load_spec("cdh")


def test_a_spec_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(
        "layout = 'files'\nimages = ['(?P<case>.*)_i\\.nii']\nspacing = 2\nclip = [0, 100]\n[labels]\n3 = 'x'\n"
    )
    spec = load_spec(path)
    assert (spec.name, spec.spacing, spec.clip, spec.labels, spec.channels) == ("mine", 2.0, (0, 100), {3: "x"}, 1)
    assert find_cases(lay_out(tmp_path, "a_i.nii"), spec) == [CaseSource("a", "a", (tmp_path / "a_i.nii",), None)]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("x = ", "not a TOML file"),
        ("sise = 3", r"unknown key 'sise'; did you mean size\? \(known: channels, clip, "),
        ("size = 'a'", "size: 'a' is not an int"),
        ("spacing = 'a'", "spacing: 'a' is not a number"),
        ("title = 3", "title: 3 is not a string"),
        ("layout = 'dicom'", "one of auto, folder, msd, files"),
        ("normalisation = 'max'", "one of minmax, zscore"),
        ("other_labels = 'drop'", "one of error, background"),
        ("clip = [99, 1]", "two rising percentiles"),
        ("layout = 'files'", "at least one pattern"),
        ("images = ['(?P<case>a)']", 'images, label: they need layout = "files"'),
        ("layout = 'msd'\nlabel = '(?P<case>a)'", 'images, label: they need layout = "files"'),
        ("layout = 'files'\nimages = '(?P<case>a)'", "is not a list of strings"),
        ("[labels]\n1 = 2", "labels.1: 2 is not a string"),
        ("layout = 'files'\nimages = ['a']", "needs a group"),
        ("layout = 'files'\nimages = ['(']", "subpattern"),
        ("layout = 'files'\nimages = ['(?P<case>a)']\nlabel = 'b'", "needs a group"),
        ("patient = '('", "subpattern"),
        ("[labels]\n0 = 'background'", "0 is the background"),
        ("[labels]\nliver = 1", "labels: 'liver' is not an int"),
        ("labels = 3", "labels: 3 is not a table"),
    ],
)
def test_bad_specs(tmp_path: Path, content: str, words: str) -> None:
    path = tmp_path / "bad.toml"
    path.write_text(content)
    with pytest.raises(UsageError, match=words) as caught:
        load_spec(path)
    assert str(path) in str(caught.value)


def test_a_spec_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        load_spec(tmp_path / "none.toml")


@pytest.mark.skipif(os.name != "posix" or os.uname().sysname != "Linux", reason="needs names of any bytes")
def test_names_in_any_bytes(tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"caf\xe9 \xe6.nii")).touch()
    lay_out(tmp_path, "患者 1.nii", "μ=0.nii")
    assert len(find_cases(tmp_path, load_spec("folder"))) == 3
