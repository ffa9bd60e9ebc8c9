"""The page in Chromium, as a reader has it: from a file, by mouse, keyboard and finger, on a phone and on paper."""

import base64
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import pages
from browser import complaints, open_browser, requests, set_dark, set_size
from grids import benchmark
from jcl.report.page.page import render

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
    """The page anew, in a wide and light window."""
    set_size(chromium, 1280, 900)
    set_dark(chromium, dark=False)
    chromium.get(address)
    return chromium


def find(driver: Any, selector: str) -> Any:
    return driver.find_element("css selector", selector)


def find_all(driver: Any, selector: str) -> list[Any]:
    return driver.find_elements("css selector", selector)


SCORES = '#table-1 .pane[data-metric="dice"] > .scroll table'


def rows_of(driver: Any) -> list[str]:
    return [each.text for each in find_all(driver, f"{SCORES} tbody th")]


def head(driver: Any, number: int) -> Any:
    return find(driver, f"{SCORES} thead th:nth-child({number})")


def test_opens_without_a_word_and_asks_for_nothing(chromium: Any, address: str) -> None:
    requests(chromium), complaints(chromium)
    chromium.get(address)
    assert "A benchmark" in chromium.title
    assert find(chromium, ".viewer").is_displayed()
    assert requests(chromium) == [address]
    assert complaints(chromium) == []


def test_heads_sort_best_first_then_worst_first_then_as_it_was_and_empty_cells_are_last(page: Any) -> None:
    before = rows_of(page)
    assert before == ["Random", "JCL", "MoCo", "Bad"]
    orders = []
    for _ in range(3):
        find(head(page, 2), "button").click()
        orders.append((head(page, 2).get_attribute("aria-sort"), rows_of(page)))
    assert orders == [
        ("descending", ["JCL", "MoCo", "Random", "Bad"]),
        ("ascending", ["Random", "MoCo", "JCL", "Bad"]),
        ("none", before),
    ]


def test_sorts_by_keyboard_and_by_name_and_tells_only_of_one_column(page: Any) -> None:
    from selenium.webdriver.common.keys import Keys

    find(head(page, 3), "button").send_keys(Keys.ENTER)
    assert rows_of(page) == ["JCL", "Random", "MoCo", "Bad"]
    find(head(page, 1), "button").send_keys(Keys.SPACE)
    assert rows_of(page) == ["Bad", "JCL", "MoCo", "Random"]
    states = [each.get_attribute("aria-sort") for each in find_all(page, f"{SCORES} thead th")]
    assert states == ["ascending", "none", "none", "none"]


def test_distances_sort_from_the_least(page: Any) -> None:
    find(page, '#table-1 input[value="hd95"]').click()
    table = '#table-1 .pane[data-metric="hd95"] > .scroll table'
    find(page, f"{table} thead th:nth-child(2) button").click()
    assert [each.text for each in find_all(page, f"{table} tbody th")] == ["Random", "MoCo", "JCL", "Bad"]


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


def grey(number: int) -> list[int]:
    return [pages.GREYS[number]] * 3


def blended(number: int, opacity: float) -> list[int]:
    """Colour of the first class over the grey of a slice."""
    return [round(opacity * colour + (1 - opacity) * pages.GREYS[number]) for colour in pages.COLOUR]


def assert_near(found: list[int], wanted: list[int]) -> None:
    assert max(abs(a - b) for a, b in zip(found, wanted, strict=True)) <= 2, (found, wanted)  # rounding of the browser


def test_viewer_begins_at_the_slice_that_it_is_told_and_the_slider_moves_through_all(page: Any) -> None:
    place = find(page, '.viewer [data-part="place"]')
    assert place.text == "slice 2 of 5"
    for number in range(pages.SLICES):
        choose(page, "slice", number)
        choose(page, "opacity", 0)
        assert place.text == f"slice {number + 1} of 5"
        assert_near(middle(page, "prediction"), grey(number))
        assert_near(middle(page, "truth"), grey(number))


def test_viewer_lays_each_methods_labels_over_and_the_truth_beside(page: Any) -> None:
    choose(page, "opacity", 50)
    choose(page, "method", 1)
    expected = {2: (True, True), 3: (False, True), 4: (False, False)}
    for number, labelled in expected.items():
        choose(page, "slice", number)
        for part, is_labelled in zip(("prediction", "truth"), labelled, strict=True):
            assert_near(middle(page, part), blended(number, 0.5) if is_labelled else grey(number))
    caption = find(page, '.viewer [data-part="caption"]')
    assert caption.text == "JCL, Dice 0.500"
    choose(page, "method", 2)
    assert caption.text == "Bad: blocked"


def test_viewer_keeps_the_method_when_the_case_changes_and_shows_pixels_as_high_as_they_are(page: Any) -> None:
    choose(page, "method", 1)
    choose(page, "case", 1)
    assert find(page, '.viewer [data-part="caption"]').text.startswith("JCL")
    assert find(page, '.viewer [data-part="place"]').text == "slice 5 of 5"
    canvas = find(page, '.viewer [data-part="truth"]')
    assert canvas.rect["height"] == pytest.approx(2 * canvas.rect["width"], rel=0.02)


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


def test_viewer_by_finger(page: Any) -> None:
    set_size(page, 390, 844, phone=True)
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


@pytest.mark.parametrize("width", [320, 390, 768, 1280])
def test_nothing_is_wider_than_the_window_also_when_all_is_unfolded(page: Any, width: int) -> None:
    set_size(page, width, 844, phone=width < 500)
    page.execute_script("for (const each of document.querySelectorAll('details')) each.open = true")
    assert page.execute_script("return document.documentElement.scrollWidth") <= width


def test_contents_are_folded_on_a_phone_and_lead_to_their_part(page: Any) -> None:
    set_size(page, 390, 844, phone=True)
    page.refresh()
    assert not find(page, 'nav a[href="#table-2"]').is_displayed()
    find(page, "nav summary").click()
    find(page, 'nav a[href="#table-2"]').click()
    assert page.execute_script("return location.hash") == "#table-2"
    assert not find(page, 'nav a[href="#table-2"]').is_displayed()


LUMINANCE = """
    const [ink, paper] = arguments;
    const probe = document.createElement("span");
    document.body.append(probe);
    const luminance = (name) => {
      probe.style.color = `var(${name})`;
      const parts = getComputedStyle(probe).color.match(/[\\d.]+/g).slice(0, 3).map((part) => part / 255);
      const [r, g, b] = parts.map((part) => (part <= 0.03928 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4));
      return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const both = [luminance(ink), luminance(paper)].sort((a, b) => b - a);
    probe.remove();
    return (both[0] + 0.05) / (both[1] + 0.05);
"""


@pytest.mark.parametrize("dark", [False, True])
def test_text_has_the_contrast_that_wcag_asks_for(page: Any, dark: bool) -> None:
    set_dark(page, dark=dark)
    for paper in ("--paper", "--raised", "--chosen"):
        for ink in ("--ink", "--muted", "--accent", "--good", "--bad", "--warn"):
            assert page.execute_script(LUMINANCE, ink, paper) >= 4.5, (ink, paper)  # WCAG 2.2, 1.4.3, level AA


def test_follows_the_systems_theme_until_the_button_says_otherwise(page: Any) -> None:
    def background() -> str:
        return page.execute_script("return getComputedStyle(document.body).backgroundColor")

    light = background()
    set_dark(page, dark=True)
    dark = background()
    assert light == "rgb(255, 255, 255)" != dark
    find(page, ".theme").click()
    assert background() == light
    find(page, ".theme").click()
    assert background() == dark


USED = {"button", "radio", "slider", "combobox", "table", "navigation"}
"""Roles that the page has to have."""

NAMED = USED | {"image", "img", "region", "link", "figure", "group"}
"""Roles that are spoken by name; figures and groups only where they can be reached by keyboard."""


def test_everything_that_can_be_used_or_seen_has_a_name(page: Any) -> None:
    page.execute_script("for (const each of document.querySelectorAll('details')) each.open = true")
    nodes = page.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
    spoken = [node for node in nodes if not node["ignored"] and node["role"]["value"] in NAMED]
    assert {node["role"]["value"] for node in spoken} >= USED
    focusable = [
        node
        for node in spoken
        if node["role"]["value"] not in ("figure", "group")
        or any(each["name"] == "focusable" for each in node["properties"])
    ]
    assert [node for node in focusable if not node["name"]["value"].strip()] == []


def test_a_mark_leads_to_its_note(page: Any) -> None:
    mark = find(page, f"{SCORES} a.mark")
    note = find(page, mark.get_attribute("hash"))
    assert note.is_displayed()
    assert note.text.startswith(mark.text)


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


def test_names_that_are_markup_do_nothing(chromium: Any, tmp_path: Path) -> None:
    grid = pages.some_grid(HOSTILE)
    read = benchmark(replace(grid, title=HOSTILE), title=HOSTILE, notes=HOSTILE, recipe=HOSTILE)
    content = pages.content_of(read, pages.figures_of(HOSTILE), pretraining=pages.pretraining_figures(HOSTILE))
    path = tmp_path / "report.html"
    path.write_text(render(content), encoding="utf-8")
    requests(chromium), complaints(chromium)
    chromium.get(path.as_uri())
    assert chromium.execute_script("return window.stolen") is None
    assert complaints(chromium) == []
    assert requests(chromium) == [path.as_uri()]
    assert find(chromium, "h1").text == HOSTILE
    assert find(chromium, ".viewer option").get_attribute("textContent") == f"{HOSTILE} (M=1)"
    assert rows_of(chromium)[0] == f"Random{HOSTILE}"


def test_the_policy_in_the_page_forbids_what_escaping_would_have_let_through(chromium: Any, tmp_path: Path) -> None:
    """A second lock: even markup that got in could neither run nor fetch."""
    broken = render(pages.some_content()).replace("<main>", f"<main>{HOSTILE}<img src='http://127.0.0.1:9/x.png'>")
    path = tmp_path / "report.html"
    path.write_text(broken, encoding="utf-8")
    requests(chromium)
    chromium.get(path.as_uri())
    assert chromium.execute_script("return window.stolen") is None
    assert requests(chromium) == [path.as_uri()]
    assert complaints(chromium)
