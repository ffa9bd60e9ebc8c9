"""The page in Chromium: a scan is dropped, looked at, corrected, downloaded and kept."""

import base64
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk

from support.browser import complaints, open_browser, requests, set_dark, set_size
from support.serving import LABELS, Served, running, save_scan, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

NAME = "<img src=x onerror=alert(1)> anna"
SHOWN = "_img src_x onerror_alert_1_ anna"
DROP = """
const content = Uint8Array.from(atob(arguments[0]), (letter) => letter.charCodeAt(0));
const files = new DataTransfer();
files.items.add(new File([content], arguments[1]));
document.dispatchEvent(new DragEvent("drop", { dataTransfer: files, bubbles: true, cancelable: true }));
"""


@pytest.fixture(scope="module")
def live(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("live")
    with running(run, folder / "room", keep=folder / "kept", max_mb=1) as served:
        yield served


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with open_browser(tmp_path_factory.mktemp("profile")) as driver:
        yield driver


def find(driver: Any, selector: str) -> Any:
    return driver.find_element("css selector", selector)


def texts(driver: Any, selector: str) -> list[str]:
    return [each.text for each in driver.find_elements("css selector", selector)]


def drop(driver: Any, path: Path, name: str) -> None:
    driver.execute_script(DROP, base64.b64encode(path.read_bytes()).decode(), name)


@pytest.fixture
def page(chromium: Any, live: Served, tmp_path: Path) -> Any:
    """The page with a scan that is segmented."""
    set_size(chromium, 1440, 900)
    set_dark(chromium, dark=False)
    requests(chromium), complaints(chromium)
    chromium.get(live.access.address)
    wait_for(lambda: texts(chromium, "#classes span"))
    drop(chromium, save_scan(tmp_path / "p1.nii.gz"), f"{NAME}.nii.gz")
    wait_for(lambda: find(chromium, "#viewer").is_displayed())
    yield chromium
    chromium.execute_script("window.onbeforeunload = null")
    chromium.get("about:blank")


def places(driver: Any) -> list[str]:
    return texts(driver, "figcaption output")


def test_from_a_dropped_scan_to_a_kept_correction(page: Any, live: Served, tmp_path: Path) -> None:
    from selenium.webdriver import ActionChains
    from selenium.webdriver.common.keys import Keys

    assert page.current_url == f"http://127.0.0.1:{live.access.port}/"  # without the token
    assert texts(page, "#classes span") == list(LABELS.values())  # as they are, whatever HTML would make of them
    assert find(page, "#case").text == SHOWN
    assert texts(page, "figcaption b") == ["Axial", "Coronal", "Sagittal"]
    assert places(page) == ["3 of 5", "7 of 12", "9 of 16"]

    canvas = find(page, "figure.large canvas")
    page.execute_script("arguments[0].dispatchEvent(new WheelEvent('wheel', {deltaY: 1, cancelable: true}))", canvas)
    wait_for(lambda: places(page)[0] == "4 of 5")
    canvas.send_keys(Keys.PAGE_UP, Keys.ARROW_LEFT, Keys.ARROW_DOWN)
    wait_for(lambda: places(page) == ["3 of 5", "8 of 12", "8 of 16"])
    assert "Axial, slice 3 of 5; at the cross:" in canvas.get_attribute("aria-label")

    (job,) = live.service.jobs.jobs.values()
    shape = job.result.geometry.shape
    before = np.fromfile(job.task.classes, np.uint8).reshape(shape)
    find(page, "#size").send_keys(Keys.HOME)  # one voxel
    canvas.send_keys("b2", Keys.SPACE)
    wait_for(lambda: before[2, 7, 7] == 2 or find(page, "#undo").is_enabled())
    page.execute_script("arguments[0].focus()", find(page, "#undo"))
    ActionChains(page).move_to_element(canvas).click_and_hold().move_by_offset(60, 0).release().perform()
    wait_for(lambda: find(page, "#undo").is_enabled())
    find(page, "#undo").click()
    wait_for(lambda: find(page, "#redo").is_enabled())

    downloads = tmp_path / "downloads"
    page.execute_cdp_cmd("Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(downloads)})
    find(page, "#download").click()
    (path,) = wait_for(lambda: [*downloads.glob("*.nii.gz")])
    assert path.name == f"{SHOWN}_corrected.nii.gz"
    find(page, "#name").clear()
    find(page, "#name").send_keys("anna/../x")
    find(page, "#keep").click()
    wait_for(lambda: "Kept as x" in find(page, "#said").text)
    assert "jcl prepare" in find(page, "#keeps").text
    kept = live.config.keep
    assert kept is not None
    label = sitk.GetArrayFromImage(sitk.ReadImage(str(kept / "labels" / "x.nii.gz")))
    wanted = np.array([0, *LABELS])[before]
    wanted[2, 7, 7] = 7  # and no other: the second stroke was taken back
    assert (job.result.geometry.turn(label) == wanted).all()
    wait_for(lambda: path.stat().st_size)
    assert (sitk.GetArrayFromImage(sitk.ReadImage(str(path))) == label).all()
    assert (kept / "images" / "x.nii.gz").read_bytes() == (tmp_path / "p1.nii.gz").read_bytes()

    find(page, "#keep").click()
    wait_for(lambda: "is there already" in find(page, "#wrong").text)
    find(page, "#again").click()
    wait_for(lambda: not live.service.jobs.jobs and live.left() == [])
    asked = [address for address in requests(page) if not address.startswith("about:")]
    assert {address.split("/")[2] for address in asked} == {f"127.0.0.1:{live.access.port}"}
    assert [line for line in complaints(page) if "409" not in line] == []


def test_the_eraser_takes_its_own_structure_alone(page: Any, live: Served) -> None:
    from selenium.webdriver.common.keys import Keys

    (job,) = live.service.jobs.jobs.values()
    before = np.fromfile(job.task.classes, np.uint8).reshape(job.result.geometry.shape)
    canvas = find(page, "figure.large canvas")
    find(page, "#size").send_keys(Keys.END)  # all of the slice
    canvas.send_keys("e2", Keys.SPACE)
    wait_for(lambda: find(page, "#undo").is_enabled())
    find(page, "#download").click()
    wait_for(lambda: job.corrected)
    after = np.fromfile(job.folder / "corrected", np.uint8).reshape(before.shape)
    wanted = before.copy()
    wanted[2][before[2] == 2] = 0
    assert (after == wanted).all()
    assert (before[2] == 2).any()


def test_what_is_wrong_is_said_in_the_servers_words(chromium: Any, live: Served, tmp_path: Path) -> None:
    chromium.get(live.access.address)
    wait_for(lambda: texts(chromium, "#classes span"))
    (tmp_path / "a.nii").write_bytes(b"nothing" * 100)
    for name, said in (("a.nii", "a.nii: not a NIfTI file"), ("a.exe", "not a scan by its name")):
        drop(chromium, tmp_path / "a.nii", name)
        wait_for(lambda said=said: said in find(chromium, "#wrong").text)
        assert find(chromium, "#start").is_displayed()
    wait_for(lambda: live.left() == [])


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [390, 1440])
def test_it_fits_and_everything_has_a_name(page: Any, width: int, dark: bool) -> None:
    set_size(page, width, 844, phone=width < 500)
    set_dark(page, dark=dark)
    time.sleep(0.3)
    assert page.execute_script("return document.documentElement.scrollWidth") <= width
    shown = [each for each in page.find_elements("css selector", "figure") if each.is_displayed()]
    assert len(shown) == (1 if width == 390 else 3)
    nodes = [node for node in page.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"] if not node["ignored"]]
    roles = {"button", "radio", "slider", "textbox", "image", "img", "region", "link", "progressbar"}
    asked = [node for node in nodes if node["role"]["value"] in roles]
    assert {node["role"]["value"] for node in asked} >= {"button", "radio", "slider", "textbox"}
    unnamed = [node for node in asked if not node["name"]["value"].strip()]
    assert [(node["role"]["value"], node.get("properties")) for node in unnamed] == []
    drawn = page.execute_script(
        "const c = document.querySelector('figure.large canvas');"
        "return new Set(c.getContext('2d').getImageData(0, 0, c.width, c.height).data).size"
    )
    assert drawn > 20
