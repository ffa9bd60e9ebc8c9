"""The page in Chromium, as a reader has it: from a file, by mouse, keyboard and finger, on a phone and on paper.

One browser, and one page that is written once; each test loads it anew, in a wide and light window.
"""

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from jcl.report.page.render import render
from support import pages
from support.browser import complaints, open_browser, requests, set_dark, set_size

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with open_browser(tmp_path_factory.mktemp("profile")) as driver:
        yield driver


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(render(pages.some_content()), encoding="utf-8")
    return path.as_uri()


@pytest.fixture
def page(chromium: Any, address: str) -> Any:
    set_size(chromium, 1280, 900)
    set_dark(chromium, dark=False)
    requests(chromium), complaints(chromium)
    chromium.get(address)
    return chromium


def find(driver: Any, selector: str) -> Any:
    return driver.find_element("css selector", selector)


def find_all(driver: Any, selector: str) -> list[Any]:
    return driver.find_elements("css selector", selector)


SCORES = '#table-1 .pane[data-metric="dice"] > .scroll table'


def rows_of(driver: Any, table: str = SCORES) -> list[str]:
    return [each.text for each in find_all(driver, f"{table} tbody th")]


def test_opens_without_a_word_asks_for_nothing_and_names_everything(page: Any, address: str) -> None:
    assert "A benchmark" in page.title
    assert requests(page) == [address]
    assert complaints(page) == []
    mark = find(page, f"{SCORES} a.mark")
    note = find(page, mark.get_attribute("hash"))
    assert note.is_displayed()
    assert note.text.startswith(mark.text)
    page.execute_script("for (const each of document.querySelectorAll('details')) each.open = true")
    used = {"button", "radio", "slider", "combobox", "table", "navigation"}
    always, by_keyboard = used | {"image", "img", "region", "link"}, {"figure", "group"}
    nodes = [node for node in page.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"] if not node["ignored"]]
    assert {node["role"]["value"] for node in nodes} >= used
    spoken = [
        node for node in nodes
        if node["role"]["value"] in always
        or (node["role"]["value"] in by_keyboard and any(p["name"] == "focusable" for p in node["properties"]))
    ]  # fmt: skip
    assert [node for node in spoken if not node["name"]["value"].strip()] == []


def test_heads_sort_by_mouse_and_keyboard_and_empty_cells_are_last(page: Any) -> None:
    """Best first, then worst first, then as it was; distances from the least, names by the alphabet."""
    from selenium.webdriver.common.keys import Keys

    def head(number: int) -> Any:
        return find(page, f"{SCORES} thead th:nth-child({number})")

    before = rows_of(page)
    assert before == ["Random", "JCL", "MoCo", "Bad"]
    orders = []
    for _ in range(3):
        find(head(2), "button").click()
        orders.append((head(2).get_attribute("aria-sort"), rows_of(page)))
    assert orders == [
        ("descending", ["JCL", "MoCo", "Random", "Bad"]),
        ("ascending", ["Random", "MoCo", "JCL", "Bad"]),
        ("none", before),
    ]
    find(head(3), "button").send_keys(Keys.ENTER)
    assert rows_of(page) == ["JCL", "Random", "MoCo", "Bad"]
    find(head(1), "button").send_keys(Keys.SPACE)
    assert rows_of(page) == ["Bad", "JCL", "MoCo", "Random"]
    states = [each.get_attribute("aria-sort") for each in find_all(page, f"{SCORES} thead th")]
    assert states == ["ascending", "none", "none", "none"]
    find(page, '#table-1 input[value="hd95"]').click()
    distances = '#table-1 .pane[data-metric="hd95"] > .scroll table'
    find(page, f"{distances} thead th:nth-child(2) button").click()
    assert rows_of(page, distances) == ["Random", "MoCo", "JCL", "Bad"]


def shown_panes(driver: Any) -> list[str]:
    return [each.get_attribute("data-metric") for each in find_all(driver, ".pane") if each.is_displayed()]


def test_one_choice_of_the_metric_holds_for_all_tables(page: Any) -> None:
    from selenium.webdriver.common.keys import Keys

    assert shown_panes(page) == ["dice", "dice"]
    find(page, '#table-2 input[value="asd"]').click()
    assert shown_panes(page) == ["asd", "asd"]
    find(page, '#table-2 input[value="asd"]').send_keys(Keys.ARROW_LEFT)
    assert shown_panes(page) == ["hd95", "hd95"]


def middle(driver: Any, part: str) -> list[int]:
    """Colour in the middle of a canvas of the first viewer."""
    script = """
        const canvas = document.querySelector(`.viewer [data-part="${arguments[0]}"]`);
        return [...canvas.getContext("2d").getImageData(canvas.width / 2, canvas.height / 2, 1, 1).data].slice(0, 3);
    """
    return driver.execute_script(script, part)


def choose(driver: Any, part: str, value: Any) -> None:
    """Set a slider or a list of the first viewer, as a hand would."""
    script = """
        const [part, value] = arguments;
        const control = document.querySelector(`.viewer [data-part="${part}"]`);
        if (control.tagName === "SELECT") control.selectedIndex = value; else control.value = value;
        control.dispatchEvent(new Event(control.tagName === "SELECT" ? "change" : "input"));
    """
    driver.execute_script(script, part, value)


def test_viewer_shows_every_slice_with_the_labels_of_method_and_truth(page: Any) -> None:
    place, caption = (find(page, f'.viewer [data-part="{part}"]') for part in ("place", "caption"))
    assert place.text == "slice 2 of 5"
    choose(page, "opacity", 50)
    choose(page, "method", 1)
    labelled = {"prediction": {2}, "truth": {2, 3}}
    for number, grey in enumerate(pages.GREYS):
        choose(page, "slice", number)
        assert place.text == f"slice {number + 1} of 5"
        for part, slices in labelled.items():
            wanted = [round((grey + colour) / 2) if number in slices else grey for colour in pages.COLOUR]
            assert middle(page, part) == pytest.approx(wanted, abs=2), (number, part)  # rounding of the browser
    assert caption.text == "JCL, Dice 0.500"
    choose(page, "case", 1)  # the method stays
    assert caption.text.startswith("JCL")
    assert place.text == "slice 5 of 5"
    canvas = find(page, '.viewer [data-part="truth"]')
    assert canvas.rect["height"] == pytest.approx(2 * canvas.rect["width"], rel=0.02)  # pixels as high as they are
    choose(page, "case", 0)
    choose(page, "method", 2)
    assert caption.text == "Bad: blocked"


def test_viewer_by_keys_and_wheel_stops_at_both_ends(page: Any) -> None:
    from selenium.webdriver import ActionChains
    from selenium.webdriver.common.actions.wheel_input import ScrollOrigin
    from selenium.webdriver.common.keys import Keys

    stage, place = find(page, '.viewer [data-part="stage"]'), find(page, '.viewer [data-part="place"]')
    stage.send_keys(Keys.ARROW_DOWN, Keys.ARROW_RIGHT)
    assert place.text == "slice 4 of 5"
    stage.send_keys(Keys.PAGE_DOWN)
    assert place.text == "slice 5 of 5"
    find(page, '.viewer [data-part="slice"]').send_keys(Keys.HOME)
    assert place.text == "slice 1 of 5"
    stage.send_keys(Keys.ARROW_UP)
    assert place.text == "slice 1 of 5"
    canvas = find(page, '.viewer [data-part="truth"]')
    page.execute_script("arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", canvas)
    at = page.execute_script("return scrollY")
    ActionChains(page).scroll_from_origin(ScrollOrigin.from_element(canvas), 0, 100).perform()
    assert place.text == "slice 2 of 5"
    assert page.execute_script("return scrollY") == at


def test_on_a_phone_contents_are_folded_and_the_viewer_follows_a_finger(page: Any) -> None:
    set_size(page, 390, 844, phone=True)
    page.refresh()
    assert not find(page, 'nav a[href="#table-2"]').is_displayed()
    find(page, "nav summary").click()
    find(page, 'nav a[href="#table-2"]').click()
    assert page.execute_script("return location.hash") == "#table-2"
    assert not find(page, 'nav a[href="#table-2"]').is_displayed()
    page.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": True})
    canvas = find(page, '.viewer [data-part="truth"]')
    page.execute_script("arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", canvas)
    x, y = page.execute_script(
        "const box = arguments[0].getBoundingClientRect(); return [box.left + 30, box.top + 30]", canvas
    )
    touch = "Input.dispatchTouchEvent"
    page.execute_cdp_cmd(touch, {"type": "touchStart", "touchPoints": [{"x": x, "y": y}]})
    for step in range(1, 11):
        page.execute_cdp_cmd(touch, {"type": "touchMove", "touchPoints": [{"x": x + 4 * step, "y": y}]})
    page.execute_cdp_cmd(touch, {"type": "touchEnd", "touchPoints": []})
    page.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": False})
    assert find(page, '.viewer [data-part="place"]').text in ("slice 4 of 5", "slice 5 of 5")


def test_nothing_is_wider_than_the_window_also_when_all_is_unfolded(page: Any) -> None:
    page.execute_script("for (const each of document.querySelectorAll('details')) each.open = true")
    for width in (320, 390, 768, 1280):
        set_size(page, width, 844, phone=width < 500)
        assert page.execute_script("return document.documentElement.scrollWidth") <= width


LUMINANCE = """
    const probe = document.createElement("span");
    document.body.append(probe);
    const luminance = (name) => {
      probe.style.color = `var(${name})`;
      const parts = getComputedStyle(probe).color.match(/[\\d.]+/g).slice(0, 3).map((part) => part / 255);
      const [r, g, b] = parts.map((part) => (part <= 0.03928 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4));
      return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const found = arguments[0].map(luminance);
    probe.remove();
    return found;
"""


def test_themes_have_contrast_and_follow_the_system_until_the_button_says_otherwise(page: Any) -> None:
    papers, inks = ("--paper", "--raised", "--chosen"), ("--ink", "--muted", "--accent", "--good", "--bad", "--warn")

    def background() -> str:
        values = page.execute_script(LUMINANCE, [*papers, *inks])
        for paper in values[: len(papers)]:
            for ink in values[len(papers) :]:
                assert (max(ink, paper) + 0.05) / (min(ink, paper) + 0.05) >= 4.5  # WCAG 2.2, 1.4.3, level AA
        return page.execute_script("return getComputedStyle(document.body).backgroundColor")

    light = background()
    set_dark(page, dark=True)
    dark = background()
    assert light == "rgb(255, 255, 255)" != dark
    find(page, ".theme").click()
    assert background() == light
    find(page, ".theme").click()
    assert background() == dark


def test_without_scripts_tables_metrics_and_figures_are_there(page: Any) -> None:
    page.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        page.refresh()
        assert rows_of(page) == ["Random", "JCL", "MoCo", "Bad"]
        assert find_all(page, "thead button") == []
        assert not find(page, ".viewer").is_displayed()
        assert find(page, "figure svg").is_displayed()
        assert find(page, "table.pictures img").is_displayed()
        find(page, '#table-1 input[value="jaccard"]').click()
        assert shown_panes(page) == ["jaccard", "dice"]
    finally:
        page.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})


def test_prints_in_black_on_white_without_what_paper_cannot_do(page: Any) -> None:
    set_dark(page, dark=True)
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    try:
        assert not any(find(page, part).is_displayed() for part in ("nav", ".theme", ".metrics", ".viewer"))
        assert page.execute_script("return getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
        assert find(page, SCORES).is_displayed()
    finally:
        page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
    folded = len(find_all(page, "main details:not([open])"))
    paper = base64.b64decode(page.execute_cdp_cmd("Page.printToPDF", {})["data"])
    assert paper.startswith(b"%PDF")
    assert folded == len(find_all(page, "main details:not([open])")) > 0


HOSTILE = "</script><script>window.stolen = 1</script><img src=x onerror='window.stolen = 2'>\"'&"


def test_names_that_are_markup_do_nothing(page: Any, tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    path.write_text(render(pages.named_content(HOSTILE)), encoding="utf-8")
    requests(page)
    page.get(path.as_uri())
    assert page.execute_script("return window.stolen") is None
    assert complaints(page) == []
    assert requests(page) == [path.as_uri()]
    assert find(page, "h1").text == HOSTILE
    assert find(page, ".viewer option").get_attribute("textContent") == f"{HOSTILE} (M=1)"
    assert rows_of(page)[0] == f"Random{HOSTILE}"


def test_the_policy_in_the_page_forbids_what_escaping_would_have_let_through(page: Any, tmp_path: Path) -> None:
    """A second lock: even markup that got in could neither run nor fetch."""
    broken = render(pages.some_content()).replace("<main>", f"<main>{HOSTILE}<img src='http://127.0.0.1:9/x.png'>")
    path = tmp_path / "report.html"
    path.write_text(broken, encoding="utf-8")
    requests(page)
    page.get(path.as_uri())
    assert page.execute_script("return window.stolen") is None
    assert requests(page) == [path.as_uri()]
    assert complaints(page)
