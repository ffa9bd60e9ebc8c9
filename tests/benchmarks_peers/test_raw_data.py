"""What peers get: the volumes as they are, labels as numbers from 1, and the patients that jcl itself would take."""

import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from benchmarks.peers.raw_data import draw, export_source, export_store, spec_of

from jcl.config import FinetuneConfig, PrepareConfig
from jcl.data.store import Store
from jcl.stages.prepare import prepare
from jcl.training.run_split import finetuning_split


def place(image: sitk.Image) -> tuple[float, ...]:
    return (*image.GetSpacing(), *image.GetOrigin(), *image.GetDirection())


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_source_volumes_keep_their_voxels_and_their_place(source: Path, tmp_path: Path):
    split = draw(source, labelled=2, fold=0)
    export_source(source, tmp_path / "raw", split)
    for folder, patients in (("imagesTr", split.train), ("imagesTs", split.test)):
        assert names(tmp_path / "raw" / folder) == [f"{name}_0000.nii.gz" for name in sorted(patients)]
        for name in patients:
            written = sitk.ReadImage(str(tmp_path / "raw" / folder / f"{name}_0000.nii.gz"))
            image = sitk.ReadImage(str(source / "imagesTr" / f"{name}.nii.gz"))
            assert (sitk.GetArrayFromImage(written) == sitk.GetArrayFromImage(image)).all()
            assert place(written) == pytest.approx(place(image), abs=1e-4)
    assert names(tmp_path / "raw" / "labelsTr") == [f"{name}.nii.gz" for name in sorted(split.train)]
    for name in split.train:
        written = sitk.ReadImage(str(tmp_path / "raw" / "labelsTr" / f"{name}.nii.gz"))
        label = sitk.ReadImage(str(source / "labelsTr" / f"{name}.nii.gz"))
        values = sitk.GetArrayFromImage(label)
        assert (sitk.GetArrayFromImage(written) == np.where(values == 200, 1, np.where(values == 500, 2, 0))).all()
        assert place(written) == pytest.approx(place(label), abs=1e-4)


def test_files_of_another_format_keep_their_grid(source: Path, tmp_path: Path):
    split = draw(source, labelled=1, fold=0)
    (name,) = split.train
    path = source / "imagesTr" / f"{name}.nii.gz"
    image = sitk.ReadImage(str(path))
    sitk.WriteImage(image, str(path.with_name(f"{name}.nrrd")))
    path.unlink()
    about = (source / "dataset.json").read_text().replace(f"imagesTr/{name}.nii.gz", f"imagesTr/{name}.nrrd")
    (source / "dataset.json").write_text(about)
    export_source(source, tmp_path / "raw", split)
    written = sitk.ReadImage(str(tmp_path / "raw" / "imagesTr" / f"{name}_0000.nii.gz"))
    assert (sitk.GetArrayFromImage(written) == sitk.GetArrayFromImage(image)).all()
    assert place(written) == pytest.approx(place(image), abs=1e-4)


def test_what_nnunet_is_told(source: Path, tmp_path: Path):
    split = draw(source, labelled=2, fold=0)
    export_source(source, tmp_path / "raw", split)
    about = json.loads((tmp_path / "raw" / "dataset.json").read_text())
    assert about == {
        "channel_names": {"0": "MRI"}, "labels": {"background": 0, "left": 1, "right": 2}, "numTraining": 2,
        "file_ending": ".nii.gz",
    }  # fmt: skip
    folds = json.loads((tmp_path / "raw" / "splits_final.json").read_text())
    assert folds == [{"train": list(split.train), "val": list(split.train)}]


@pytest.fixture
def store(source: Path, tmp_path: Path) -> Path:
    prepare(PrepareConfig(source=source, out=tmp_path / "store", spacing=2.5, size=16, workers=1))
    return tmp_path / "store"


@pytest.mark.parametrize(("labelled", "fold"), [(1, 0), (3, 0), (2, 4)])
def test_the_patients_are_those_that_finetune_takes(
    source: Path, store: Path, tmp_path: Path, labelled: int, fold: int
):
    config = FinetuneConfig(store=store, init="none", out=tmp_path / "run", patients=labelled, fold=fold)
    split = draw(source, labelled=labelled, fold=fold)
    assert split == finetuning_split(config, Store.open(store))[1]
    assert len(split.train) == labelled
    assert "p6" not in {*split.train, *split.test}


def test_volumes_of_a_store_are_its_slices_without_padding(source: Path, store: Path, tmp_path: Path):
    split = draw(source, labelled=2, fold=0)
    export_store(store, tmp_path / "raw", split)
    assert names(tmp_path / "raw" / "imagesTs") == [f"{name}_0000.nii.gz" for name in split.test]
    opened = Store.open(store)
    for number, record in enumerate(opened.cases):
        if record.case not in split.train:
            continue
        image = sitk.ReadImage(str(tmp_path / "raw" / "imagesTr" / f"{record.case}_0000.nii.gz"))
        label = sitk.ReadImage(str(tmp_path / "raw" / "labelsTr" / f"{record.case}.nii.gz"))
        assert image.GetSpacing() == pytest.approx(record.spacing[::-1], abs=1e-5)
        assert place(label) == place(image)
        top, left = ((16 - side) // 2 for side in record.shape)
        for own in range(record.slices):
            inside = np.s_[top : top + record.shape[0], left : left + record.shape[1]]
            assert (sitk.GetArrayFromImage(image)[own] == opened.image(number, own)[0][inside]).all()
            assert (sitk.GetArrayFromImage(label)[own] == opened.label(number, own)[inside]).all()


def test_voxels_to_be_ignored_are_refused(source: Path):
    about = (source / "dataset.json").read_text().replace('"right"', '"ignore"')
    (source / "dataset.json").write_text(about)
    with pytest.raises(ValueError, match="ignored"):
        spec_of(source)
