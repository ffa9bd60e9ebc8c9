"""Matplotlib figures as SVG that lives in a page: it scales, takes the page's ink and font, and says what a mark is."""

import hashlib
import io
import xml.etree.ElementTree as ET
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["INK", "bare_axes", "new_figure", "spread", "to_svg", "words"]

INK = "#010203"
"""Drawn in this colour, a thing has the colour of the text around the chart, in a light page and in a dark one."""

FONT = "system-ui, sans-serif"
SVG = "http://www.w3.org/2000/svg"
XLINK = "{http://www.w3.org/1999/xlink}href"


def new_figure(width: float, height: float) -> "Figure":
    """An empty figure of that size in inches, of which 72 are a unit of the SVG's coordinates."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), facecolor="none")


def bare_axes(axes: "Axes", *, grid: bool = True) -> None:
    """Axes with lines at the left and below only, thin guides at the values, all in the page's ink."""
    axes.set_facecolor("none")
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set(color=INK, alpha=0.5, linewidth=0.8)
    axes.tick_params(colors=INK, labelsize=9, length=3, width=0.8)
    if grid:
        axes.grid(axis="y", color=INK, alpha=0.12, linewidth=0.8)
    axes.set_axisbelow(True)


def spread(places: Sequence[float], apart: float, low: float, high: float) -> list[float]:
    """Places for labels, as near to where they belong as may be, at least `apart`, between `low` and `high`.

    Where there is not room for all of them they are nearer to each other, at equal distances.
    """
    if len(places) < 2:
        return [min(max(place, low), high) for place in places]
    apart = min(apart, (high - low) / (len(places) - 1))
    order = np.argsort(places, kind="stable")
    # less their distances, the places only have to be in order: the least squares of that are means of blocks
    steps = apart * np.arange(len(places))
    blocks: list[tuple[float, int]] = []
    for value in np.asarray(places, dtype=float)[order] - steps:
        blocks.append((float(value), 1))
        while len(blocks) > 1 and blocks[-2][0] > blocks[-1][0]:
            (first, m), (second, n) = blocks[-2:]
            blocks[-2:] = [((first * m + second * n) / (m + n), m + n)]
    settled = np.concatenate([np.full(n, value) for value, n in blocks]).clip(low, high - steps[-1]) + steps
    found = np.empty(len(places))
    found[order] = settled
    return found.tolist()


def words(label: str, text: str) -> str:
    """What stands in the place of a chart that has nothing to show."""
    figure = new_figure(8.6, 0.5)
    figure.text(0.02, 0.4, text, color=INK, alpha=0.75, fontsize=10)
    return to_svg(figure, f"{label}. {text}")


def to_svg(figure: "Figure", label: str, titles: Mapping[str, str] | None = None) -> str:
    """The figure as one `<svg>` element.

    Args:
        figure: what is drawn in `INK` becomes `currentColor`.
        label: what the chart shows, for those who do not see it.
        titles: what a mark says when it is pointed at, by the `gid` of its artist.
    """
    root = _drawn(figure)
    for metadata in root.findall(f"{{{SVG}}}metadata"):
        root.remove(metadata)
    for size in ("width", "height", "version"):
        root.attrib.pop(size, None)
    root.attrib |= {"role": "img", "aria-label": label}
    _say(root, titles or {})
    _make_unique(root)
    for element in root.iter():
        for name, value in element.attrib.items():
            element.set(name, value.replace(INK, "currentColor"))
    return ET.tostring(root, encoding="unicode", short_empty_elements=True)


def _drawn(figure: "Figure") -> "ET.Element[str]":
    from matplotlib import rc_context

    file = io.BytesIO()
    nothing: dict[str, Any] = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    # the salt makes the same figure the same text each time
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "jcl", "svg.id": None}):
        figure.savefig(file, format="svg", transparent=True, metadata=nothing)
    ET.register_namespace("", SVG)
    return ET.fromstring(file.getvalue())


def _say(root: "ET.Element[str]", titles: Mapping[str, str]) -> None:
    for element in root.iter():
        said = titles.get(element.get("id", ""))
        if said is not None:
            title = ET.Element(f"{{{SVG}}}title")
            title.text = said
            element.insert(0, title)
            element.set("class", "mark")


def _make_unique(root: "ET.Element[str]") -> None:
    """Only identifiers that are referred to stay, and none is that of another chart in the page; the page's font."""
    prefix = f"c{hashlib.sha256(ET.tostring(root)).hexdigest()[:8]}-"
    used: set[str] = set()
    for element in root.iter():
        if XLINK in element.attrib:
            target = element.attrib.pop(XLINK).removeprefix("#")
            used.add(target)
            element.set("href", f"#{prefix}{target}")
        if (clip := element.get("clip-path")) is not None:
            target = clip.removeprefix("url(#").removesuffix(")")
            used.add(target)
            element.set("clip-path", f"url(#{prefix}{target})")
        if element.tag == f"{{{SVG}}}text" and (style := element.get("style")) is not None:
            element.set("style", _with_font(style))
    for element in root.iter():
        name = element.attrib.pop("id", None)
        if name in used:
            element.set("id", f"{prefix}{name}")


def _with_font(style: str) -> str:
    """Matplotlib writes `font: 10px 'DejaVu Sans', …`; the size stays."""
    parts = [part.strip() for part in style.split(";") if part.strip()]
    return "; ".join(f"{part.partition('px')[0]}px {FONT}" if part.startswith("font:") else part for part in parts)
