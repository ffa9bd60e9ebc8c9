"""Contact sheets: a slice of each case of a store with its labels, to see at a glance what is in it."""

import io
import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from jcl.data.manifest import IGNORE
from jcl.data.store import Store
from jcl.errors import DataError
from jcl.files import write_atomically
from jcl.report.figures.overlay import extent, overlay, resampling, resize_labels, rgb, scaled_size, veil, windowed
from jcl.report.figures.pictures import COLOURS
from jcl.text import printable

__all__ = ["draw_contact_sheets"]

A_PAGE = 60
"""Cases on a page."""

SIDE = 190
"""Longer side of a tile, in pixels of the picture."""

GAP, MARGIN, CAPTION, LINE = 8, 18, 30, 20
"""Pixels between tiles, around all, for what stands under a tile, and for a line of text."""

BACKGROUND, TILE, TEXT, DIM = "#16181d", "#000000", "#e8e8e8", "#9aa0aa"
MARKS = {"error": "#ff5c5c", "note": "#ffc857"}
"""Colours of the names of cases with findings."""

DOTS = 100
MOST_SKIPPED = 20


@dataclass(frozen=True)
class _Page:
    """Where things are on a page, in pixels."""

    columns: int
    rows: int
    tile: tuple[int, int]
    head: int
    foot: int

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        height = self.rows * (self.tile[0] + CAPTION + GAP) - GAP
        return self.head + height + self.foot + MARGIN, 2 * MARGIN + self.columns * (self.tile[1] + GAP) - GAP

    def place(self, number: int) -> tuple[int, int]:
        """Top and left of tile `number`."""
        row, column = divmod(number, self.columns)
        return self.head + row * (self.tile[0] + CAPTION + GAP), MARGIN + column * (self.tile[1] + GAP)


def draw_contact_sheets(
    folder: Path,
    store: Store,
    shown: Sequence[int | None],
    *,
    marks: Mapping[str, str] | None = None,
    a_page: int = A_PAGE,
) -> list[Path]:
    """Draw `contact_sheet.png`, `contact_sheet_2.png`, … with a tile a case; returns their paths.

    A tile shows the slice at its true proportions, scaled to fit. Three channels in colour are shown so, of
    others the first. Pages of an earlier, larger sheet in `folder` are removed.

    Args:
        folder: where the pictures go; it has to be there.
        store: read one slice at a time.
        shown: number of the slice of each case; None leaves its tile black.
        marks: level of the worst finding of a case, which colours its name.
        a_page: cases on a page.

    Raises:
        DataError: a picture cannot be written.
    """
    pages = max(1, math.ceil(len(store.cases) / a_page))
    paths = [folder / f"contact_sheet{'' if page == 0 else f'_{page + 1}'}.png" for page in range(pages)]
    tile = _tile_size(store)
    for page, path in enumerate(paths):
        cases = range(page * a_page, min(len(store.cases), (page + 1) * a_page))
        head = f"{store.path.resolve().name}: {len(store.cases)} cases" + (
            f", page {page + 1} of {pages}" * (pages > 1)
        )
        write_atomically(path, _draw(store, cases, shown, tile, head, marks or {}, last=page == pages - 1))
    number = pages + 1
    while (old := folder / f"contact_sheet_{number}.png").exists():
        old.unlink()
        number += 1
    return paths


def _draw(
    store: Store,
    cases: range,
    shown: Sequence[int | None],
    tile: tuple[int, int],
    head: str,
    marks: Mapping[str, str],
    *,
    last: bool,
) -> bytes:
    """A page as a PNG."""
    # enough columns for a page that is wider than high, and for the legend
    aspect = (tile[0] + CAPTION) / tile[1]
    columns = min(10, max(math.ceil(math.sqrt(1.6 * len(cases) * aspect)), math.ceil(640 / (tile[1] + GAP))))
    width = columns * (tile[1] + GAP) - GAP
    legend = _legend_lines(store.class_names, width)
    foot = _foot_lines(store, width) if last else []
    page = _Page(
        columns, math.ceil(len(cases) / columns), tile, MARGIN + 24 + LINE * len(legend) + 10,
        10 + LINE * len(foot) if foot else 0,
    )  # fmt: skip
    canvas = np.full((*page.size, 3), rgb(BACKGROUND), np.uint8)
    texts: list[dict[str, Any]] = [_text(MARGIN, MARGIN + 8, printable(head), size=13, weight="bold")]
    for number, case in enumerate(cases):
        record, (top, left) = store.cases[case], page.place(number)
        pixels, note = _tile(store, case, shown[case], tile)
        canvas[top : top + tile[0], left : left + tile[1]] = pixels
        below = top + tile[0]
        colour = MARKS.get(marks.get(record.case, ""), TEXT)
        texts.append(_text(left, below + 10, _fit(printable(record.case), tile[1], 8), size=8, colour=colour))
        texts.append(_text(left, below + 23, _fit(note, tile[1], 7), size=7, colour=DIM))
    for line, entries in enumerate(legend):
        y = MARGIN + 24 + LINE * line + 8
        for x, name, colour in entries:
            canvas[y - 6 : y + 6, MARGIN + x : MARGIN + x + 12] = rgb(colour)
            texts.append(_text(MARGIN + x + 18, y, name, size=9))
    bottom = page.size[0] - MARGIN - LINE * len(foot)
    texts += [_text(MARGIN, bottom + LINE * n + 8, line, size=8, colour=DIM) for n, line in enumerate(foot)]
    return _png(canvas, texts)


def _tile_size(store: Store) -> tuple[int, int]:
    """Height and width of all tiles: the proportions of the median case, so that little room is lost."""
    ratios = [height / width for height, width in map(extent, store.cases)]
    ratio = float(np.clip(np.median(ratios), 0.5, 2.0))
    return max(1, round(SIDE * min(1.0, ratio))), max(1, round(SIDE * min(1.0, 1 / ratio)))


def _tile(store: Store, case: int, number: int | None, tile: tuple[int, int]) -> tuple[UInt8[np.ndarray, "h w 3"], str]:
    """The picture of a case, and the line under its name."""
    record = store.cases[case]
    picture = np.full((*tile, 3), rgb(TILE), np.uint8)
    if number is None:
        return picture, "cannot be shown"
    size = scaled_size(extent(record), tile)
    rows, columns = (resampling(bins, pixels) for bins, pixels in zip(size, record.shape, strict=True))
    note = f"slice {number + 1} of {record.slices}"
    try:
        image = store.image(case, number)[:, *store.content(case)]
        inside = _window(rows @ image[: 3 if _in_colour(store) else 1] @ columns.T)
        if record.labelled:
            labels = resize_labels(store.label(case, number)[store.content(case)], rows, columns)
            ignored = (labels == IGNORE) & store.ignores
            inside = overlay(veil(inside, ignored), np.where(ignored, 0, labels))
        else:
            note += ", no labels"
    except DataError:
        return picture, "damaged"
    top, left = (tile[0] - size[0]) // 2, (tile[1] - size[1]) // 2
    picture[top : top + size[0], left : left + size[1]] = np.rint(255 * inside).astype(np.uint8)
    return picture, note


def _in_colour(store: Store) -> bool:
    modality = str(store.preparation.get("modality", "")).lower()
    return store.channels == 3 and any(word in modality for word in ("colour", "color", "rgb", "dermoscop", "photo"))


def _window(channels: Float[np.ndarray, "c h w"]) -> Float[np.ndarray, "h w 3"]:
    """Grey, or three colours, from 0 to 1."""
    scaled = windowed(channels)
    return np.moveaxis(np.broadcast_to(scaled, (3, *scaled.shape[1:])), 0, -1).astype(np.float64)


def _legend_lines(names: Sequence[str], width: int) -> list[list[tuple[int, str, str]]]:
    """Classes as (place, name, colour), broken into lines of `width` pixels."""
    lines: list[list[tuple[int, str, str]]] = []
    at = width
    for number, name in enumerate(names):
        shown = _fit(printable(name), width - 40, 9)
        taken = 18 + _text_width(shown, 9) + 24
        if at + taken > width or not lines:
            lines.append([])
            at = 0
        lines[-1].append((at, shown, COLOURS[number % len(COLOURS)]))
        at += taken
    return lines


def _foot_lines(store: Store, width: int) -> list[str]:
    """The cases that were skipped, and why."""
    skipped = [printable(entry.reason) for entry in store.skipped]
    if not skipped:
        return []
    more = [f"and {len(skipped) - MOST_SKIPPED} more"] if len(skipped) > MOST_SKIPPED else []
    return [_fit(line, width, 8) for line in [f"{len(skipped)} skipped:", *skipped[:MOST_SKIPPED], *more]]


def _text_width(text: str, size: int) -> int:
    """About how many pixels a text of the default font is wide."""
    return math.ceil(0.63 * size * DOTS / 72 * len(text))


def _fit(text: str, width: int, size: int) -> str:
    """The text, with its middle left out if it is too long: names often differ at their ends."""
    most = max(5, int(width / (0.63 * size * DOTS / 72)))
    half = (most - 1) // 2
    return text if len(text) <= most else f"{text[:half]}…{text[-half:]}"


def _text(x: int, y: int, text: str, *, size: int, colour: str = TEXT, weight: str = "normal") -> dict[str, Any]:
    return {"x": x, "y": y, "s": text, "fontsize": size, "color": colour, "weight": weight}


def _png(canvas: UInt8[np.ndarray, "h w 3"], texts: Sequence[Mapping[str, Any]]) -> bytes:
    """The pixels as they are, with texts on them; as a figure's image they would take 300 MB."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.image import imsave

    height, width = canvas.shape[:2]
    figure = Figure(figsize=(width / DOTS, height / DOTS), dpi=DOTS, facecolor="none")
    drawn = FigureCanvasAgg(figure)
    for text in texts:
        place = {"x": text["x"] / width, "y": 1 - text["y"] / height}
        figure.text(**{**text, **place}, va="center", parse_math=False)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # a name in a script that the font lacks
        drawn.draw()
    layer = np.asarray(drawn.buffer_rgba())
    for row, over in zip(canvas, layer, strict=True):
        opacity = over[:, 3:].astype(np.uint16)
        row[:] = (row * (255 - opacity) + over[:, :3] * opacity + 127) // 255
    file = io.BytesIO()
    imsave(file, canvas, format="png")
    return file.getvalue()
