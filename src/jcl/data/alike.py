"""Whether two preparations give a voxel the same size and meaning: the stores of one network have to."""

from collections.abc import Mapping
from typing import Any

from jcl.data.intensities import window_of
from jcl.data.resampling import fit_of
from jcl.data.through_plane import through_of

__all__ = ["difference", "meaning_of"]


def meaning_of(preparation: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that say what a voxel shows, by the names that `jcl prepare` and data sets have for them."""
    return {
        "spacing": preparation["spacing"],
        "spacing_through": through_of(preparation),
        "size of the longer side (fit)": fit_of(preparation),
        "grey": bool(preparation.get("grey")),
        "normalisation": preparation["normalisation"],
        "window": window_of(preparation),
        **({"clip": tuple(preparation["clip"])} if window_of(preparation) is None else {}),
    }


def difference(own: Mapping[str, Any], theirs: Mapping[str, Any]) -> str | None:
    """The first setting in which two preparations give voxels another meaning, with both values; None if in none."""
    one, other = meaning_of(own), meaning_of(theirs)
    for name in {**one, **other}:
        if one.get(name) != other.get(name):
            return f"{name} {_shown(one.get(name))}, not {_shown(other.get(name))}"
    return None


def _shown(value: Any) -> str:
    if value is None:
        return "none"
    return " ".join(f"{each:g}" for each in value) if isinstance(value, tuple) else f"{value}"
