"""Segmentations side by side: the case that the rule names, the models' own labels, and scores counted anew."""

import io
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.ndimage import binary_dilation

from jcl.errors import DataError
from jcl.report.figures.case_selection import first_with_scores, median_case, ordered_cases, reference_row
from jcl.report.figures.overlay import rgb
from jcl.report.figures.panels import extreme_cases, segmentation_panels
from jcl.report.figures.pictures import COLOURS
from jcl.report.figures.segment_again import segment_slices
from jcl.training.run_folder import load_network
from support.keptmodels import CLASSES


def mean_dice(case: dict) -> float:
    return float(np.mean([s["dice"] for s in case["classes"].values() if s["dice"] is not None]))


def slow_labels(cell, store, case: int, number: int) -> np.ndarray:
    """By the network as it was trained, one slice at a time."""
    network, _ = load_network(cell.folder / "run")
    with torch.no_grad():
        logits = network(torch.from_numpy(store.image(case, number))[None])
    return logits[0].argmax(0).numpy()[store.content(case)]


def slow_miou(labels: np.ndarray, truth: np.ndarray) -> float:
    found = [((labels == k) & (truth == k)).sum() / ((labels == k) | (truth == k)).sum() for k in (1, 2)
             if ((labels == k) | (truth == k)).any()]  # fmt: skip
    return float(np.mean(found))


def shown(tile) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(tile.png)).convert("RGB"))


def test_a_model_of_another_store_is_refused(kept, tmp_path):
    from support.keptmodels import write_store

    _, grid, _ = kept
    other = write_store(tmp_path / "other", patients=2)
    with pytest.raises(DataError, match="another store"):
        segment_slices(grid.cells["JCL", "M=2"][0].folder / "run", other, [(0, 0)])


def test_cases_are_chosen_by_rank(kept):
    _, grid, _ = kept
    cells = grid.cells["JCL", "M=2"]
    dice = sorted((mean_dice(case), case["case"]) for cell in cells for case in cell.cases)
    assert [each.case for each in ordered_cases(cells)] == [name for _, name in dice]
    assert [each.dice for each in ordered_cases(cells)] == pytest.approx([value for value, _ in dice])
    assert median_case(cells).case == dice[2][1]
    assert median_case(cells[:1]).case == sorted((mean_dice(c), c["case"]) for c in cells[0].cases)[1][1]
    even = replace(cells[0], cases=cells[0].cases[:2])  # the lower of the two in the middle
    assert median_case([even]).dice == pytest.approx(min(mean_dice(case) for case in even.cases))
    assert median_case(grid.cells["Late", "M=2"]) is None
    assert reference_row(grid) == "JCL"
    assert reference_row(replace(grid, rows=("A", "B"))) == "B"
    assert first_with_scores(grid) == "M=2"
    assert first_with_scores(grid, "Late") is None


def test_a_row_of_panels_is_the_median_case_of_jcl(kept):
    benchmark, grid, store = kept
    panels = segmentation_panels(benchmark, grid)
    assert panels.titles == ("image", "PCL", "Broken", "Late", "JCL", "ground truth")
    assert panels.legend == tuple(zip(CLASSES, COLOURS, strict=False))
    (row,) = panels.rows
    chosen = median_case(grid.cells["JCL", "M=2"])
    assert (row.case, row.fold, row.seed) == (chosen.case, chosen.cell.fold, 0)
    case = next(n for n, record in enumerate(store.cases) if record.case == row.case)
    truths = [store.label(case, n)[store.content(case)] for n in range(row.slices)]
    assert row.slice == max(range(4), key=lambda n: ((truths[n] > 0).sum(), -n))
    tiles = dict(zip(panels.titles, row.tiles, strict=True))
    cell = next(c for c in grid.cells["JCL", "M=2"] if c.fold == row.fold)
    labels = slow_labels(cell, store, case, row.slice)
    assert tiles["JCL"].miou == pytest.approx(slow_miou(labels, truths[row.slice]), abs=1e-9)
    assert tiles["JCL"].dice == pytest.approx(chosen.dice)
    assert tiles["Late"].png is None
    assert tiles["Late"].note == ("missing" if row.fold == 0 else "failed")
    assert tiles["Broken"].png is None
    assert "no model" in tiles["Broken"].note or tiles["Broken"].note == "missing"
    assert tiles["image"].miou is None
    assert tiles["ground truth"].miou is None


def test_pictures_have_the_proportions_of_the_body_and_the_colours_of_the_classes(kept):
    benchmark, grid, store = kept
    (row,) = segmentation_panels(benchmark, grid).rows
    picture = shown(row.tiles[-1])
    assert picture.shape == (round(144 * 20 / 42), 144, 3)  # 20 pixels of 1 mm by 28 of 1.5
    case = next(n for n, record in enumerate(store.cases) if record.case == row.case)
    truth = store.label(case, row.slice)[store.content(case)]
    for k in (1, 2):
        places = np.argwhere((picture == rgb(COLOURS[k - 1])).all(-1))
        assert len(places) > 10
        rows, columns = (places / np.array(picture.shape[:2]) * np.array(truth.shape)).astype(int).T
        assert binary_dilation(truth == k, np.ones((3, 3)))[rows, columns].all()  # its border is smoothed, no more
    grey = shown(row.tiles[0])
    assert (grey == grey[..., :1]).all()


def test_worst_and_best_of_each_row(kept):
    benchmark, grid, store = kept
    found = extreme_cases(benchmark, grid)
    assert found.column == "M=2"
    methods = {each.row: each for each in found.methods}
    assert list(methods) == list(grid.rows)
    dice = sorted((mean_dice(case), case["case"]) for cell in grid.cells["JCL", "M=2"] for case in cell.cases)
    assert (methods["JCL"].worst.case, methods["JCL"].best.case) == (dice[0][1], dice[-1][1])
    assert methods["JCL"].worst.tiles[0].dice == pytest.approx(dice[0][0])
    assert (methods["Late"].worst, methods["Late"].note) == (None, "missing, failed")
    assert methods["Broken"].best.tiles[0].png is None
    best = methods["PCL"].best
    case = next(n for n, record in enumerate(store.cases) if record.case == best.case)
    labels = slow_labels(grid.cells["PCL", "M=2"][0], store, case, best.slice)
    truth = store.label(case, best.slice)[store.content(case)]
    assert best.tiles[0].miou == pytest.approx(slow_miou(labels, truth), abs=1e-9)
    assert (shown(best.tiles[0]) == 255).all(-1).sum() > 20  # the truth's outline


def test_an_unfinished_table_has_no_rows(kept):
    benchmark, grid, _ = kept
    cells = {
        place: tuple(replace(cell, cases=(), status="missing") for cell in each) for place, each in grid.cells.items()
    }
    empty = replace(grid, cells=cells)
    assert segmentation_panels(benchmark, empty).rows == ()
    found = extreme_cases(benchmark, empty)
    assert found.column is None
    assert {each.note for each in found.methods} == {"missing"}
