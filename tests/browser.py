"""A real browser without a screen: Debian's Chromium, told what to do over WebDriver."""

import base64
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from axe_core_python.selenium import Axe
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By

from tests.conftest import REPOSITORY

_FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    # no name resolves but one, which somebody's DNS points here; whatever else a page asked for fails
    "--host-resolver-rules=MAP rebound.example 127.0.0.1, MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    "--hide-scrollbars",
    "--window-size=1200,1000",
)


class Browser:
    """One tab of it."""

    def __init__(self, driver: webdriver.Chrome) -> None:
        self.driver = driver

    def open(self, url: str) -> None:
        """Go there."""
        self.complaints()
        self.driver.get(url)

    def text(self, selector: str = "body") -> str:
        """What somebody reads there."""
        return self.driver.find_element(By.CSS_SELECTOR, selector).text

    def each(self, selector: str) -> list[Any]:
        """Every element there."""
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def complaints(self) -> list[str]:
        """What the console said since it was last asked, but for what is no fault."""
        return [line["message"] for line in self.driver.get_log("browser") if line["level"] != "DEBUG"]

    def barriers(self) -> list[str]:
        """What axe-core finds wrong with the page for people who use it in other ways; it knows 90 rules."""
        found = Axe().run(self.driver, options={"resultTypes": ["violations"]})
        assert len(found["passes"]) > 10, "axe looked at nothing"
        return [
            f"{one['id']}: {node['html']} {node['failureSummary']}"
            for one in found["violations"]
            for node in one["nodes"]
        ]

    def printed_pages(self) -> int:
        """How many pages it prints on."""
        octets = base64.b64decode(self.driver.print_page())
        assert octets.startswith(b"%PDF-")
        return len(re.findall(rb"/Type\s*/Page\b", octets))

    @contextmanager
    def scripts_off(self) -> Iterator[None]:
        """The browser as somebody uses it who lets no page run anything."""
        self.driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
        try:
            yield
        finally:
            self.driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})

    def picture(self, name: str, height: int) -> None:
        """Where CRYPTOSVC_REWRITE is set, put a picture of the page into docs/images: as people see it, `height` high."""
        if os.environ.get("CRYPTOSVC_REWRITE"):
            self.driver.set_window_size(1200, height)
            (REPOSITORY / "docs" / "images" / f"{name}.png").write_bytes(self.driver.get_screenshot_as_png())


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Start it once for all tests of a group."""
    options = webdriver.ChromeOptions()
    options.binary_location = "/usr/bin/chromium"
    for flag in _FLAGS:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service("/usr/bin/chromedriver"))
    driver.set_page_load_timeout(30)
    driver.set_script_timeout(60)
    try:
        yield Browser(driver)
    finally:
        driver.quit()
