"""The auditor's console over a running service, in a real browser."""

import json
import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from selenium.webdriver.common.by import By

from tests.browser import Browser
from tests.console_stand import Console
from tests.e2e.conftest import COMMAND, Quickstart

pytestmark = pytest.mark.xdist_group("quickstart")


@contextmanager
def running(quickstart: Quickstart, *more: str, caller: str = "auditor") -> Iterator[str]:
    """`cryptosvc audit console` as a process; the address it prints."""
    tls = quickstart.folder / "tls"
    mine = {"CRYPTOSVC_CERT": str(tls / f"{caller}.pem"), "CRYPTOSVC_KEY": str(tls / f"{caller}.key")}
    process = subprocess.Popen(
        [str(COMMAND), "audit", "console", "--log-key", str(quickstart.folder / "log.pub.pem"), *more],
        env=os.environ | quickstart.environment | mine,
        cwd=quickstart.folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "Open this address; it works once:\n"
        yield process.stdout.readline().strip()
    finally:
        process.send_signal(2)
        assert process.wait(20) == 0
        process.stdout.close()


def test_an_auditor_looks_into_a_running_service(quickstart: Quickstart, browser: Browser, tmp_path: Path):
    kept = tmp_path / "kept.note"
    kept.write_text(quickstart.json("audit", "checkpoint", caller="auditor")["note"])
    with running(quickstart, "--since", str(kept)) as address:
        console = Console(browser, address)
        console.go("query?where=key%3Dsupplier-signing&where=outcome%3Dsigned&oldest=1&asked=1")
        console.wait("caption", "of a log of")
        browser.picture("console-query", 900)
        browser.driver.find_element(By.CSS_SELECTOR, "tbody a").click()
        assert console.wait("#verdict h2") == "Verified in this browser: the entry is in the log"
        console.wait("h2", "Why")
        assert console.wait("h3")
        assert re.search(r'@clause\("G', browser.text("main"))
        assert "supplier" in browser.text("main")
        browser.picture("console-entry", 1500)
        assert browser.barriers() == []
        console.go("key?id=supplier-signing")
        console.wait("h2", "Life")
        browser.picture("console-key", 1100)
        assert len(browser.each("svg.timeline circle.change")) == len(console.rows("Changes")) >= 1
        assert browser.complaints() == []
    asked = quickstart.run("audit", "query", "-w", "kind=read", "--limit", "1", "--json", caller="auditor")
    assert json.loads(asked.stdout)["caller"] == "auditor"


def test_whoever_is_no_auditor_is_told_so_in_the_console(quickstart: Quickstart, browser: Browser):
    with running(quickstart, caller="supplier") as address:
        console = Console(browser, address)
        console.go("query?where=kind%3Duse&asked=1")
        assert "only an auditor may query the log" in console.wait("[role=alert]")
