"""What `jcl doctor` found, on the terminal."""

import json

from jcl.doctor.doctor import Examination
from jcl.errors import UsageError
from jcl.text import printable

__all__ = ["conclude"]


def conclude(found: Examination, *, as_json: bool) -> None:
    """Print what was found, and fail where jcl cannot work.

    Raises:
        UsageError: something is broken; the lines before it say what.
    """
    if as_json:
        print(json.dumps(found.as_mapping(), indent=1))
    else:
        _print(found)
    errors = sum(finding.level == "error" for finding in found.findings)
    if errors:
        raise UsageError(f"{errors} thing{'s' * (errors > 1)} broken on this machine; mend what is named as an error")


def _print(found: Examination) -> None:
    speeds = {f"speed, {way}": _speed(value) for way, value in found.speed.items()}
    _print_rows({**found.facts, **speeds})
    there = [name for name, extra in found.extras.items() if extra["there"]]
    print(f"\nextras: {', '.join(there) or 'none'}")
    missing = {
        name: f"for {extra['for']}: {extra['install']}" for name, extra in found.extras.items() if not extra["there"]
    }
    if missing:
        print("not installed, and needed only for what they name:")
        _print_rows(missing)
    print()
    for finding in sorted(found.findings, key=lambda each: each.level, reverse=True):
        print(printable(f"{finding.level}: {finding.text}"))
    if not found.findings:
        print("nothing is set wrongly")


def _speed(slices: float) -> str:
    return f"{slices:.1f} slices of 128 x 128 a second, training a U-Net of width 32"


def _print_rows(rows: dict[str, str]) -> None:
    width = max(map(len, rows))
    for name, text in rows.items():
        print(printable(f"{name:<{width}}  {text}"))
