"""dataset.json of the Decathlon and of nnU-Net 1 and 2, as people write them."""

import json
from pathlib import Path

import pytest

from jcl.data.cases import find_cases
from jcl.data.datasets import load_spec, resolve
from jcl.data.leftout import LeftOut
from jcl.errors import DataError

LABELS_1 = {"0": "background", "1": "liver"}
LABELS_2 = {"background": 0, "liver": 1}


def write(folder: Path, content: object, *files: str) -> Path:
    for name in files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    (folder / "dataset.json").write_text(json.dumps(content))
    return folder


def cases(source: Path, left_out: LeftOut | None = None) -> dict[str, tuple[list[str], str | None]]:
    """Case -> names of its images and of its label."""
    found = find_cases(source, resolve(load_spec("auto"), source), left_out=left_out)
    return {
        case.case: (
            [image.name for image in case.images if isinstance(image, Path)],
            case.label.name if isinstance(case.label, Path) else None,
        )
        for case in found
    }


@pytest.mark.parametrize(
    "training",
    [
        {},
        {"training": [{"image": "./imagesTr/a.nii.gz", "label": "./labelsTr/a.nii.gz"}]},
        {"training": [{"image": "./imagesTr/a_0000.nii.gz", "label": "./labelsTr/a.nii.gz"}]},
    ],
)
def test_numbered_images_of_nnunet_1_find_their_labels(tmp_path: Path, training: dict[str, object]) -> None:
    """nnU-Net 1 says `modality` and numbers the files; whether `training` has the number differs:
    https://github.com/MIC-DKFZ/nnUNet/issues/1644, https://github.com/MIC-DKFZ/nnUNet/issues/820,
    https://github.com/MIC-DKFZ/nnUNet/issues/208.
    """
    content = {"modality": {"0": "CT"}, "labels": LABELS_1, **training}
    files = ("imagesTr/a_0000.nii.gz", "imagesTr/b_0000.nii.gz", "labelsTr/a.nii.gz", "labelsTr/b.nii.gz")
    assert cases(write(tmp_path, content, *files)) == {
        "a": (["a_0000.nii.gz"], "a.nii.gz"),
        "b": (["b_0000.nii.gz"], "b.nii.gz"),
    }


def test_several_modalities_of_nnunet_1_are_channels(tmp_path: Path) -> None:
    content = {"modality": {"0": "T1", "1": "T2"}, "labels": LABELS_1}
    files = ("imagesTr/a_0001.nii.gz", "imagesTr/a_0000.nii.gz", "labelsTr/a.nii.gz", "imagesTr/u_0000.nii.gz",
             "imagesTr/u_0001.nii.gz")  # fmt: skip
    assert cases(write(tmp_path, content, *files)) == {
        "a": (["a_0000.nii.gz", "a_0001.nii.gz"], "a.nii.gz"),
        "u": (["u_0000.nii.gz", "u_0001.nii.gz"], None),
    }


def test_names_of_the_decathlon_may_end_in_four_digits(tmp_path: Path) -> None:
    content = {"modality": {"0": "CT"}, "labels": LABELS_1}
    files = ("imagesTr/liver_0001.nii.gz", "imagesTr/liver_0002.nii.gz", "labelsTr/liver_0001.nii.gz")
    assert cases(write(tmp_path, content, *files)) == {
        "liver_0001": (["liver_0001.nii.gz"], "liver_0001.nii.gz"),
        "liver_0002": (["liver_0002.nii.gz"], None),
    }


def test_some_numbered_and_some_not_is_refused(tmp_path: Path) -> None:
    content = {"modality": {"0": "CT"}, "labels": LABELS_1}
    write(tmp_path, content, "imagesTr/a_0000.nii.gz", "imagesTr/b.nii.gz", "labelsTr/a.nii.gz")
    with pytest.raises(DataError, match=r"the name b has no number of a channel, as nnU-Net's images have \(_0000\)"):
        cases(tmp_path)


@pytest.mark.parametrize(
    ("files", "words"),
    [
        (["imagesTr/a_0000.nii.gz"], r"case a has no file for channel 1 \(a_0001\), and dataset.json names 2 channels"),
        (["imagesTr/a_0000.nii.gz", "imagesTr/a_0001.nii.gz", "imagesTr/a_0002.nii.gz"], "channel 2, but dataset.json"),
    ],
)
def test_a_channel_too_few_or_too_many_is_named(tmp_path: Path, files: list[str], words: str) -> None:
    """https://github.com/MIC-DKFZ/nnUNet/issues/1853 has two modalities of four; the others are a fault here."""
    source = write(tmp_path, {"channel_names": {"0": "T1", "1": "T2"}, "labels": LABELS_2}, *files)
    (case,) = find_cases(source, resolve(load_spec("auto"), source))
    with pytest.raises(DataError, match=words):
        raise DataError(case.problem)


def test_listed_files_of_nnunet_2_are_taken_as_listed(tmp_path: Path) -> None:
    listed = {"p1": {"images": ["scans/a.nii.gz"], "label": "masks/a.nii.gz"}, "p2": {"images": ["scans/b.nii.gz"]}}
    content = {"channel_names": {"0": "CT"}, "labels": LABELS_2, "dataset": listed}
    source = write(tmp_path, content, "scans/a.nii.gz", "masks/a.nii.gz", "scans/b.nii.gz")
    assert cases(source) == {"p1": (["a.nii.gz"], "a.nii.gz"), "p2": (["b.nii.gz"], None)}


def test_file_ending_decides_between_copies(tmp_path: Path) -> None:
    content = {"channel_names": {"0": "CT"}, "labels": LABELS_2, "file_ending": ".nii.gz"}
    files = ("imagesTr/a_0000.nii.gz", "imagesTr/a_0000.nii", "labelsTr/a.nii.gz", "imagesTs/t_0000.nii.gz", "x.txt")
    left_out = LeftOut()
    assert cases(write(tmp_path, content, *files), left_out) == {"a": (["a_0000.nii.gz"], "a.nii.gz")}
    assert left_out.lines(tmp_path) == [
        'left out: imagesTr/a_0000.nii ("file_ending" in dataset.json says .nii.gz)',
        "left out: 2 files outside of imagesTr and labelsTr",
    ]


@pytest.mark.parametrize("ending", [".tif", ".b2nd", "nii.bz2"])
def test_a_file_ending_that_cannot_be_read_is_named(tmp_path: Path, ending: str) -> None:
    write(tmp_path, {"channel_names": {"0": "CT"}, "labels": LABELS_2, "file_ending": ending}, "imagesTr/a_0000.tif")
    with pytest.raises(DataError, match=rf'dataset\.json: its "file_ending" is \'{ending}\', .*; convert the set'):
        cases(tmp_path)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (
            {"labels": {"background": 0, "whole tumor": [1, 2, 3], "core": [2, 3]}},
            "its label 'whole tumor' is a region",
        ),
        ({"labels": {"liver": "one"}}, "its label \"liver\": 'one' has no whole number"),
        ({"labels": {"liver": 1.5}}, 'its label "liver": 1.5 has no whole number'),
        ({"labels": {"liver": 1, "spleen": 1}}, r"name the value 1 twice \(liver, spleen\); leave one"),
        ({"labels": {"ignore": 0, "liver": 1}}, "0 is the background and cannot be ignored"),
        ({"labels": ["liver"]}, "its labels .* are not a table"),
        ({"modality": 3}, "its modality 3 is not a table"),
    ],
)
def test_keys_that_cannot_be_used_are_named(tmp_path: Path, content: dict[str, object], words: str) -> None:
    """Regions, as in https://github.com/MIC-DKFZ/nnUNet/issues/1952 and https://github.com/MIC-DKFZ/nnUNet/issues/2316."""
    with pytest.raises(DataError, match=rf"dataset\.json: .*{words}") as caught:
        resolve(load_spec("msd"), write(tmp_path, content))
    assert "literal" not in str(caught.value)


def test_labels_given_on_the_command_line_take_the_place_of_regions(tmp_path: Path) -> None:
    write(tmp_path, {"labels": {"background": 0, "whole": [1, 2]}})
    assert resolve(load_spec("msd"), tmp_path, labels="1=edema,2=core").labels == {1: "edema", 2: "core"}


@pytest.mark.parametrize(
    "content",
    [
        {"channel_names": {"R": 0, "G": 1, "B": 2}, "labels": LABELS_2},
        {"modality": ["R", "G", "B"], "labels": {"0": "background", "1": "liver"}},
        {"channel_names": {"0": "R", "1": "G", "2": "B"}, "labels": {"background": "0", "liver": "1"}},
    ],
)
def test_channels_and_labels_written_the_other_way_round(tmp_path: Path, content: dict[str, object]) -> None:
    """As in https://github.com/MIC-DKFZ/nnUNet/issues/2443."""
    spec = resolve(load_spec("msd"), write(tmp_path, content))
    assert (spec.channels, spec.modality, spec.labels) == (3, "R, G, B", {1: "liver"})


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "it is empty"),
        ('{"labels": {"liver": 1,}}', r"line 1, column \d+: a comma, quote or bracket too many or too few"),
        ('{"channel_names": {"0": "CT", }}', r"line 1, column \d+: a comma, quote or bracket too many or too few"),
        ("{} {}", "line 1, column 4: text after its end"),
    ],
)
def test_text_that_is_not_json_is_said_with_its_place(tmp_path: Path, text: str, words: str) -> None:
    """A comma after the last entry, as in https://github.com/MIC-DKFZ/nnUNet/issues/1602."""
    (tmp_path / "dataset.json").write_text(text)
    with pytest.raises(DataError, match=rf"dataset\.json: not a JSON file \({words}\); correct it"):
        resolve(load_spec("msd"), tmp_path)
