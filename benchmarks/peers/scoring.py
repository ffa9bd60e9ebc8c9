"""Segmentations of any program scored by jcl's metric, on the source volumes of the test patients."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
import torch
from jaxtyping import Integer, UInt8
from torch.nn import functional as F

from jcl.data.splits import Split
from jcl.data.volumes import Volume, map_labels, read_image, read_label
from jcl.errors import DataError
from jcl.inference.predictor import resize_scores
from jcl.metrics import score_case, summarise

from .raw_data import ENDING, cases_of, spec_of


def score(
    predictions: Path,
    source: Path,
    split: Split,
    *,
    values: Mapping[int, int],
    ending: str = ENDING,
    grid: str = "source",
) -> dict[str, Any]:
    """Scores of all labelled cases of the test patients; a case that was not predicted is an error, and not left out.

    Args:
        predictions: folder with CASE + `ending` for each case.
        source: the data set, in the layout of the Decathlon.
        split: whose test patients are scored.
        values: value in the predictions -> class, from 1.
        ending: of the names of the predictions.
        grid: `source`, where they lie on the grid of their scan, or `store`: on that of `raw_data.export_store`.

    Returns:
        `cases`, `mean`, `std` and `interval`, as `jcl evaluate` writes them.

    Raises:
        DataError: a prediction is missing, lies elsewhere than its scan, or has a value that is no class.
    """
    spec, entries = spec_of(source), list[dict[str, Any]]()
    truths = {value: spec.class_names.index(name) + 1 for value, name in spec.labels.items()}
    for case in cases_of(source, split.test):
        assert case.label is not None
        volume = read_image(case.images, channels=spec.channels)
        truth = map_labels(read_label(case.label, volume), truths, other=spec.other_labels, path=case.label)
        path = predictions / f"{case.case}{ending}"
        if not path.is_file():
            raise DataError(f"{path}: missing; every test case has to be predicted")
        found = read_label(path, volume) if grid == "source" else to_source(path, volume)
        classes = map_labels(found, values, other="error", path=path)
        scores = score_case(classes, truth, classes=spec.class_names, spacing=volume.spacing)
        entries.append({"case": case.case, "patient": case.patient, "classes": scores})
    return {"cases": entries, **summarise(entries)}


def to_source(path: Path, like: Volume) -> UInt8[np.ndarray, "d h w"]:
    """Labels on a store's grid, brought to that of the source as `jcl predict` brings its scores.

    Raises:
        DataError: another number of slices than the source has.
    """
    labels: Integer[np.ndarray, "d h w"] = sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
    depth, *shape = like.array.shape[1:]
    if len(labels) != depth:
        raise DataError(f"{path}: {len(labels)} slices, but its scan has {depth}")
    scores = F.one_hot(torch.from_numpy(labels.astype(np.int64))).permute(0, 3, 1, 2).float()
    return resize_scores(scores, (shape[0], shape[1])).argmax(1).to(torch.uint8).numpy()
