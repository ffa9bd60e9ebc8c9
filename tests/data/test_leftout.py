"""What is said of files that are not used."""

from pathlib import Path

from jcl.data.leftout import LeftOut, unreadable


def test_files_are_named_or_counted(tmp_path: Path) -> None:
    left_out = LeftOut()
    for name in ("a.img", "a.hdr", "b.img", "c.img", "notes.txt", "README", "sub/x.mnc", "x.raw"):
        left_out.unused(tmp_path / name)
    left_out.count("DICOM files (report)", 2)
    assert left_out.lines(tmp_path) == [
        "left out: a.img, a.hdr, b.img and 1 more (not readable: Analyze or two-file NIfTI; convert it to .nii.gz)",
        "left out: sub/x.mnc (not readable: MINC; convert it to .nii.gz)",
        "left out: x.raw (not readable: an array without a geometry; convert it to .nii.gz)",
        "left out: 1 .txt file, 2 DICOM files (report), 1 file of an unknown kind",
    ]
    assert len(left_out) == 10
    assert left_out.summary(tmp_path).startswith(" (left out: a.img")
    assert LeftOut().summary(tmp_path) == ""


def test_the_voxels_of_a_metaimage_are_used(tmp_path: Path) -> None:
    (tmp_path / "x.mhd").touch()
    left_out = LeftOut()
    left_out.unused(tmp_path / "x.raw")
    assert not len(left_out)


def test_the_longest_ending_tells() -> None:
    """nibabel could not tell `.img.gz` and `.nii.gzip` apart from others either:
    https://github.com/nipy/nibabel/issues/997, https://github.com/nipy/nibabel/issues/570.
    """
    assert unreadable(Path("x.IMG.GZ")) == ("Analyze or two-file NIfTI", "convert it to .nii.gz")
    assert unreadable(Path("someones_epi.nii.gzip")) == (
        "gzip-compressed under an unknown name",
        "rename it to .nii.gz",
    )
    assert unreadable(Path("x.tar.gz")) == ("an archive", "unpack it")
    assert unreadable(Path("x.json")) is None


def test_a_label_whose_image_was_left_out_says_so(tmp_path: Path) -> None:
    left_out = LeftOut()
    for name in ("images/a.hdr", "images/a.img", "images/B.mgz", "notes.txt"):
        left_out.unused(tmp_path / name)
    labels = tmp_path / "labels"
    assert str(left_out.no_image(labels / "a.nii.gz", tmp_path)) == (
        f"{labels / 'a.nii.gz'}: the image of this label was left out: "
        "images/a.hdr, images/a.img (not readable: Analyze or two-file NIfTI; convert it to .nii.gz)"
    )
    assert "images/B.mgz (not readable: FreeSurfer; " in str(left_out.no_image(labels / "b.nii.gz", tmp_path))
    assert "has no image; add the image" in str(left_out.no_image(labels / "notes.nii.gz", tmp_path))
