"""Names that clients give: none leads out of a folder, and none is a command, a device or a mark."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jcl.serve.names import case_name, split_name
from jcl.serve.refusal import Refusal


@pytest.mark.parametrize(
    ("given_name", "expected"),
    [
        ("anna.nii.gz", ("anna", ".nii.gz")),
        ("Anna 2.NII", ("Anna 2", ".nii")),
        ("../../etc/passwd.nii", ("passwd", ".nii")),
        ("C:\\scans\\anna.nrrd", ("anna", ".nrrd")),
        ("..\\..\\x.zip", ("x", ".zip")),
        (".nii.gz", ("scan", ".nii.gz")),
        ("....nii", ("scan", ".nii")),
        ("a\r\nSet-Cookie: x=1.nii", ("a_Set-Cookie_ x=1".replace("=", "_"), ".nii")),
        ("<img src=x onerror=alert(1)>.nii", ("_img src_x onerror_alert_1_", ".nii")),
        ("nul.nii", ("_nul", ".nii")),
        ("Jürgen.nii", ("Jürgen", ".nii")),
        ("Ju\u0308rgen.nii", ("Jürgen", ".nii")),
    ],
)
def test_names_are_made_plain(given_name: str, expected: tuple[str, str]) -> None:
    assert split_name(given_name) == expected


@given(st.text(max_size=300))
def test_no_name_is_a_path(text: str) -> None:
    name = case_name(text)
    assert 0 < len(name) <= 81
    assert not name.startswith(".")
    assert set("/\\:<>\"'|?*\0\r\n").isdisjoint(name)
    assert ".." not in name
    assert case_name(name) == name or name.startswith("_")


@pytest.mark.parametrize("name", ["", "anna", "anna.mhd", "anna.exe", "anna.nii.gz.sh", "anna.tar.gz"])
def test_other_files_are_refused(name: str) -> None:
    with pytest.raises(Refusal) as refused:
        split_name(name)
    assert refused.value.status == 415
