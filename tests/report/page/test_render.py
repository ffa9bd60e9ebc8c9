"""The page as text: whole, escaped, with nothing from elsewhere."""

import base64
import hashlib
import json
from collections import Counter
from functools import cache
from html.parser import HTMLParser

from jcl.report.page.render import GENERATOR, render
from support import pages

VOID = {"meta", "link", "img", "br", "input", "hr"}


class Reader(HTMLParser):
    """Every element with its attributes; an end that does not fit its begin fails."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.texts: Counter[str] = Counter()
        self.scripts: list[tuple[dict[str, str], str]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, (tag, self.getpos())

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "script":
            self.scripts.append((self.elements[-1][1], data))
        elif data.strip():
            self.texts[data.strip()] += 1


def read(page: str) -> Reader:
    reader = Reader()
    reader.feed(page)
    reader.close()
    assert reader.open == []
    return reader


@cache
def some_page() -> tuple[str, Reader]:
    page = render(pages.some_content())
    return page, read(page)


def attributes(reader: Reader, name: str) -> list[str]:
    return [each[name] for _, each in reader.elements if name in each]


def test_every_identifier_is_one_and_every_anchor_leads_somewhere() -> None:
    _, reader = some_page()
    identifiers = Counter(attributes(reader, "id"))
    assert max(identifiers.values()) == 1
    anchors = {address[1:] for address in attributes(reader, "href") if address.startswith("#")}
    assert len(anchors) > 8
    referred = anchors | set(attributes(reader, "aria-labelledby")) | set(attributes(reader, "data-source"))
    assert referred <= identifiers.keys()


def test_all_is_in_the_page_and_only_its_own_script_may_run() -> None:
    page, reader = some_page()
    pictures = [each for tag, each in reader.elements if tag == "img"]
    assert len(pictures) > 10
    assert all(each["src"].startswith("data:image/png;base64,") and each["alt"] for each in pictures)
    assert not any("src" in each for tag, each in reader.elements if tag == "script")
    addresses = [address for address in attributes(reader, "href") if not address.startswith("#")]
    assert addresses == ["data:,", "report.md", "report.csv"]
    policy = next(each["content"] for _, each in reader.elements if each.get("http-equiv"))
    (script,) = [text for element, text in reader.scripts if element.get("type") != "application/json"]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy
    data = [json.loads(text) for element, text in reader.scripts if element.get("type") == "application/json"]
    assert data == [pages.viewer_of(), pages.viewer_of()]
    assert f'<meta name="generator" content="{GENERATOR}">' in page
    assert "<b>0.5250</b>" in page  # the best of its column


def test_markup_in_any_name_stays_text() -> None:
    name = "</script><i>\"'&"
    reader = read(render(pages.named_content(name)))
    assert "i" not in {tag for tag, _ in reader.elements}
    assert reader.texts[f"Random{name}"] > 4
    data = json.loads(next(text for element, text in reader.scripts if element.get("type") == "application/json"))
    assert data["cases"][0]["case"] == name


def test_figures_that_are_not_there_say_why() -> None:
    _, reader = some_page()
    assert reader.texts["Minutes against Dice: no training is done"] == 2
    assert reader.texts["Heat maps of liver: no labels"] == 1
    assert reader.texts["blocked"] > 2
