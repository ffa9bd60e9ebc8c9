"""Slices drawn by structure: which show one, how often each comes, and that the order stays one of all processes."""

import itertools
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from jcl.config import PrepareConfig
from jcl.data.sampler import BatchSampler
from jcl.data.slices import list_slices
from jcl.data.store import Store
from jcl.data.structure_draws import StructureDraws, structure_draws
from jcl.stages.prepare import prepare
from support.shared import made_once


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    def make(out: Path) -> None:
        scans = out.with_name("scans")
        for part in ("images", "labels"):
            (scans / part).mkdir(parents=True)
        for case in range(2):
            image = np.random.default_rng(case).normal(size=(6, 8, 8)).astype(np.float32)
            label = np.zeros((6, 8, 8), np.uint8)
            label[1:5, 2:6, 2:6] = 1
            label[3, 4, 4] = 2 if case else 1
            label[:, 0, 0] = 255
            for part, array in (("images", image), ("labels", label)):
                sitk.WriteImage(sitk.GetImageFromArray(array), str(scans / part / f"p{case}.nii.gz"))
        prepare(PrepareConfig(source=scans, out=out, labels="1=large,2=small,3=none", ignore=255, workers=1))

    return made_once(tmp_path_factory, "draws", make)


def draws_of(path: Path, share: float) -> StructureDraws:
    store = Store.open(path)
    found = structure_draws(store, list_slices([store], [None], labelled=True), share)
    assert found is not None
    return found


def test_the_slices_of_each_structure_are_those_that_a_loop_finds(path: Path):
    store = Store.open(path)
    slices = list_slices([store], [None], labelled=True)
    expected = [
        [n for n in range(len(slices)) if (store.label(slices[n].case, slices[n].slice) == value).any()]
        for value in (1, 2)
    ]  # nobody has the third, and 255 is ignored
    assert [each.tolist() for each in draws_of(path, 0.5).showing] == expected
    assert len(expected[1]) == 1


def test_nothing_is_read_where_nothing_is_drawn(path: Path, monkeypatch: pytest.MonkeyPatch):
    store = Store.open(path)
    slices = list_slices([store], [None], labelled=True)
    monkeypatch.setattr(Store, "label", None)
    assert structure_draws(store, slices, 0.0) is None


@pytest.mark.parametrize("share", [0.25, 0.5, 1.0])
def test_each_structure_comes_as_often_and_the_share_is_kept(share: float):
    draws = StructureDraws(share, [np.array([100, 101, 102]), np.array([200])])
    counts = Counter[int]()
    for seed in range(2000):
        batch = draws.replace([0, 1, 2, 3, 4], np.random.default_rng(seed))
        assert len(batch) == 5
        counts.update(batch)
    assert sum(counts[n] for n in (100, 101, 102)) / 10_000 == pytest.approx(share / 2, abs=0.02)
    assert counts[200] / 10_000 == pytest.approx(share / 2, abs=0.02)
    for place in range(5):  # which places are drawn anew is chance too
        assert counts[place] / 2000 == pytest.approx(1 - share, abs=0.04)


def order(redraw: Callable | None, **more) -> BatchSampler:
    return BatchSampler([0] * 20, 3, seed=4, redraw=redraw, **more)


def test_the_order_goes_on_at_any_step_and_is_that_of_all_processes():
    draws = StructureDraws(0.5, [np.array([17, 18]), np.array([19])])
    whole = list(itertools.islice(order(draws.replace), 20))
    plain = list(itertools.islice(order(None), 20))
    assert [a == b for a, b in zip(whole, plain, strict=True)] != [True] * 20
    for start in (1, 6, 7, 13):
        assert list(itertools.islice(order(draws.replace, start=start), 20 - start)) == whole[start:]
    parts = [
        itertools.islice(BatchSampler([0] * 20, 3, seed=4, processes=2, rank=r, redraw=draws.replace), 20)
        for r in (0, 1)
    ]
    joint = BatchSampler([0] * 20, 6, seed=4, redraw=draws.replace)
    assert [a + b for a, b in zip(*parts, strict=True)] == list(itertools.islice(joint, 20))


def test_no_two_steps_draw_by_the_same_chance():
    seen: list[float] = []

    def note(batch: list[int], random: np.random.Generator) -> list[int]:
        seen.append(random.random())
        return batch

    list(itertools.islice(order(note), 20))
    assert len(set(seen)) == 20
    assert np.random.default_rng((4, 0)).random() not in seen  # the shuffle's own
