"""The extras are those of the package, and each is known by what it brings."""

import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from jcl.doctor.extras import EXTRAS, NEEDED, check_needed, list_extras

PROJECT = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def packages(requirements: list[str]) -> set[str]:
    return {re.split(r"[<>=\[ ]", each)[0].lower().replace("_", "-") for each in requirements}


def packages_of(modules: tuple[str, ...]) -> set[str]:
    known = packages_distributions()
    return {known[module][0].lower().replace("_", "-") for module in modules}


def test_every_extra_is_listed_with_all_that_it_brings() -> None:
    assert set(EXTRAS) == set(PROJECT["optional-dependencies"]) - {"dev", "docs"}
    for name, (modules, purpose) in EXTRAS.items():
        assert packages_of(modules) == packages(PROJECT["optional-dependencies"][name]), name
        assert purpose


def test_everything_that_is_needed_is_looked_for() -> None:
    assert packages_of(NEEDED) == packages(PROJECT["dependencies"])
    assert check_needed() == []


def test_a_package_that_is_missing_or_damaged_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pydicom", None)
    (finding,) = check_needed()
    assert finding.level == "error"
    assert finding.text.startswith("pydicom cannot be imported (")
    assert "pip install" in finding.text


def test_an_extra_that_is_missing_has_its_line(monkeypatch: pytest.MonkeyPatch) -> None:
    found = list_extras()
    assert all(extra["there"] for extra in found.values())  # they are installed for the tests
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    missing = list_extras()["onnx"]
    assert missing["there"] is False
    assert missing["install"] == "pip install 'jcl-seg[onnx]'"
