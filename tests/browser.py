"""Chromium for tests: one local page at a given size, by mouse, keys or touch, and without network.

Needs Chromium (or Google Chrome) and its chromedriver on the path, and the browser extra; `opened`
skips the test where one of them is missing, or fails it if the environment has REQUIRE_BROWSER.
"""

import base64
import contextlib
import importlib.util
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
_ARGUMENTS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND",  # what a page asks for is seen, and not sent
)
_REQUESTS = ("Network.requestWillBeSent", "Network.webSocketCreated")


class Page:
    """An open page; its attribute `driver` is Selenium's."""

    def __init__(self, driver: Any, address: str):
        self.driver = driver
        self._address = address
        self._requests: list[str] = []
        self._errors: list[str] = []

    def run(self, script: str, *arguments: Any) -> Any:
        """Returns what the body of a JavaScript function returns; `arguments` are its own."""
        return self.driver.execute_script(script, *arguments)

    def text(self, selector: str) -> str:
        """Returns the text to be seen in the one element of a CSS selector."""
        return self._find(selector).text

    def texts(self, selector: str) -> list[str]:
        """Returns the whole text, seen or not, of each element of a CSS selector."""
        script = "return [...document.querySelectorAll(arguments[0])].map((e) => e.textContent)"
        return self.run(script, selector)

    def shown(self, selector: str) -> bool:
        """Returns whether the one element of a CSS selector can be seen."""
        return self._find(selector).is_displayed()

    def press(self, *keys: str) -> None:
        """Presses keys one after the other: "1", "a", or a name such as "Enter" or "ArrowLeft"."""
        from selenium.webdriver.common.action_chains import ActionChains
        from selenium.webdriver.common.keys import Keys

        names = {name.title().replace("_", ""): value for name, value in vars(Keys).items()}
        for key in keys:
            code = key if len(key) == 1 else names[key]
            ActionChains(self.driver).send_keys(code).perform()

    def tap(self, selector: str) -> None:
        """Taps the middle of the one element of a CSS selector with a finger."""
        self._point("touch", selector)

    def click(self, selector: str) -> None:
        """Clicks the middle of the one element of a CSS selector with the mouse."""
        self._point("mouse", selector)

    def screenshot(self, file: Path, whole: bool = False) -> None:
        """Writes a PNG of what is seen, or of the whole page."""
        options: dict[str, Any] = {}
        if whole:
            script = "const e = document.documentElement; return [e.clientWidth, e.scrollHeight]"
            width, height = self.run(script)
            clip = {"x": 0, "y": 0, "width": width, "height": height, "scale": 1}
            options = {"clip": clip, "captureBeyondViewport": True}
        shot = self.driver.execute_cdp_cmd("Page.captureScreenshot", options)
        file.write_bytes(base64.b64decode(shot["data"]))

    def overflow(self) -> int:
        """Returns by how many CSS pixels the page is wider than the window."""
        # A phone zooms out until a page that is too wide fits its innerWidth.
        return self.run("const e = document.documentElement; return e.scrollWidth - e.clientWidth")

    def errors(self) -> list[str]:
        """Returns what was an error in the console so far, whoever wrote it there."""
        for entry in self.driver.get_log("browser"):
            if entry["level"] == "SEVERE":
                self._errors.append(entry["message"])
        return self._errors

    def requests(self) -> list[str]:
        """Returns the addresses that the page has asked for so far, itself and data: left out."""
        for entry in self.driver.get_log("performance"):
            message = json.loads(entry["message"])["message"]
            if message["method"] in _REQUESTS:
                about = message["params"]
                url = about.get("url") or about["request"]["url"]
                # Chromium's own start page is in the same log.
                own = not about.get("documentURL", "").startswith("chrome")
                if own and url != self._address and not url.startswith("data:"):
                    self._requests.append(url)
        return self._requests

    def _find(self, selector: str) -> Any:
        return self.driver.find_element("css selector", selector)

    def _point(self, kind: str, selector: str) -> None:
        from selenium.webdriver.common.actions.action_builder import ActionBuilder
        from selenium.webdriver.common.actions.pointer_input import PointerInput

        element = self._find(selector)
        self.run("arguments[0].scrollIntoView({block: 'nearest', behavior: 'instant'})", element)
        actions = ActionBuilder(self.driver, mouse=PointerInput(kind, kind), duration=0)
        actions.pointer_action.move_to(element).pointer_down().pointer_up()
        actions.perform()


@contextlib.contextmanager
def opened(
    file: Path, width: int, height: int, *, touch: bool = False, dark: bool = False
) -> Iterator[Page]:
    """Opens a local HTML file, and closes the browser in the end.

    Args:
      width, height: of the window's inside, in CSS pixels.
      touch: whether it is a phone: a finger instead of a mouse, and a narrow page's layout.
      dark: whether the user prefers dark pages.
    """
    chromium, driver = _programs()
    from selenium import webdriver

    address = file.resolve().as_uri()
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    if touch:
        metrics = {"width": width, "height": height, "pixelRatio": 2, "touch": True, "mobile": True}
        options.add_experimental_option("mobileEmulation", {"deviceMetrics": metrics})
    # Chromium's last process may still write into its folder when the driver has ended it.
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        for argument in (*_ARGUMENTS, f"--user-data-dir={profile}"):
            options.add_argument(argument)
        browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
        try:
            if not touch:
                size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
                browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
            scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
            browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
            browser.get(address)
            yield Page(browser, address)
        finally:
            browser.quit()


def _programs() -> tuple[str, str]:
    """Returns the paths of Chromium and of its driver, or ends the test."""
    lacking = pytest.fail if os.environ.get("REQUIRE_BROWSER") else pytest.skip
    chromium = next(filter(None, map(shutil.which, CHROMIUM)), None)
    driver = shutil.which("chromedriver")
    if importlib.util.find_spec("selenium") is None:
        lacking("needs the browser extra: pip install -e '.[browser]'")
    if chromium is None:
        lacking(f"needs a browser on the path: one of {', '.join(CHROMIUM)}")
    if driver is None:
        lacking("needs chromedriver on the path, of the browser's own version")
    return chromium, driver
