"""Overlaps pooled over all test slices, as the JCL authors' program scores them, beside our scores of whole cases.

Tables that were computed so are not comparable with means over cases. What is otherwise than in `jcl.metrics`:

- Intersections and unions are summed over all slices, so that large structures and large cases weigh more; the mean is
  that over the classes.
- A class that is in neither prediction nor truth of any slice counts as 0.
- Distances are in pixels, of each slice by itself, and 0 where prediction or truth of the class is empty, so that a
  missed structure improves them; `asd` is that from prediction to truth alone. They are averaged over the slices of a
  batch, and then over the batches, of which the last may be smaller.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float
from numpy.typing import ArrayLike
from scipy import spatial
from torch import Tensor

from jcl.metrics import METRICS, check_labels, class_names, surfaces, without

__all__ = ["Pool"]


class Pool:
    """Counts of all slices that were added, and what follows from them."""

    def __init__(self, classes: Sequence[str] | int, *, batch_size: int) -> None:
        """Begin with nothing.

        Args:
            classes: names of the foreground classes, or how many there are; see `jcl.metrics.score_case`.
            batch_size: slices of a batch; only distances depend on it.

        Raises:
            ValueError: there is no class, or one of them twice.
        """
        self.names, self.batch_size = class_names(classes), batch_size
        self.intersections, self.unions = (np.zeros(len(self.names), np.int64) for _ in range(2))
        self.right, self.pixels = 0, 0
        self.distances: list[Float[np.ndarray, "k 2"]] = []

    def add(
        self,
        prediction: ArrayLike | Tensor,
        truth: ArrayLike | Tensor,
        *,
        ignored: Bool[np.ndarray, "d h w"] | None = None,
    ) -> None:
        """Count the slices of a case, in their order, on which the batches depend.

        Args:
            prediction: integer labels (d, h, w); 0 is background.
            truth: integer labels of the same shape.
            ignored: where nothing is counted (the authors' program knows no such voxels).

        Raises:
            ValueError: the shapes differ, or an array is not of integers or has labels beyond the classes.
        """
        predicted = check_labels(without(prediction, ignored), "prediction", self.names)
        true = check_labels(without(truth, ignored), "truth", self.names)
        if predicted.shape != true.shape or true.ndim != 3:
            raise ValueError(f"prediction has shape {predicted.shape}, truth has {true.shape}; (d, h, w) is needed")
        same = predicted == true
        count = len(self.names) + 1
        overlaps = np.bincount(true[same], minlength=count)[1:]
        sizes = sum(np.bincount(labels.ravel(), minlength=count)[1:] for labels in (predicted, true))
        self.intersections += overlaps
        self.unions += sizes - overlaps
        counted = np.ones(true.shape, bool) if ignored is None else ~ignored
        self.right += int((same & counted).sum())
        self.pixels += int(counted.sum())
        self.distances += [self._distances(*pair) for pair in zip(predicted, true, strict=True)]

    def result(self) -> dict[str, Any]:
        """Scores of the classes and their mean.

        Returns:
            {"mean": {metric: value, ..., "classes": {class: {metric: value, "intersection", "union"}}},
            "pixel_accuracy": share of right pixels, background included, "slices", "batch_size"}, with the metrics of
            `jcl.metrics`; hd95 and asd are in pixels.

        Raises:
            ValueError: no slice was added.
        """
        if not self.distances:
            raise ValueError("no slice to score")
        jaccard = self.intersections / np.maximum(self.unions, 1)
        dice = 2 * self.intersections / np.maximum(self.intersections + self.unions, 1)
        starts = range(0, len(self.distances), self.batch_size)
        batches = [np.mean(self.distances[start : start + self.batch_size], axis=0) for start in starts]
        table = np.column_stack([dice, jaccard, np.mean(batches, axis=0)])
        counts = zip(self.intersections.tolist(), self.unions.tolist(), strict=True)
        rows = [dict(zip(METRICS, row, strict=True)) for row in table.tolist()]
        classes = {
            name: {**row, "intersection": both, "union": either}
            for name, row, (both, either) in zip(self.names, rows, counts, strict=True)
        }
        return {
            "mean": {**dict(zip(METRICS, table.mean(0).tolist(), strict=True)), "classes": classes},
            "pixel_accuracy": self.right / max(1, self.pixels),
            "slices": len(self.distances),
            "batch_size": self.batch_size,
        }

    def _distances(self, predicted: np.ndarray, true: np.ndarray) -> Float[np.ndarray, "k 2"]:
        """hd95 and asd of each class of a slice, in pixels."""
        found = np.zeros((len(self.names), 2))
        edges = (surfaces(labels, len(self.names), None) for labels in (predicted, true))
        for row, (here, there) in zip(found, zip(*edges, strict=True), strict=True):
            if len(here) and len(there):
                forth, back = spatial.KDTree(there).query(here)[0], spatial.KDTree(here).query(there)[0]
                row[:] = np.percentile(np.concatenate([forth, back]), 95), forth.mean()
        return found
