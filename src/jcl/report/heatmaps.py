"""How similar the features of a pixel are to those of all others, in its slice and in another patient's."""

from dataclasses import dataclass

from jcl.report.grid import Benchmark

__all__ = ["HeatMap", "HeatMaps", "feature_heatmaps"]


@dataclass(frozen=True, kw_only=True)
class HeatMap:
    """Of one pre-trained network and part (`encoder` or `decoder`); pictures are None where `note` says why.

    `same` is the chosen pixel's own slice, `other` another patient's. `auc` is the share of pairs, of a pixel inside
    and one outside of the structure in the other patient's slice, in which the inner one is more similar (halves for ties).
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


def feature_heatmaps(benchmark: Benchmark, store: str) -> HeatMaps | None:
    """Heat maps of all pre-trainings on images of a store; None where it has no two labelled patients.

    Raises:
        DataError: the store, or a model of a finished pre-training, cannot be read.
    """
    raise NotImplementedError
