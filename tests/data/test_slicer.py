"""Segmentations of 3D Slicer: what a segment is, its name says, and not its value."""

import warnings
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from jcl.config import PrepareConfig
from jcl.data.imagefile import has_named_segments
from jcl.data.slicer import read_structures, structure_names
from jcl.data.store import Store
from jcl.errors import DataError
from jcl.stages.prepare import prepare
from support.slicerfiles import write_segmentation

SIZE = (9, 8, 6)
AFFINE = np.diag([1.5, 1.5, 5.0, 1.0])
VALUES = {"liver": 3, "spleen": 7}


def labels() -> np.ndarray:
    """A liver of 3 and a spleen of 7."""
    found = np.zeros(SIZE[::-1], np.uint8)
    found[1:4, 1:5, 2:7], found[2:5, 5:7, 1:3] = 3, 7
    return found


def save_scan(path: Path, seed: int = 0) -> None:
    image = sitk.GetImageFromArray(np.random.default_rng(seed).normal(100, 20, SIZE[::-1]).astype(np.float32))
    image.SetSpacing((1.5, 1.5, 5.0))
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(image, str(path))


def read(path: Path, **more) -> np.ndarray:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return read_structures(path, **{"affine": AFFINE, "size": SIZE, "values": VALUES, **more})


def write(path: Path, **more) -> Path:
    """One layer, in which the spleen is 1 and the liver 2."""
    values = np.select([labels() == 7, labels() == 3], [1, 2], 0)
    return write_segmentation(path / "a.seg.nrrd", values, [("spleen", 1, 0), ("liver", 2, 0)], **more)


def test_names_say_what_a_value_is(tmp_path: Path) -> None:
    path = write(tmp_path)
    assert structure_names(path) == ("spleen", "liver")
    np.testing.assert_array_equal(read(path), labels())
    np.testing.assert_array_equal(read(path, values={"Liver ": 3, "SPLEEN": 7}), labels())


@pytest.mark.parametrize("old", [False, True])
def test_segments_in_layers(tmp_path: Path, old: bool) -> None:
    """Before Slicer 4.11 each segment had a layer, and the header neither its number nor the value 1."""
    layers = np.stack([labels() == 7, labels() == 3])
    path = write_segmentation(tmp_path / "a.seg.nrrd", layers, [("spleen", 1, 0), ("liver", 1, 1)], old=old)
    np.testing.assert_array_equal(read(path), labels())


def test_segments_that_overlap_are_said_to(tmp_path: Path) -> None:
    layers = np.stack([labels() > 0, labels() == 7])
    path = write_segmentation(tmp_path / "a.seg.nrrd", layers, [("liver", 1, 0), ("spleen", 1, 1)])
    with pytest.warns(UserWarning, match="structures overlap in 12 voxels, which were given to the smaller one"):
        found = read_structures(path, AFFINE, SIZE, VALUES)
    np.testing.assert_array_equal(found, labels())


def test_a_part_of_the_volume_is_enough(tmp_path: Path) -> None:
    """Slicer may save the box of the segments alone."""
    box = labels()[1:5, 1:7, 1:7]
    segments = [("liver", 3, 0), ("spleen", 7, 0)]
    path = write_segmentation(tmp_path / "a.seg.nrrd", box, segments, origin=(1.5, 1.5, 5.0))
    np.testing.assert_array_equal(read(path), labels())
    turned = AFFINE @ np.array([[-1, 0, 0, 8], [0, -1, 0, 7], [0, 0, 1, 0], [0, 0, 0, 1.0]])
    np.testing.assert_array_equal(read(path, affine=turned), labels()[:, ::-1, ::-1])
    with pytest.raises(DataError, match="lies outside of its image in part; are they of one scan"):
        read(path, size=(9, 8, 4))


def test_one_voxel_is_none(tmp_path: Path) -> None:
    """What Slicer writes of segments that are empty: it means that nobody has drawn yet, wherever it lies."""
    voxel = np.ones((1, 1, 1), np.uint8)
    path = write_segmentation(tmp_path / "a.seg.nrrd", voxel, [("liver", 1, 0)], origin=(999.0, 0.0, 0.0))
    assert not read(path).any()


def test_voxels_between_those_of_the_scan_are_refused(tmp_path: Path) -> None:
    np.testing.assert_array_equal(read(write(tmp_path, origin=(0.1, 0.0, 0.0))), labels())
    with pytest.raises(DataError, match=r"not those of its image \(0\.47 voxels away\); resample it to them"):
        read(write(tmp_path, origin=(0.7, 0.0, 0.0)))


def test_names_that_nobody_asked_for(tmp_path: Path) -> None:
    path = write(tmp_path)
    with pytest.raises(DataError, match="its segments are spleen, liver, and --labels names heart"):
        read(path, values={"heart": 1})
    with pytest.warns(UserWarning, match="left out, since --labels does not name them: spleen"):
        found = read_structures(path, AFFINE, SIZE, {"liver": 3})
    np.testing.assert_array_equal(found, np.where(labels() == 3, 3, 0))


def test_a_header_that_cannot_be_meant(tmp_path: Path) -> None:
    path = write_segmentation(tmp_path / "a.seg.nrrd", labels(), [("liver", 3, 2)])
    with pytest.raises(DataError, match="has 1 layers, none for liver"):
        read(path)
    path.write_bytes(path.read_bytes().replace(b"LabelValue:=3", b"LabelValue:=x"))
    with pytest.raises(DataError, match="as value and layer of 'liver'; correct it"):
        structure_names(path)
    assert not has_named_segments(path)
    assert not has_named_segments(tmp_path / "none.nrrd")


def test_files_that_number_their_segments_otherwise_make_one_store(tmp_path: Path) -> None:
    """By their values the liver of one patient would be the spleen of the other."""
    for name in ("a", "b"):
        save_scan(tmp_path / "scans" / f"{name}.nrrd")
    write_segmentation(tmp_path / "scans" / "a.seg.nrrd", labels(), [("liver", 3, 0), ("spleen", 7, 0)])
    other = np.select([labels() == 7, labels() == 3], [3, 7], 0)
    write_segmentation(tmp_path / "scans" / "b.seg.nrrd", other, [("spleen", 3, 0), ("Liver", 7, 0)])
    prepare(PrepareConfig(source=tmp_path / "scans", out=tmp_path / "store", workers=1))
    store = Store.open(tmp_path / "store")
    assert store.class_names == ("Liver", "spleen")
    expected = tuple(int((labels() == value).sum()) for value in (3, 7))
    assert [record.voxels for record in store.cases] == [expected, expected]


def test_the_name_that_slicer_gives_a_segmentation_is_that_of_a_label(tmp_path: Path) -> None:
    for number in range(2):
        folder = tmp_path / "scans" / f"p{number}"
        save_scan(folder / "CT.nrrd", number)
        write_segmentation(folder / "Segmentation.seg.nrrd", labels(), [("liver", 3, 0), ("spleen", 7, 0)])
    prepare(PrepareConfig(source=tmp_path / "scans", out=tmp_path / "store", workers=1))
    store = Store.open(tmp_path / "store")
    assert [(record.case, record.labelled) for record in store.cases] == [("p0_CT", True), ("p1_CT", True)]


def test_under_a_dataset_json_values_count_and_may_not_be_called_otherwise(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        save_scan(tmp_path / "scans" / "imagesTr" / f"{name}.nrrd")
    folder = tmp_path / "scans" / "labelsTr"
    write_segmentation(folder / "a.nrrd", labels(), [("Liver", 3, 0), ("Spleen", 7, 0)])
    write_segmentation(folder / "b.nrrd", labels(), [("Segment_1", 3, 0), ("Segment_2", 7, 0)])
    write_segmentation(folder / "c.nrrd", labels(), [("spleen", 3, 0), ("liver", 7, 0)])
    (tmp_path / "scans" / "dataset.json").write_text(
        '{"labels": {"3": "liver", "7": "spleen"}, "channel_names": {"0": "CT"}}'
    )
    prepare(PrepareConfig(source=tmp_path / "scans", out=tmp_path / "store", workers=1))
    store = Store.open(tmp_path / "store")
    assert [record.case for record in store.cases] == ["a", "b"]
    (skipped,) = store.skipped
    assert (
        "labelsTr/c.nrrd: its header calls the value 3 spleen, which has the value 7 in this data set" in skipped.reason
    )
