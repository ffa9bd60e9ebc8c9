"""A picture of the slices that are suggested to be labelled: a row for each scan."""

import io
from collections.abc import Mapping
from typing import Any

import numpy as np

from jcl.data.store import Store
from jcl.inference.overview import WINDOW, plain
from jcl.inference.suggestions import SuggestedSlice, Suggestions

__all__ = ["draw_suggestions"]

INCHES = 1.9
MOST = 20
"""Scans shown."""


def draw_suggestions(store: Store, found: Suggestions) -> bytes:
    """A PNG of the suggested slices, the first channel of each, in their true proportions.

    Args:
        store: that the suggestions are of.
        found: the suggestions; of more than `MOST` scans the first are shown.

    Raises:
        DataError: a case of the store is damaged.
    """
    from matplotlib.figure import Figure  # not above: it takes long to load

    numbers = {record.case: number for number, record in enumerate(store.cases)}
    scans = [(each, case) for each in found.suggestions for case in each.cases]
    shown = scans[:MOST]
    columns = max(len(case.chosen) for _, case in shown)
    records = [store.cases[numbers[case.case]] for _, case in shown]
    ratio = max(each.shape[0] * each.spacing[1] / (each.shape[1] * each.spacing[2]) for each in records)
    height = INCHES * min(max(ratio, 0.4), 2.5) + 0.45
    figure = Figure(figsize=(max(INCHES * columns, 4.0), height * len(shown) + 0.4), layout="constrained")
    places = figure.subplots(len(shown), columns, squeeze=False)
    for row, record, (each, case) in zip(places, records, shown, strict=True):
        number = numbers[case.case]
        images = [store.image(number, one.slice)[0][store.content(number)] for one in case.chosen]
        low, high = (float(value) for value in np.percentile(np.stack(images), WINDOW))
        look: Mapping[str, Any] = {"cmap": "gray", "vmin": low, "vmax": max(high, low + 1e-6)}
        for place in row:
            place.set_axis_off()
        for place, one, image in zip(row, case.chosen, images, strict=False):
            place.imshow(image, aspect=record.spacing[1] / record.spacing[2], **look)
            place.set_title(_title(one), fontsize=7)
        name = case.case if case.case == each.patient else f"{each.patient}: {case.case}"
        row[0].set_title(f"{each.rank}. {plain(name)}\n{_title(case.chosen[0])}", fontsize=7)
    more = f", {len(shown)} of {len(scans)} scans" if len(shown) < len(scans) else ""
    figure.suptitle(plain(f"{found.store}: to label next{more}"), fontsize=9)
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=110, metadata={"Software": "jcl"})
    return file.getvalue()


def _title(one: SuggestedSlice) -> str:
    """Its number, from 0, in its own file where that is known."""
    return f"slice {one.slice} of the store" if one.origin is None else f"{one.origin.axis} = {one.origin.index}"
