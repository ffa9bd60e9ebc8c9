"""Which label belongs to which image, in the layouts that people have."""

import unicodedata
from pathlib import Path

import pytest

from jcl.data.cases import find_cases
from jcl.data.datasets import load_spec
from jcl.data.leftout import LeftOut
from jcl.errors import DataError
from support.setfolders import lay_out


def pairs(source: Path, left_out: LeftOut | None = None) -> dict[str, str | None]:
    """Case -> its label below the source."""
    return {
        found.case: found.label.relative_to(source).as_posix() if isinstance(found.label, Path) else None
        for found in find_cases(source, load_spec("folder"), left_out=left_out)
    }


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (["Images/x.nii", "Labels/x.nii"], {"x": "Labels/x.nii"}),
        (["scans/x.nii", "masks/x.nii"], {"scans_x": "masks/x.nii"}),
        (["imgs/x.png", "masks/x_mask.png"], {"imgs_x": "masks/x_mask.png"}),
        (["p1/image.nii", "p1/seg.nii"], {"p1_image": "p1/seg.nii"}),
        (["p1/ct.nii", "p1/Segmentation.nii"], {"p1_ct": "p1/Segmentation.nii"}),
        (["x.nii", "x_seg.nii", "y.nii"], {"x": "x_seg.nii", "y": None}),
        (["a_image.nii", "a_label.nii"], {"a_image": "a_label.nii"}),
        (["x.nii", "labelsTs/x.nii"], {"x": "labelsTs/x.nii"}),
        (["images/x.nii", "images/x-mask.nii"], {"x": "images/x-mask.nii"}),
        (["s/images/x.nii", "s/ground truth/x_gt.nii"], {"s_x": "s/ground truth/x_gt.nii"}),
    ],
)
def test_layouts(tmp_path: Path, files: list[str], expected: dict[str, str | None]) -> None:
    """Masks beside images or in folders of other names, which became scans:
    https://github.com/milesial/Pytorch-UNet/issues/489 (data/imgs, data/masks),
    https://github.com/MouseLand/cellpose/issues/1124 (x.tif and x_seg beside it).
    """
    assert pairs(lay_out(tmp_path, *files)) == expected


def test_accents_and_case_of_names_do_not_part_a_label_from_its_image(tmp_path: Path) -> None:
    """As file names of macOS do: https://github.com/macos-fuse-t/fuse-t/issues/16."""
    composed, decomposed = (unicodedata.normalize(form, "Jürgen") for form in ("NFC", "NFD"))
    lay_out(tmp_path, f"images/{composed}.nii", f"labels/{decomposed}.nii", "images/Anna.nii", "labels/anna.nii")
    found = pairs(tmp_path)
    assert set(found) == {composed, "Anna"}
    assert all(found.values())


def test_two_images_of_one_name_in_two_forms_are_refused(tmp_path: Path) -> None:
    lay_out(tmp_path, *(unicodedata.normalize(form, "Jürgen.nii") for form in ("NFC", "NFD")))
    with pytest.raises(DataError, match="in the Unicode form of its accents only; rename one"):
        pairs(tmp_path)


def test_a_label_of_several_images_is_left_out_and_named(tmp_path: Path) -> None:
    """BraTS has one segmentation for four sequences: https://github.com/MIC-DKFZ/nnUNet/issues/306."""
    left_out = LeftOut()
    found = pairs(lay_out(tmp_path, *(f"b/b_{part}.nii" for part in ("t1", "t2", "seg"))), left_out)
    assert found == {"b_b_t1": None, "b_b_t2": None}
    assert left_out.lines(tmp_path) == [
        "left out: b/b_seg.nii (may be the label of several images; say which with a data set specification "
        "(--dataset FILE.toml))"
    ]


def test_a_second_label_is_never_taken_silently(tmp_path: Path) -> None:
    left_out = LeftOut()
    assert pairs(lay_out(tmp_path / "a", "images/x.nii", "labels/x.nii", "images/x_seg.nii"), left_out) == {
        "x": "labels/x.nii"
    }
    assert "images/x_seg.nii (a second label of one image" in left_out.lines(tmp_path / "a")[0]
    with pytest.raises(DataError, match=r"x\.nii: a second label of the image that .*; remove one of them"):
        pairs(lay_out(tmp_path / "b", "images/x.nii", "labels/x.mha", "labels/x.nii"))


def test_labels_of_other_parts_go_with_their_images(tmp_path: Path) -> None:
    left_out = LeftOut()
    files = ("imagesTr/1.nii", "labelsTr/1.nii", "imagesTs/1.nii", "labelsTs/1.nii", "imagesVa/2.nii", "labelsVa/2.nii")
    assert pairs(lay_out(tmp_path, *files), left_out) == {"1": "labelsTr/1.nii"}
    assert left_out.lines(tmp_path) == [
        "left out: 2 files outside of the folders of training images, 1 label of the test part, "
        "1 label of the validation part"
    ]


def test_a_guess_is_said(tmp_path: Path) -> None:
    left_out = LeftOut()
    pairs(lay_out(tmp_path, *(f"{n}{end}.nii" for n in range(5) for end in ("", "_seg"))), left_out)
    assert left_out.lines(tmp_path) == ["labels by their file names: 0_seg.nii, 1_seg.nii, 2_seg.nii and 2 more"]


def test_a_jpeg_is_not_a_label(tmp_path: Path) -> None:
    """Its compression makes values between those of the classes:
    https://github.com/romi/plant-3d-vision/issues/140, https://github.com/mantasu/glasses-detector/issues/23,
    https://github.com/divamgupta/image-segmentation-keras/issues/204.
    """
    (case,) = find_cases(lay_out(tmp_path, "images/x.png", "labels/x.JPG"), load_spec("folder"))
    assert case.problem is not None
    assert case.problem.endswith(
        "x.JPG: a JPEG, which changes the label values where it packs them; save the labels again as PNG"
    )
