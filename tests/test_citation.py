"""CITATION.cff says of the software what the package says of itself, and names the papers of its methods."""

import re
import tomllib

import yaml

import jcl
from support.documents import ROOT

CITATION = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
NEEDED = {"cff-version", "message", "title", "authors"}
"""What version 1.2.0 of the format asks of a file; of a reference it asks for all but the first two, and a type."""


def test_version_and_licence_are_those_of_the_package():
    assert CITATION["version"] == jcl.__version__
    assert CITATION["license"] == PROJECT["license"]
    assert CITATION["cff-version"] == "1.2.0"
    assert set(CITATION) >= NEEDED


def test_references_are_whole_and_have_the_paper_of_the_readme():
    for reference in CITATION["references"]:
        assert {"type", "title", "authors", "year"} <= set(reference), reference["title"]
        assert all({"family-names", "given-names"} == set(author) for author in reference["authors"])
        assert "doi" in reference or "url" in reference
    (paper,) = set(re.findall(r"arxiv\.org/abs/(2309\.\d+)", (ROOT / "README.md").read_text(encoding="utf-8")))
    assert any(paper in reference.get("url", "") for reference in CITATION["references"])
