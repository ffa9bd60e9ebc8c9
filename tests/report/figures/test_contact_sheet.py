"""Contact sheets: a tile a case, true to the proportions, with each class where it is and in its colour."""

import re
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread

from jcl.data.manifest import SkippedCase
from jcl.data.store import Store
from jcl.data.store_writing import write_case, write_manifest
from jcl.errors import DataError
from jcl.report.figures import contact_sheet
from jcl.report.figures.contact_sheet import draw_contact_sheets
from jcl.report.figures.pictures import COLOURS


def make_store(
    path: Path,
    cases: int,
    *,
    shape: tuple[int, int] = (24, 24),
    spacing: tuple[float, float, float] = (3.0, 1.0, 1.0),
    names: str = "case {}",
    channels: int = 1,
    labelled: bool = True,
    **recipe,
) -> Store:
    """Grey cases with a bright lower right corner; class 1 is the upper half of slice 1, class 2 a block below."""
    (path / "cases").mkdir(parents=True)
    labels = np.zeros((3, *shape), np.uint8)
    labels[1, : shape[0] // 2] = 1
    labels[1, shape[0] // 2 + 2 : -2, 2 : shape[1] // 2] = 2
    image = np.full((channels, 3, *shape), 0.5, np.float32)
    image[:, :, -4:, -4:] = 1
    image[0, :, :2, :2] = 0
    if channels == 3:
        image[1:] = 0.2
    records = [
        write_case(
            path, image, labels if labelled else None, case=names.format(number), patient=f"p{number}",
            spacing=spacing, source={"images": [], "label": []}, classes=2,
        )
        for number in range(cases)
    ]  # fmt: skip
    refused = [SkippedCase("bad", "bad", "images/bad.nii: cut short")]
    side = -(-max(shape) // 16) * 16
    settings = {"channels": channels, "padded": [side, side], "classes": ["liver", "spleen"], **recipe}
    write_manifest(path, settings, records, refused)
    return Store.open(path)


def pixels(path: Path) -> np.ndarray:
    return np.rint(255 * imread(path)[..., :3]).astype(int)


def tiles(picture: np.ndarray) -> list[tuple[slice, slice]]:
    """Rectangles without background, found in the picture: first rows that hold any, then columns within those."""
    busy = (picture != picture[0, 0]).any(-1)
    wide = [r for r in runs(busy.mean(axis=1) > 0.05) if r.stop - r.start > 40]
    return [(rows, columns) for rows in wide for columns in runs(busy[rows].mean(axis=0) > 0.8)]


def runs(flags: np.ndarray) -> list[slice]:
    edges = np.flatnonzero(np.diff(np.concatenate(([0], flags.astype(int), [0]))))
    return [slice(start, stop) for start, stop in edges.reshape(-1, 2)]


def distance(picture: np.ndarray, colour: str) -> np.ndarray:
    rgb = [int(colour[k : k + 2], 16) for k in (1, 3, 5)]
    return abs(picture - rgb).max(-1)


def test_one_tile_a_case_of_the_slice_asked_for(tmp_path: Path) -> None:
    store = make_store(tmp_path / "store", 7)
    (path,) = draw_contact_sheets(tmp_path, store, [0] + [1] * 6)
    picture = pixels(path)
    plain, *labelled = (picture[place] for place in tiles(picture))
    assert (np.ptp(plain, axis=-1) == 0).all()  # nothing is labelled in slice 0
    assert len(labelled) == 6
    for tile in labelled:
        height, width = tile.shape[:2]
        assert (height, width) == (contact_sheet.SIDE, contact_sheet.SIDE)
        first, second = (distance(tile, colour) < 8 for colour in COLOURS[:2])
        # the outline of each class, inside its border: the upper half's, and a block's in the lower left
        assert first.any()
        assert np.argwhere(first)[:, 0].max() < height / 2
        assert np.argwhere(second)[:, 0].min() > height / 2
        assert np.argwhere(second)[:, 1].max() < width / 2
        assert (tile[-10, -10] > 245).all()  # the bright corner has no colour over it


def test_proportions_are_those_of_the_spacing(tmp_path: Path) -> None:
    """20 rows of 3 mm and 40 columns of 1 mm are 60 x 40 mm."""
    store = make_store(tmp_path / "store", 3, shape=(20, 40), spacing=(5.0, 3.0, 1.0))
    (path,) = draw_contact_sheets(tmp_path, store, [1] * 3)
    for rows, columns in tiles(pixels(path)):
        assert (rows.stop - rows.start) / (columns.stop - columns.start) == pytest.approx(1.5, rel=0.02)


def test_pages(tmp_path: Path) -> None:
    store = make_store(tmp_path / "store", 7)
    for number in (4, 5):
        (tmp_path / f"contact_sheet_{number}.png").touch()  # of an earlier, larger set
    paths = draw_contact_sheets(tmp_path, store, [1] * 7, a_page=3)
    assert [path.name for path in paths] == ["contact_sheet.png", "contact_sheet_2.png", "contact_sheet_3.png"]
    assert [len(tiles(pixels(path))) for path in paths] == [3, 3, 1]
    assert sorted(path.name for path in tmp_path.glob("*.png")) == sorted(path.name for path in paths)


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """All texts of the pages."""
    texts: list[str] = []
    draw = contact_sheet._png

    def keep(canvas: np.ndarray, entries: list) -> bytes:
        texts.extend(entry["s"] for entry in entries)
        return draw(canvas, entries)

    monkeypatch.setattr(contact_sheet, "_png", keep)
    return texts


def test_names_classes_and_refused_cases_are_written(tmp_path: Path, written: list[str]) -> None:
    draw_contact_sheets(tmp_path, make_store(tmp_path / "store", 4), [1] * 4, a_page=2)
    assert [text for text in written if re.fullmatch(r"case \d", text)] == ["case 0", "case 1", "case 2", "case 3"]
    assert written.count("liver") == 2  # the legend is on each page
    assert written.count("slice 2 of 3") == 4
    assert written[-2:] == ["1 skipped:", "images/bad.nii: cut short"]
    assert written.count("1 skipped:") == 1  # at the end only


def test_odd_names(tmp_path: Path, written: list[str]) -> None:
    """Mathematics, scripts that the font lacks, long names, and bytes that are no UTF-8."""
    names = "a$b_{{c}}$ 心臓 " + "long " * 20 + "\udcff {}"
    (path,) = draw_contact_sheets(tmp_path, make_store(tmp_path / "store", 2, names=names), [1] * 2)
    assert len(tiles(pixels(path))) == 2
    (first, second) = [text for text in written if text.startswith("a$b")]
    assert "…" in first
    assert first != second
    assert len(first) < 40


def test_a_damaged_case_is_told(tmp_path: Path, written: list[str]) -> None:
    store = make_store(tmp_path / "store", 3)
    (tmp_path / "store" / "cases" / "case 1" / "images.slices").unlink()
    (path,) = draw_contact_sheets(tmp_path, store, [1, 1, None])
    assert written.count("damaged") == 1
    assert written.count("cannot be shown") == 1
    assert len(tiles(pixels(path))) == 3


@pytest.mark.parametrize(("modality", "coloured"), [("dermoscopy, colour", True), ("MRI", False)])
def test_three_channels_are_colours_where_the_set_says_so(tmp_path: Path, modality: str, coloured: bool) -> None:
    store = make_store(tmp_path / "store", 1, channels=3, modality=modality, labelled=False)
    (path,) = draw_contact_sheets(tmp_path, store, [1])
    rows, columns = tiles(pixels(path))[0]
    middle = pixels(path)[rows, columns][80:100, 80:100]
    assert (np.ptp(middle, axis=-1) > 50).all() == coloured


def test_findings_colour_the_names(tmp_path: Path) -> None:
    store = make_store(tmp_path / "store", 2)
    (path,) = draw_contact_sheets(tmp_path, store, [0, 0], marks={"case 0": "error"})
    assert (distance(pixels(path), contact_sheet.MARKS["error"]) < 60).any()
    (path,) = draw_contact_sheets(tmp_path, store, [0, 0], marks={})
    assert not (distance(pixels(path), contact_sheet.MARKS["error"]) < 60).any()


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere/contact_sheet\.png"):
        draw_contact_sheets(tmp_path / "nowhere", make_store(tmp_path / "store", 1), [1])
