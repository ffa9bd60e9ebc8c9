"""The picture of suggestions: a row for each scan, with names of all kinds, and no more than can be looked at."""

import io
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest

from jcl.config import PrepareConfig
from jcl.data.origins import SliceOrigin
from jcl.data.store import Store
from jcl.inference import suggestion_overview
from jcl.inference.suggestion_overview import draw_suggestions
from jcl.inference.suggestions import SuggestedCase, SuggestedSlice, Suggestion, Suggestions
from jcl.stages.prepare import prepare
from support.scans import write_volumes
from support.shared import made_once


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    def make(out: Path) -> None:
        scans = write_volumes(out.with_name("scans"), patients=3, slices=4, size=16)
        prepare(PrepareConfig(source=scans, out=out, labels="1=ball", workers=1))

    return Store.open(made_once(tmp_path_factory, "suggested", make))


def suggested(store: Store, *slices: int, patient: str = "anna", origin: SliceOrigin | None = None) -> Suggestions:
    chosen = tuple(SuggestedSlice(number, None, origin) for number in slices)
    cases = tuple(SuggestedCase(record.case, record.slices, None, chosen) for record in store.cases)
    return Suggestions("store", ("run",), 3, 0, 0, 0, (Suggestion(1, patient, 1, 0.5, None, None, cases),))


def height(content: bytes) -> int:
    return matplotlib.image.imread(io.BytesIO(content)).shape[0]


def test_a_row_for_each_scan_up_to_the_most(store: Store, monkeypatch: pytest.MonkeyPatch):
    three = height(draw_suggestions(store, suggested(store, 0, 2)))
    monkeypatch.setattr(suggestion_overview, "MOST", 1)
    one = height(draw_suggestions(store, suggested(store, 0, 2)))
    assert 2 * one < three < 3 * one


@pytest.mark.parametrize("patient", ["_hidden", "$\\frac{", "left\natrium\u202e", "p0"])
def test_names_of_all_kinds(store: Store, patient: str):
    origin = SliceOrigin("a.nii.gz", "z", 3, (0.0, 0.0, 0.0))
    assert draw_suggestions(store, suggested(store, 1, patient=patient, origin=origin)).startswith(b"\x89PNG")


def test_the_slices_are_those_of_the_store(store: Store, monkeypatch: pytest.MonkeyPatch):
    read: list[tuple[int, int]] = []
    image = Store.image

    def keep(self: Store, case: int, number: int) -> np.ndarray:
        read.append((case, number))
        return image(self, case, number)

    monkeypatch.setattr(Store, "image", keep)
    draw_suggestions(store, suggested(store, 3, 1))
    assert read == [(case, number) for case in range(3) for number in (3, 1)]
