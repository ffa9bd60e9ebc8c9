"""Seals: a JSON file that decides a result carries a digest of each of its values, so that a changed one is named.

A seal finds accidents and edits that were forgotten. It is no signature: whoever can write the file can seal it anew.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any, cast

__all__ = ["SEAL", "changed", "sealed"]

SEAL = "seal"
"""The key of the digests."""


def sealed(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values with their seal: key -> digest."""
    return {**values, SEAL: {key: _digest(value) for key, value in values.items()}}


def changed(content: Mapping[str, Any]) -> list[str]:
    """Keys of a file's content that are not as they were sealed, or not there; none where it has no seal."""
    values = {key: value for key, value in content.items() if key != SEAL}
    if SEAL not in content:
        return [key for key, value in values.items() if _is_seal_of(value, values, key)]
    digests = cast("dict[str, Any]", content[SEAL]) if isinstance(content[SEAL], dict) else {}
    keys = dict.fromkeys([*values, *digests])
    return [key for key in keys if key not in values or digests.get(key) != _digest(values[key])]


def _is_seal_of(value: object, values: Mapping[str, Any], key: str) -> bool:
    """Whether this is the seal under another name, as where a bit of the name has changed."""
    return isinstance(value, dict) and len(values) > 1 and set(cast("dict[str, Any]", value)) == set(values) - {key}


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()[:16]
