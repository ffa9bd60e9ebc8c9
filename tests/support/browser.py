"""A headless Chromium that asks for nothing from the network, and tells what a page does in it."""

import json
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--force-color-profile=srgb",
    "--hide-scrollbars",
)


GET = "apt-get install chromium chromium-driver; `.ci/run` does"


def _program(*names: str) -> str:
    """The path of the program that goes by one of these names; without one, the test is skipped."""
    for path in filter(None, map(shutil.which, names)):
        # some systems have a script of this name that only says where to get the program
        if subprocess.run([path, "--version"], capture_output=True, check=False).returncode == 0:
            return path
    pytest.skip(f"the report's page: no {names[0]} here ({GET})")


@contextmanager
def open_browser(profile: Path) -> Iterator[Any]:
    """A driver of Chromium with a new profile in `profile`; its log of the console and of the network is kept.

    Where Chromium or its driver is missing, the test that asks is skipped.
    """
    from selenium.webdriver import Chrome, ChromeOptions, ChromeService

    options = ChromeOptions()
    options.binary_location = _program("chromium", "chromium-browser", "google-chrome")
    for flag in (*FLAGS, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = Chrome(options=options, service=ChromeService(_program("chromedriver")))
    try:
        driver.get("about:blank")
        driver.get_log("performance")  # the browser's own first page asked for things
        yield driver
    finally:
        driver.quit()


def set_size(driver: Any, width: int, height: int, *, phone: bool = False) -> None:
    """The size of the page's window in CSS pixels."""
    metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": phone}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)


def set_dark(driver: Any, *, dark: bool) -> None:
    """What the system says it prefers."""
    still = {"name": "prefers-reduced-motion", "value": "reduce"}  # what is clicked must not be on its way
    theme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [theme, still]})


def requests(driver: Any) -> list[str]:
    """Addresses that were asked for since the last call, without those in the page itself and those it forbids."""
    events = [json.loads(entry["message"])["message"] for entry in driver.get_log("performance")]
    asked: dict[str, str] = {}
    for event in events:
        if event["method"] == "Network.requestWillBeSent":
            asked[event["params"]["requestId"]] = event["params"]["request"]["url"]
        elif event["method"] == "Network.loadingFailed" and event["params"].get("blockedReason") == "csp":
            asked.pop(event["params"]["requestId"], None)
    return [address for address in asked.values() if not address.startswith("data:")]


def complaints(driver: Any) -> list[str]:
    """What the console said since the last call."""
    return [entry["message"] for entry in driver.get_log("browser")]
