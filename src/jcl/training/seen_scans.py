"""In what spacings, plane, modality and unit a network saw scans: in others the same structures look otherwise."""

from collections.abc import Collection
from typing import Any

from jcl.data.resampling import fit_of
from jcl.data.slice_direction import angle, middle
from jcl.data.store import Store
from jcl.data.through_plane import through_of

__all__ = ["SEEN", "SEEN_MM", "SEEN_MODALITIES", "SEEN_OUTSIDE", "SEEN_PLANE", "seen_scans"]

SEEN_MM = "seen_mm"
"""Key of `run.json`: the lowest and highest distance in mm of `pixels` and of `slices` in the scans trained on."""

SEEN_PLANE = "seen_plane"
"""Key of `run.json`: the `direction` at right angles to the slices trained on (LPS, the middle of all scans), and the
degrees `within` which all of them lie; only where their headers state one."""

SEEN_MODALITIES = "seen_modalities"
"""Key of `run.json`: the modalities of the scans trained on, as DICOM calls them; only where all state one."""

SEEN_OUTSIDE = "seen_outside"
"""Key of `run.json`: the least shares of a scan's values that lay `below` and `above` the window; only with one."""

SEEN = (SEEN_MM, SEEN_PLANE, SEEN_MODALITIES, SEEN_OUTSIDE)


def seen_scans(store: Store, patients: Collection[str]) -> dict[str, Any]:
    """What the keys in `SEEN` say of the labelled cases of these patients.

    What a preparation resamples, or brings to a size, looks alike in every scan and is left out.
    """
    seen = [record for record in store.cases if record.labelled and record.patient in patients]
    found: dict[str, list[float]] = {}
    if store.preparation["spacing"] is None and not fit_of(store.preparation):
        pixels = [mm for record in seen for mm in record.spacing[1:]]
        found["pixels"] = [min(pixels), max(pixels)]
    if through_of(store.preparation) is None:
        slices = [record.spacing[0] for record in seen]
        found["slices"] = [min(slices), max(slices)]
    info: dict[str, Any] = {SEEN_MM: found}
    if all(record.direction for record in seen):
        usual = middle([record.direction for record in seen])
        within = max(angle(record.direction, usual) for record in seen)
        info[SEEN_PLANE] = {"direction": [round(part, 3) for part in usual], "within": round(within, 1)}
    if all(record.modality for record in seen):
        info[SEEN_MODALITIES] = sorted({record.modality for record in seen})
    if outside := [record.outside for record in seen if record.outside]:
        below, above = (min(shares[side] for shares in outside) for side in (0, 1))
        info[SEEN_OUTSIDE] = {"below": below, "above": above}
    return info
