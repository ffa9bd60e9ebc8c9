"""The spacings in which a network saw scans: where none are resampled, a scan of another shows all at another scale."""

from collections.abc import Collection

from jcl.data.resampling import fit_of
from jcl.data.store import Store
from jcl.data.through_plane import through_of

__all__ = ["SEEN_MM", "seen_spacing"]

SEEN_MM = "seen_mm"
"""Key of `run.json`: the lowest and highest distance in mm of `pixels` and of `slices` in the scans trained on."""


def seen_spacing(store: Store, patients: Collection[str]) -> dict[str, dict[str, list[float]]]:
    """What `SEEN_MM` says of the labelled cases of these patients.

    What a preparation resamples, or brings to a size, looks alike in every scan and is left out.
    """
    spacings = [record.spacing for record in store.cases if record.labelled and record.patient in patients]
    found: dict[str, list[float]] = {}
    if store.preparation["spacing"] is None and not fit_of(store.preparation):
        pixels = [mm for _, *both in spacings for mm in both]
        found["pixels"] = [min(pixels), max(pixels)]
    if through_of(store.preparation) is None:
        slices = [mm for mm, *_ in spacings]
        found["slices"] = [min(slices), max(slices)]
    return {SEEN_MM: found}
