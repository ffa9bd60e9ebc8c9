"""How similar the features of a pixel are to those of all others, in its slice and in another patient's.

After figure 8 of the journal version of the JCL paper, whose exact definition is not known to us; ours is in `RULE`.
"""

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float32, UInt8
from scipy import ndimage

from jcl.benchmark.folder import RUN
from jcl.data.store import Store
from jcl.errors import DataError, UsageError
from jcl.report.figures.features import (  # fmt: skip
    Pretrained,
    area_under_curve,
    load_pretrained,
    pixel_features,
    similarity,
    untrained,
)
from jcl.report.figures.overlay import extent, outline, resampling, resize_labels, scaled_size, windowed
from jcl.report.figures.png import indexed_png
from jcl.report.figures.tiles import WHITE
from jcl.report.stats.results import Benchmark, Pretraining

__all__ = ["HeatMap", "HeatMaps", "feature_heatmaps"]

SIDE = 120
"""Longer side of a picture in pixels."""

LEVELS = 64
"""Colours of the scale; more cannot be distinguished, and make the pictures larger."""

RULE = (
    "Cosine of each pixel's features to those of the marked pixel, their mean over both slices taken off first; from "
    "-1 (blue) over 0 (white) to 1 (red). The marked pixel is the innermost of {structure} in the slice of {first} "
    "that has most of it; {first} is the labelled case with the median amount of labelled voxels, {second} the next "
    "one of another patient, shown at the same relative position. Encoder: the level at a quarter of the slice's "
    "size. Decoder: the last pre-trained block. Outlines: {structure}. AUC: share of pairs of a pixel inside and one "
    "outside of it in {second} in which the inner one is more similar; one pixel of one pair of cases, so an "
    "illustration and no measurement."
)


@dataclass(frozen=True, kw_only=True)
class HeatMap:
    """Of one pre-trained network and part (`encoder` or `decoder`); pictures are None where `note` says why.

    `same` is the chosen pixel's own slice, `other` another patient's. `auc` is the share of pairs, of a pixel inside
    and one outside of the structure in the other patient's slice, in which the inner one is more similar (ties
    halved); None where the slice has none of it.
    """

    row: str
    part: str
    same: bytes | None
    other: bytes | None
    auc: float | None
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class HeatMaps:
    """`rule` is the definition for the caption; `same` and `other` the slices with the pixel and the outlines."""

    store: str
    rule: str
    structure: str
    cases: tuple[str, str]
    same: bytes
    other: bytes
    scale: bytes
    """Picture of the colour scale, from -1 at the left to 1 at the right."""
    maps: tuple[HeatMap, ...]


@dataclass(frozen=True)
class _Slice:
    """A slice: in which store it is, where in it the case is, and which pixels of that are of the structure."""

    store: Store
    at: tuple[int, int]
    inside: tuple[slice, slice]
    size: tuple[int, int]
    structure: Bool[np.ndarray, "h w"]

    @property
    def case(self) -> str:
        return self.store.cases[self.at[0]].case

    def image(self, context: int = 0) -> Float32[np.ndarray, "k H W"]:
        """As a network gets it that takes so many neighbours."""
        return self.store.image(*self.at, context=context)


def feature_heatmaps(benchmark: Benchmark, store: str) -> HeatMaps | None:
    """Heat maps of all pre-trainings on images of a store; None where it has no two labelled patients.

    Of a pre-training in several folds the first is shown. The first row is the same network without any training.

    Raises:
        DataError: the store cannot be read. A model that cannot be is a note in its heat map.
    """
    with closing(Store.open(benchmark.store_path(store))) as opened:
        chosen = _choose(opened)
        if chosen is None:
            return None
        return _heatmaps(benchmark, store, *chosen)


def _heatmaps(benchmark: Benchmark, store: str, slices: tuple[_Slice, _Slice], structure: str) -> HeatMaps:
    pixel = _innermost(slices[0].structure)
    first = {row: each for each in reversed(benchmark.pretrainings) if store in each.pretrain_on for row in each.rows}
    rows = [row for each in benchmark.pretrainings for row in each.rows if first.get(row) is each]
    maps = [found for row in rows for found in _of_pretraining(row, first[row], slices, pixel)]
    names = (slices[0].case, slices[1].case)
    return HeatMaps(
        store=store,
        rule=RULE.format(structure=structure, first=names[0], second=names[1]),
        structure=structure,
        cases=names,
        same=_slice_picture(slices[0], pixel),
        other=_slice_picture(slices[1], None),
        scale=indexed_png(np.tile(np.arange(LEVELS, dtype=np.uint8), (8, 1)), _palette()),
        maps=(*_of_untrained(rows, first, slices, pixel), *maps),
    )


def _choose(store: Store) -> tuple[tuple[_Slice, _Slice], str] | None:
    """The two slices, and the structure: the class with the most voxels in the first case."""
    ordered = sorted(
        (number for number, record in enumerate(store.cases) if record.labelled and any(record.voxels)),
        key=lambda number: (sum(store.cases[number].voxels), number),
    )
    if not ordered:
        return None
    middle = (len(ordered) - 1) // 2
    first = store.cases[ordered[middle]]
    others = [n for n in ordered[middle + 1 :] + ordered[:middle] if store.cases[n].patient != first.patient]
    if not others:
        return None
    label = int(np.argmax(first.voxels)) + 1
    sizes = [np.count_nonzero(store.label(ordered[middle], number) == label) for number in range(first.slices)]
    number = int(np.argmax(sizes))
    position = (number + 1) / first.slices  # as `SliceBatch` has it
    there = store.cases[others[0]].slices
    opposite = min(max(round(position * there), 1), there) - 1
    slices = _slice(store, ordered[middle], number, label), _slice(store, others[0], opposite, label)
    return slices, store.class_names[label - 1]


def _slice(store: Store, case: int, number: int, label: int) -> _Slice:
    inside = store.content(case)
    return _Slice(
        store=store,
        at=(case, number),
        inside=inside,
        size=scaled_size(extent(store.cases[case]), (SIDE, SIDE)),
        structure=store.label(case, number)[inside] == label,
    )


def _innermost(structure: Bool[np.ndarray, "h w"]) -> tuple[int, int]:
    """The pixel that is farthest from the border of the structure, the first of several."""
    distances = np.asarray(ndimage.distance_transform_edt(np.pad(structure, 1)))[1:-1, 1:-1]
    row, column = np.unravel_index(int(distances.argmax()), structure.shape)
    return int(row), int(column)


def _of_pretraining(
    row: str, pretraining: Pretraining, slices: tuple[_Slice, _Slice], pixel: tuple[int, int]
) -> list[HeatMap]:
    if pretraining.status not in ("done", "other code"):
        return [HeatMap(row=row, part="encoder", same=None, other=None, auc=None, note=pretraining.status)]
    note = "" if pretraining.status == "done" else pretraining.status
    try:
        pretrained = load_pretrained(pretraining.folder / RUN, trust_code=pretraining.trust_code)
    except (DataError, UsageError) as error:
        return [HeatMap(row=row, part="encoder", same=None, other=None, auc=None, note=f"no model ({error})")]
    parts = ("encoder", "decoder") if pretrained.blocks else ("encoder",)
    return [_map(row, pretrained, part, slices, pixel, note) for part in parts]


def _of_untrained(
    rows: Sequence[str], first: dict[str, Pretraining], slices: tuple[_Slice, _Slice], pixel: tuple[int, int]
) -> list[HeatMap]:
    """The network of the first pre-training that is there, as it was before it, with two decoder blocks as in JCL."""
    done = [first[row] for row in rows if first[row].status in ("done", "other code")]
    if not done:
        return []
    try:
        fresh = untrained(done[0].folder / RUN, blocks=2, trust_code=done[0].trust_code)
    except (DataError, UsageError):
        return []  # the same error stands in the heat map of this pre-training
    return [_map("untrained", fresh, part, slices, pixel, "") for part in ("encoder", "decoder")]


def _map(
    row: str, pretrained: Pretrained, part: str, slices: tuple[_Slice, _Slice], pixel: tuple[int, int], note: str
) -> HeatMap:
    features = [pixel_features(pretrained, each.image(pretrained.context), part)[:, *each.inside] for each in slices]
    same, other = similarity(features, pixel)
    return HeatMap(
        row=row,
        part=part,
        same=_map_picture(same, slices[0], pixel),
        other=_map_picture(other, slices[1], None),
        auc=area_under_curve(other, slices[1].structure),
        note=note,
    )


def _slice_picture(shown: _Slice, pixel: tuple[int, int] | None) -> bytes:
    """The slice in grey, marked as its heat map."""
    grey = windowed(shown.image()[0, *shown.inside].astype(np.float64))
    greys = [round(255 * level / (LEVELS - 1)) for level in range(LEVELS)]
    return _marked(grey, shown, pixel, [*((level, level, level) for level in greys), (255, 0, 0), WHITE])


def _map_picture(values: Float[np.ndarray, "h w"], shown: _Slice, pixel: tuple[int, int] | None) -> bytes:
    return _marked((values.astype(np.float64).clip(-1, 1) + 1) / 2, shown, pixel, _palette())


def _marked(
    values: Float[np.ndarray, "h w"],
    shown: _Slice,
    pixel: tuple[int, int] | None,
    palette: list[tuple[int, int, int]],
) -> bytes:
    """Values from 0 to 1 in the colours of a palette; its last two are for the structure's outline, and for a dot."""
    rows, columns = (resampling(bins, n) for bins, n in zip(shown.size, values.shape, strict=True))
    indices = np.rint((rows @ values @ columns.T).clip(0, 1) * (LEVELS - 1)).astype(np.uint8)
    labels = resize_labels(shown.structure.astype(np.uint8), rows, columns)
    indices[outline(labels) & (labels > 0)] = LEVELS
    if pixel is not None:
        _dot(indices, *((place + 0.5) * n / m for place, n, m in zip(pixel, shown.size, values.shape, strict=True)))
    return indexed_png(indices, palette)


def _dot(indices: UInt8[np.ndarray, "H W"], row: float, column: float) -> None:
    """A white dot with a rim, seven pixels wide."""
    away = np.hypot(*(np.indices(indices.shape) + 0.5 - np.array([row, column])[:, None, None]))
    indices[away < 4] = LEVELS
    indices[away < 2.6] = LEVELS + 1


def _palette() -> list[tuple[int, int, int]]:
    """Blue over white to red, then black and white."""
    from matplotlib import colormaps

    scale = np.rint(255 * colormaps["RdBu_r"](np.linspace(0, 1, LEVELS))[:, :3]).astype(int)
    return [*((int(r), int(g), int(b)) for r, g, b in scale), (0, 0, 0), WHITE]
