"""What the viewer gets: sprites hold the slices, the truth and what the models say, in their places."""

import base64
import io
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from jcl.report.figures.case_selection import ordered_cases
from jcl.report.figures.overlay import rgb, windowed
from jcl.report.figures.pictures import COLOURS
from jcl.report.figures.slices import viewer_data
from jcl.training.run_folder import load_network


def opened(uri: str) -> Image.Image:
    head, _, body = uri.partition(",")
    assert head == "data:image/png;base64"
    return Image.open(io.BytesIO(base64.b64decode(body)))


def cut(sprite: np.ndarray, case: dict) -> np.ndarray:
    """The slices of a sprite, one by one as the description of the format says."""
    height, width, across = case["height"], case["width"], case["columns"]
    tiles = []
    for number in range(case["slices"]):
        top, left = number // across * height, number % across * width
        tiles.append(sprite[top : top + height, left : left + width])
    return np.stack(tiles)


def test_sprites_hold_the_slices_of_the_store_and_of_the_models(kept):
    benchmark, grid, store = kept
    data = json.loads(json.dumps(viewer_data(benchmark, grid)))
    assert data["column"] == "M=2"
    assert [each["colour"] for each in data["classes"]] == list(COLOURS[:2])
    assert len(data["cases"]) == 2
    ordered = ordered_cases(grid.cells["JCL", "M=2"])
    assert [case["case"] for case in data["cases"]] == [ordered[2].case, ordered[0].case]  # the median and the lowest
    states = {each["row"]: each for each in data["cases"][0]["predictions"]}
    assert list(states) == list(grid.rows)
    assert (states["Late"]["labels"], states["Broken"]["labels"]) == (None, None)
    assert states["Late"]["status"] in ("missing", "failed")
    cells = {place: tuple(replace(cell, cases=()) for cell in each) for place, each in grid.cells.items()}
    empty = viewer_data(benchmark, replace(grid, cells=cells))
    assert (empty["cases"], empty["column"]) == ([], None)
    for case in data["cases"]:
        number = next(n for n, record in enumerate(store.cases) if record.case == case["case"])
        inside = store.content(number)
        images = np.stack([store.image(number, n)[0][inside] for n in range(case["slices"])])
        image = np.asarray(opened(case["image"]))
        np.testing.assert_allclose(cut(image, case), 252 * windowed(images.astype(float)), atol=2.1)
        truth = opened(case["truth"])
        labels = np.stack([store.label(number, n)[inside] for n in range(case["slices"])])
        assert (cut(np.asarray(truth), case) == labels).all()
        colours = cut(np.asarray(truth.convert("RGBA")), case)
        assert (colours[..., 3] == np.where(labels > 0, 255, 0)).all()
        assert (colours[labels == 2][:, :3] == rgb(COLOURS[1])).all()
        assert labels[case["first"]].astype(bool).sum() == labels.astype(bool).sum(axis=(1, 2)).max()
        assert case["aspect"] == pytest.approx(1.0 / 1.5)
        (jcl,) = [each for each in case["predictions"] if each["row"] == "JCL"]
        assert jcl["dice"] == pytest.approx(next(each.dice for each in ordered if each.case == case["case"]))
        cell = next(c for c in grid.cells["JCL", "M=2"] if c.fold == case["fold"])
        network, _ = load_network(cell.folder / "run")
        with torch.no_grad():
            logits = network(torch.from_numpy(np.stack([store.image(number, n) for n in range(case["slices"])])))
        found = cut(np.asarray(opened(jcl["labels"])), case)
        assert (found == logits.argmax(1).numpy()[:, *inside]).mean() == pytest.approx(1, abs=0.001)  # rounding
