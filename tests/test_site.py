"""The built site: every link leads somewhere, pages hold what the forge shows of them, and nothing is fetched."""

import dataclasses
import html
import importlib.util
import os
import re
import subprocess
import sys
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from markdown_it import MarkdownIt

from jcl import config
from support.browser import complaints, open_browser, requests, set_size
from support.documents import ROOT
from support.shared import made_once

pytestmark = pytest.mark.slow

PAGES = sorted(
    str(path.relative_to(ROOT / "docs"))
    for path in (ROOT / "docs").rglob("*.md")
    if path.parent != ROOT / "docs" / "results" / "sample"
)
EMPTY = {"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr"}
COUNTED = {"h1", "h2", "h3", "h4", "li", "tr", "pre", "strong", "code", "img"}


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built as `make docs` does, in which every warning is an error."""
    if not importlib.util.find_spec("material"):
        pytest.skip("the site cannot be built: pip install 'jcl-seg[docs]'")
    return made_once(tmp_path_factory, "site", build)


def build(out: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(out)],
        cwd=ROOT, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


class Page(HTMLParser):
    """Ids, links and what is fetched; how many elements of some kinds are in the article, but for generated links."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.links: list[str] = []
        self.fetched: list[str] = []
        self.found = dict.fromkeys(COUNTED, 0)
        self.open: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        self.ids |= {values[name] for name in ("id", "name") if name in values}
        if tag == "a" and "href" in values:
            self.links.append(values["href"])
        if tag in ("script", "img", "iframe") and "src" in values:
            self.fetched.append(values["src"])
        if tag == "link":
            self.fetched.append(values["href"])
        if tag in COUNTED and "article" in self.open:
            self.found[tag] += 1
        if tag not in EMPTY:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        while tag in self.open and self.open.pop() != tag:
            pass


@cache
def page(path: Path) -> Page:
    return Page(path)


def built(site: Path) -> list[Path]:
    reports = site / "results" / "sample"
    return [path for path in sorted(site.rglob("*.html")) if path.parent != reports]


def test_every_page_is_built(site: Path):
    assert {str(path.relative_to(site)) for path in built(site)} - {"404.html"} == {
        name.removesuffix(".md") + ".html" for name in PAGES
    }


def test_links_and_their_anchors_lead_somewhere(site: Path):
    for path in built(site):
        for link in page(path).links:
            target, _, anchor = link.partition("#")
            if ":" in target or (path.name == "404.html" and target.startswith("/")):
                continue
            file = (path.parent / target).resolve() if target else path
            assert file.exists(), f"{path.name}: {link}"
            if anchor and file.suffix == ".html":
                assert anchor in page(file).ids | {"__top"}, f"{path.name}: {link}"


def test_nothing_is_fetched_from_elsewhere(site: Path):
    for path in built(site):
        for source in page(path).fetched:
            assert "//" not in source, f"{path.name}: {source}"


@pytest.mark.parametrize("name", [name for name in PAGES if not name.startswith("api/")])
def test_a_page_has_what_the_forge_shows_of_it(name: str, site: Path, tmp_path: Path):
    """Lists, tables and blocks of code: readers of Markdown differ in what they take for one."""
    text = (ROOT / "docs" / name).read_text(encoding="utf-8")
    shown = tmp_path / "shown.html"
    shown.write_text(f"<article>{MarkdownIt('commonmark').enable('table').render(text)}</article>", encoding="utf-8")
    found = page(site / (name.removesuffix(".md") + ".html")).found
    wanted = page(shown).found
    assert found == wanted


@pytest.mark.parametrize("name", ["PretrainConfig", "FinetuneConfig", "PredictConfig", "SuggestConfig"])
def test_every_setting_stands_in_the_interface_with_its_help(name: str, site: Path):
    path = site / "api" / "stages.html"
    shown = " ".join(html.unescape(re.sub(r"<[^>]+>", "", path.read_text(encoding="utf-8"))).split())
    for field in dataclasses.fields(getattr(config, name)):
        assert f"jcl.config.{name}.{field.name}" in page(path).ids
        assert " ".join(field.metadata["help"].replace("`", "").split()) in shown, field.name


def test_the_search_works_and_nothing_is_wider_than_a_phone(site: Path, tmp_path: Path):
    """Opened from the folder, without a server: a browser then starts no worker, which the search wants."""
    with open_browser(tmp_path / "profile") as driver:
        for name in ("index", "data", "results", "methods", "faq", "api/losses", "api/stages", "errors"):
            set_size(driver, 390, 844, phone=True)
            driver.get((site / f"{name}.html").as_uri())
            assert driver.execute_script("return document.documentElement.scrollWidth") <= 390, name
        set_size(driver, 1440, 900)
        driver.get((site / "index.html").as_uri())
        assert "temperature" in search(driver, "temperature").lower()
        assert {address.partition(":")[0] for address in requests(driver)} == {"file"}
        assert complaints(driver) == []


def search(driver: Any, words: str) -> str:
    """What the search lists."""
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.ui import WebDriverWait

    driver.find_element(By.CSS_SELECTOR, "input.md-search__input").send_keys(words)
    results = "ol.md-search-result__list a"
    return WebDriverWait(driver, 60).until(
        lambda browser: " ".join(each.text for each in browser.find_elements(By.CSS_SELECTOR, results))
    )
