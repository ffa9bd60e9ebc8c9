"""Sets from which nothing can be learned, or that cannot be scored, are refused before the first step."""

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from jcl.checks.findings import ERROR
from jcl.config import EvaluateConfig, PrepareConfig, PretrainConfig, VerifyConfig
from jcl.data.population import check_labelled, check_slices, check_to_score
from jcl.data.splits import Split
from jcl.data.store import Store
from jcl.errors import DataError, UsageError
from jcl.stages.evaluate import evaluate
from jcl.stages.prepare import prepare
from jcl.stages.pretrain import pretrain
from jcl.stages.verify import verify
from support.scans import write_volumes
from support.thresholds import threshold_network, write_run


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A store whose labels have no voxel above 0, by class names that were given."""
    folder = tmp_path_factory.mktemp("empty")
    source = write_volumes(folder / "scans", patients=3, labelled=3, slices=3, size=16)
    for path in (source / "labels").iterdir():
        _clear(path)
    return prepare(PrepareConfig(source=source, out=folder / "store", labels="1=ball", workers=1))


def _clear(path: Path) -> None:
    sitk.WriteImage(sitk.ReadImage(str(path)) * 0, str(path))


def test_labels_without_a_voxel_are_refused(empty: Store) -> None:
    """Training on them goes on elsewhere, or ends in an error that names no file:
    https://github.com/Project-MONAI/MONAI/issues/6576, https://github.com/Project-MONAI/MONAI/issues/6751,
    https://github.com/Project-MONAI/tutorials/issues/174, https://github.com/MIC-DKFZ/nnUNet/issues/2767.
    """
    with pytest.raises(DataError, match="none of its 3 labels has a voxel of a class; look at the label files"):
        check_labelled(empty)
    with pytest.raises(DataError, match=r"no test case has a labelled voxel \(p0, p1\), so there is nothing to score"):
        check_to_score(empty, [0, 1])


def test_verify_says_so(empty: Store) -> None:
    found = verify(VerifyConfig(path=empty.path)).findings
    assert [(each.level, each.kind) for each in found] == [(ERROR, "labels")]
    assert "none of the 3 labels has a voxel of a class" in found[0].text


def test_evaluate_refuses_before_it_segments(empty: Store, tmp_path: Path) -> None:
    run = write_run(
        tmp_path / "run", threshold_network(0.5), dict(empty.preparation), store=str(empty.path), digest=empty.digest,
        split=Split(train=("p0",), test=("p1", "p2")),
    )  # fmt: skip
    with pytest.raises(DataError, match=r"no test case has a labelled voxel \(p1, p2\)"):
        evaluate(EvaluateConfig(run=run, out=tmp_path / "results.json"))
    assert not (tmp_path / "results.json").exists()


def test_one_slice_cannot_be_compared(tmp_path: Path) -> None:
    source = write_volumes(tmp_path / "scans", patients=1, labelled=0, slices=1, size=16)
    store = prepare(PrepareConfig(source=source, out=tmp_path / "store", workers=1))
    with pytest.raises(DataError, match="1 slice to pre-train on, but pre-training compares slices with each other"):
        pretrain(PretrainConfig(stores=(store.path,), out=tmp_path / "run", steps=1))
    assert not (tmp_path / "run").exists()
    check_slices([store], 2)
    with pytest.raises(UsageError, match="batch_size is 1; pre-training compares slices, so 2 are needed"):
        pretrain(PretrainConfig(stores=(store.path,), out=tmp_path / "run", steps=1, batch_size=1))


def test_a_whole_store_passes(store_path: Path) -> None:
    with_labels = Store.open(store_path)
    check_labelled(with_labels)
    check_to_score(with_labels, [0])


def test_a_constant_volume_is_skipped_with_its_reason(tmp_path: Path) -> None:
    """Elsewhere it is divided by its deviation of 0: https://github.com/TorchIO-project/torchio/issues/620,
    https://github.com/MMIV-ML/fastMONAI/issues/39.
    """
    source = write_volumes(tmp_path / "scans", patients=2, labelled=0, slices=3, size=16)
    sitk.WriteImage(sitk.GetImageFromArray(np.full((3, 16, 16), 7, np.int16)), str(source / "images" / "p0.nii.gz"))
    (skipped,) = prepare(PrepareConfig(source=source, out=tmp_path / "store", workers=1)).skipped
    assert skipped.reason == "images/p0.nii.gz: all voxels are 7; leave it out"
