"""Labels are written with the header of their scan, in the order of its bytes."""

import gzip
import struct
from pathlib import Path

import nibabel
import numpy as np
import pytest

from jcl.data.imagefile import write_nifti_label

LABELS = np.random.default_rng(0).integers(0, 7, (4, 3, 2))
"""z, y, x."""

KEPT = (
    "xyzt_units", "pixdim", "qform_code", "sform_code", "quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y",
    "qoffset_z", "srow_x", "srow_y", "srow_z", "descrip", "toffset", "dim_info",
)  # fmt: skip


def scan(order: str, shape: tuple[int, ...] = (2, 3, 4)) -> bytes:
    header = nibabel.Nifti1Header(endianness=order)
    image = nibabel.Nifti1Image(np.ones(shape, np.float32), np.diag([-2, 3, 4, 1]), header)
    image.set_sform(np.diag([2.5, 3, 4, 1]), 4)
    image.set_qform(np.diag([-2, 3, 4, 1]), 2)
    image.header.set_xyzt_units("mm", "sec")
    image.header["descrip"] = b"5.0.10"
    image.header["cal_max"] = 7
    image.header.set_intent("t test", (3,), "x")
    image.header.set_slope_inter(2, 3)
    image.header.extensions.append(nibabel.nifti1.Nifti1Extension("comment", b"patient"))
    return image.to_bytes()


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("kind", ["uint8", "uint16", "int32", "uint32"])
def test_the_header_is_the_scans(tmp_path: Path, order: str, suffix: str, kind: str) -> None:
    content = scan(order)
    path = tmp_path / f"a{suffix}"
    write_nifti_label(path, LABELS.astype(kind), content[:352])
    written, source = nibabel.load(path), nibabel.Nifti1Image.from_bytes(content)
    for field in KEPT:
        np.testing.assert_array_equal(written.header[field], source.header[field], err_msg=field)
    np.testing.assert_array_equal(np.asarray(written.dataobj).T, LABELS)
    assert written.get_data_dtype() == np.dtype(kind).newbyteorder(order)
    assert (written.header["cal_max"], written.header["intent_code"]) == (0, 0)
    assert len(written.header.extensions) == 0
    raw = gzip.decompress(path.read_bytes()) if suffix == ".nii.gz" else path.read_bytes()
    assert struct.unpack_from(f"{order}3f", raw, 108) == (352, 1, 0)
    assert len(raw) == 352 + LABELS.astype(kind).nbytes


def test_labels_have_three_axes_and_pictures_two(tmp_path: Path) -> None:
    write_nifti_label(tmp_path / "a.nii", LABELS.astype(np.uint8), scan("<", (2, 3, 4, 5))[:352])
    assert nibabel.load(tmp_path / "a.nii").shape == (2, 3, 4)
    write_nifti_label(tmp_path / "b.nii", LABELS[:1].astype(np.uint8), scan("<", (2, 3))[:352])
    assert nibabel.load(tmp_path / "b.nii").shape == (2, 3)


def test_the_same_labels_are_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a.nii.gz", "b.nii.gz"):
        write_nifti_label(tmp_path / name, LABELS.astype(np.uint8), scan("<")[:352])
    assert (tmp_path / "a.nii.gz").read_bytes() == (tmp_path / "b.nii.gz").read_bytes()
