"""Suggestions on real volumes: the slices that are named are in the files, and nobody is named who is held back."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from jcl.config import PretrainConfig, SuggestConfig
from jcl.data.splits import read_split
from jcl.data.store import Store
from jcl.stages.pretrain import pretrain
from jcl.stages.suggest import suggest

pytestmark = [pytest.mark.realdata, pytest.mark.slow]


@pytest.mark.parametrize("name", ["mscmr", "hippocampus"])
def test_slices_are_those_of_the_files(realdata: Path, store_of: Callable[[str], Store], tmp_path: Path, name: str):
    store = store_of(name)
    run = tmp_path / "pre"
    pretrain(PretrainConfig(stores=(store.path,), out=run, fold=0, width=4, steps=1, batch_size=4))
    found = suggest(
        SuggestConfig(store=store.path, run=(run,), patients=3, among="all", source=realdata / name, slices=2)
    )
    split = read_split(run / "split.json")
    assert len(set(found.patients)) == 3
    assert set(found.patients) <= set(split.train)
    numbers = {record.case: number for number, record in enumerate(store.cases)}
    for case in (case for each in found.suggestions for case in each.cases):
        record, content = store.cases[numbers[case.case]], store.content(numbers[case.case])
        for one in case.chosen:
            assert one.origin is not None
            array = sitk.GetArrayFromImage(sitk.ReadImage(str(realdata / name / one.origin.file)))
            voxels = np.take(array, one.origin.index, axis="zyx".index(one.origin.axis)).astype(float)
            stored = store.image(numbers[case.case], one.slice)[0][content]
            clipped = np.clip(voxels, *np.percentile(array, (1, 99)))
            scaled = (clipped.mean() - np.percentile(array, 1)) / np.ptp(np.percentile(array, (1, 99)))
            assert stored.mean() == pytest.approx(scaled, abs=0.01)
            assert record.slices == array.shape["zyx".index(one.origin.axis)]
