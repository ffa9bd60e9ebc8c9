"""Preparing the real volumes: all of them, upright, smaller than raw, and the same whoever does it."""

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from jcl.config import PrepareConfig
from jcl.data.store import Store
from jcl.data.volumes import read_image, read_label, write_label
from jcl.stages.prepare import prepare

pytestmark = pytest.mark.realdata

SETS = ["chaos", "hippocampus", "la2018", "mscmr"]

Stores = Callable[[str], Store]


@pytest.mark.parametrize("name", SETS)
def test_every_volume_is_prepared(store_of: Stores, realdata: Path, name: str) -> None:
    store = store_of(name)
    assert not store.skipped
    assert not store.verify()
    assert len(store.cases) == len(list((realdata / name / "imagesTr").iterdir()))
    assert all(record.labelled for record in store.cases)
    content = json.loads((realdata / name / "dataset.json").read_text())
    assert store.class_names == tuple(content["labels"][value] for value in sorted(content["labels"], key=int))[1:]


@pytest.mark.parametrize("name", SETS)
def test_slices_are_those_of_the_source(store_of: Stores, realdata: Path, name: str) -> None:
    """Another way to the same: percentiles and scaling by hand, without a change of place."""
    store = store_of(name)
    for number in range(0, len(store.cases), max(1, len(store.cases) // 4)):
        record = store.cases[number]
        volume = read_image([realdata / name / "imagesTr" / f"{record.case}.nii.gz"])
        low, high = np.percentile(volume.array.astype(np.float64), (1, 99))
        expected = (volume.array[0].clip(low, high) - low) / (high - low)
        rows, columns = store.content(number)
        found = np.stack([store.image(number, at)[0, rows, columns] for at in range(record.slices)])
        np.testing.assert_allclose(found, expected, atol=1.3e-4)
        labels = read_label(realdata / name / "labelsTr" / f"{record.case}.nii.gz", volume)
        kept = np.stack([store.label(number, at)[rows, columns] for at in range(record.slices)])
        values = np.array([0, *store.preparation["class_values"]])
        np.testing.assert_array_equal(values[kept], labels)
        counts = [int((labels == value).sum()) for value in values[1:]]
        assert list(store.counted(number).values()) == counts


@pytest.mark.parametrize("name", SETS)
def test_the_store_is_smaller_than_raw_16_bit(store_of: Stores, name: str) -> None:
    store = store_of(name)
    raw = sum(record.slices * record.shape[0] * record.shape[1] * 2 for record in store.cases)
    stored = sum(path.stat().st_size for path in store.path.rglob("*") if path.is_file())
    assert stored < (0.8 if name == "hippocampus" else 0.55) * raw


def centre(store: Store, case: int, structure: str) -> np.ndarray:
    """Slice, row and column of a structure's centre."""
    value = store.class_names.index(structure) + 1
    labels = np.stack([store.label(case, at) for at in range(store.cases[case].slices)])
    return np.argwhere(labels == value).mean(axis=0)


def test_hearts_are_the_same_way_up_whatever_the_files_orientation(store_of: Stores, realdata: Path) -> None:
    """Two orientations are mixed; in all, the right ventricle lies left and the apex comes last."""
    store = store_of("mscmr")
    seen: Counter[str] = Counter()
    for case, record in enumerate(store.cases):
        image = sitk.ReadImage(str(realdata / "mscmr" / "imagesTr" / f"{record.case}.nii.gz"))
        seen[sitk.DICOMOrientImageFilter.GetOrientationFromDirectionCosines(image.GetDirection())] += 1
        assert record.shape == (256, 256)
        left, right = centre(store, case, "left ventricle"), centre(store, case, "right ventricle")
        assert right[2] < left[2] - 10, record.case
        assert abs(right[1] - left[1]) < left[2] - right[2], record.case  # not above or below: no quarter turn
        assert right[0] < left[0] + 0.5, record.case  # the right ventricle ends before the apex
        labels = np.stack([store.label(case, at) for at in range(record.slices)])
        area = (labels == store.class_names.index("left ventricle") + 1).sum(axis=(1, 2))
        filled = np.flatnonzero(area)
        assert area[filled[: len(filled) // 2]].sum() > area[filled[-(len(filled) // 2) :]].sum(), record.case
    assert len(seen) == 2


def test_abdomens_are_upright_and_run_from_feet_to_head(store_of: Stores) -> None:
    store = store_of("chaos")
    for case, record in enumerate(store.cases):
        liver, spleen = centre(store, case, "liver"), centre(store, case, "spleen")
        right, left = centre(store, case, "right kidney"), centre(store, case, "left kidney")
        assert liver[2] < spleen[2], record.case
        assert right[2] < left[2], record.case
        assert liver[1] < min(right[1], left[1]), record.case  # in front of the kidneys
        assert liver[0] > right[0], record.case  # above the kidney


def test_the_front_of_the_hippocampus_is_up(store_of: Stores) -> None:
    store = store_of("hippocampus")
    for case in range(len(store.cases)):
        assert centre(store, case, "Anterior")[1] < centre(store, case, "Posterior")[1]


@pytest.mark.parametrize("name", SETS)
def test_labels_go_back_to_their_files(store_of: Stores, realdata: Path, tmp_path: Path, name: str) -> None:
    for record in store_of(name).cases[::7]:
        source = realdata / name / "imagesTr" / f"{record.case}.nii.gz"
        label = realdata / name / "labelsTr" / f"{record.case}.nii.gz"
        volume = read_image([source])
        out = tmp_path / f"{record.case}{volume.geometry.suffix}"
        write_label(out, read_label(label, volume), volume.geometry)
        written, expected = sitk.ReadImage(str(out)), sitk.ReadImage(str(label))
        np.testing.assert_array_equal(sitk.GetArrayFromImage(written), sitk.GetArrayFromImage(expected))
        image = sitk.ReadImage(str(source))
        np.testing.assert_allclose(written.GetOrigin(), image.GetOrigin(), atol=1e-4)
        np.testing.assert_allclose(written.GetSpacing(), image.GetSpacing(), rtol=1e-6)
        np.testing.assert_allclose(written.GetDirection(), image.GetDirection(), atol=1e-6)


def test_one_worker_or_two_make_the_same_bytes(store_of: Stores, realdata: Path, tmp_path: Path) -> None:
    again = prepare(PrepareConfig(source=realdata / "mscmr", out=tmp_path / "again", workers=1))
    assert again.digest == store_of("mscmr").digest


def test_the_preset_of_the_hippocampus_cuts_nothing_off(realdata: Path, tmp_path: Path) -> None:
    config = PrepareConfig(source=realdata / "hippocampus", out=tmp_path / "store", dataset="msd_hippocampus")
    store = prepare(config)
    assert not store.skipped
    assert store.size == (64, 48)


@pytest.mark.parametrize("way", ["masks", "slicer"])
def test_structures_by_name_are_those_by_value(realdata: Path, tmp_path: Path, way: str) -> None:
    """Two patients of chaos, their four organs as a mask each, and as Slicer's segments in another order for each."""
    source, names = realdata / "chaos", {1: "liver", 2: "right kidney", 3: "left kidney", 4: "spleen"}
    files = sorted((source / "labelsTr").glob("*.nii.gz"))[:2]
    by_value, by_name = tmp_path / "by-value", tmp_path / "by-name"
    for number, file in enumerate(files):
        case, label = file.name.removesuffix(".nii.gz"), sitk.ReadImage(str(file), sitk.sitkUInt8)
        for folder in (by_value / "images", by_value / "labels", by_name / case / "segmentations"):
            folder.mkdir(parents=True, exist_ok=True)
        (by_value / "images" / file.name).symlink_to(source / "imagesTr" / file.name)
        (by_value / "labels" / file.name).symlink_to(file)
        (by_name / case / "mr.nii.gz").symlink_to(source / "imagesTr" / file.name)
        if way == "masks":
            for value, name in names.items():
                sitk.WriteImage(label == value, str(by_name / case / "segmentations" / f"{name}.nii.gz"))
            continue
        order = sorted(names, reverse=bool(number))
        segments = sitk.ChangeLabel(label, {float(value): at + 1.0 for at, value in enumerate(order)})
        for at, value in enumerate(order):
            for key, told in {"Name": names[value], "LabelValue": str(at + 1), "Layer": "0"}.items():
                segments.SetMetaData(f"Segment{at}_{key}", told)
        sitk.WriteImage(segments, str(by_name / case / "Segmentation.seg.nrrd"), useCompression=True)
    settings = {"labels": ",".join(f"{value}={name}" for value, name in names.items()), "spacing": 3.0, "workers": 1}
    one, other = (
        prepare(PrepareConfig(source=folder, out=tmp_path / f"{folder.name}-store", **settings))
        for folder in (by_value, by_name)
    )
    assert one.class_names == other.class_names
    for case, record in enumerate(one.cases):
        assert record.voxels == other.cases[case].voxels
        for slice_number in range(record.slices):
            np.testing.assert_array_equal(one.label(case, slice_number), other.label(case, slice_number))
