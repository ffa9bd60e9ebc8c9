"""The examples in docstrings give what they show (but for two that need a store or a run, and say so by SKIP)."""

import doctest
import importlib
from pathlib import Path

import pytest

import jcl

ROOT = Path(jcl.__file__).parent
MODULES = sorted(
    ".".join(("jcl", *path.relative_to(ROOT).with_suffix("").parts)).removesuffix(".__init__")
    for path in ROOT.rglob("*.py")
    if ">>> " in path.read_text(encoding="utf-8")
)


@pytest.mark.parametrize("name", MODULES)
def test_examples(name: str) -> None:
    found = doctest.testmod(importlib.import_module(name), optionflags=doctest.NORMALIZE_WHITESPACE)
    assert not found.failed
