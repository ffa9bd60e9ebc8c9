"""The mistakes of a first hour: each is made, and what is said is what docs/errors.md shows."""

import re
from pathlib import Path

import pytest

from support.mistakes import PAGE, Answer, answers, page

JARGON = re.compile(r"(?i)traceback|errno|itk|0x[0-9a-f]{6}|exception|zlib|NoneType|object has no|fault of jcl")


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[tuple[str, str, Answer]]]:
    return answers(tmp_path_factory.mktemp("hour"))


def test_the_page_shows_what_is_said(found: dict[str, list[tuple[str, str, Answer]]]):
    shown = PAGE.read_text(encoding="utf-8").splitlines()
    assert page(found).splitlines() == shown, "python -m support.mistakes writes it anew"


def test_each_is_one_line_in_plain_words_and_no_success(found: dict[str, list[tuple[str, str, Answer]]]):
    all_of_them = [each for some in found.values() for each in some]
    assert len(all_of_them) >= 60
    for what, _, said in all_of_them:
        assert len(said.lines) == 1, what
        assert said.code in (2, 3), what
        assert not JARGON.search(said.lines[0]), what


def test_no_mistake_leaves_a_folder(
    found: dict[str, list[tuple[str, str, Answer]]], tmp_path_factory: pytest.TempPathFactory
):
    folder = next(Path(tmp_path_factory.getbasetemp()).glob("hour*"))
    assert not [path.name for path in folder.glob("new*")]
