"""What a tracker is asked for, and what it is told of a training when it begins."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast, runtime_checkable

import numpy as np
from jaxtyping import UInt8

from jcl.files import read_json

__all__ = ["About", "Tracker", "about_run"]

LEFT_OUT = ("store", "stores", "unlabelled", "init", "split", "out", "watch", "tracker")
"""Settings that name places of this machine, or patients."""


@runtime_checkable
class Tracker(Protocol):
    """A place where values and pictures of one training are kept; any call may fail in whatever way it likes."""

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """Keep the values of a step."""
        ...

    def picture(self, name: str, image: UInt8[np.ndarray, "h w 3"], step: int) -> None:
        """Keep a picture, one of several of its name over the steps."""
        ...

    def close(self, outcome: str) -> None:
        """The training has ended: `finished`, `interrupted` or `failed`."""
        ...


@dataclass(frozen=True)
class About:
    """What a training is.

    Attributes:
        run: its folder.
        settings: what the user chose, by name; no places of this machine, and no patients.
        facts: versions, network, number of steps, and the digests of stores, split and initial weights.
    """

    run: Path
    settings: Mapping[str, Any]
    facts: Mapping[str, Any]


def about_run(run: Path) -> About:
    """What the `run.json` and `split.json` of a run folder say.

    Raises:
        DataError: one of them is damaged.
    """
    info = cast("dict[str, Any]", read_json(run / "run.json"))
    stores = [info["store_digest"]] if "store_digest" in info else [each["digest"] for each in info.get("stores", ())]
    facts = {
        "kind": info.get("kind"),
        "steps": info.get("steps"),
        "backbone": info.get("backbone"),
        "versions": info.get("versions"),
        "digest.stores": ",".join(stores),
        "digest.init": (info.get("init") or {}).get("digest"),
        "digest.split": _digest(run / "split.json"),
    }
    settings = {name: value for name, value in info["settings"].items() if name not in LEFT_OUT}
    return About(run, dict(_flat(settings)), {name: v for name, v in _flat(facts).items() if v not in (None, "")})


def _digest(path: Path) -> str | None:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None


def _flat(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Tables within tables as one, with dots in the names."""
    found: dict[str, Any] = {}
    for name, entry in value.items():
        if isinstance(entry, Mapping):
            found |= _flat(cast("Mapping[str, Any]", entry), f"{prefix}{name}.")
        else:
            found[prefix + name] = entry
    return found
