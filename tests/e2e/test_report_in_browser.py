"""The report as people meet it: in a real browser, on paper, with scripts off, with help of assistive technology."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from cryptosvc.cli.reporting import Report
from cryptosvc.wiring.reporting import Reports
from tests.browser import Browser
from tests.report_stand import HOSTILE, HOSTILE_KEY, ranged

pytestmark = pytest.mark.xdist_group("browser")


@dataclass(frozen=True)
class Opened:
    """A report in a browser."""

    browser: Browser
    file: Path


@pytest.fixture
def opened(browser: Browser, tmp_path: Path) -> Iterator[Opened]:
    range_file, key = ranged(tmp_path)
    out = tmp_path / "report.html"
    report = Report(log_key=key, origin="", key="", system="", start=0, stop=0, out=out)
    Reports().from_range(range_file, report, lambda _what, _done, _size: None)
    browser.open(out.as_uri())
    yield Opened(browser, out)
    browser.open("about:blank")


def test_it_shows_its_verdict_first_and_complains_of_nothing(opened: Opened):
    seen = opened.browser
    assert seen.driver.title == "Audit report: example.test/log"
    assert seen.text("main").startswith("Verified: entries 0 to 59\n")
    seen.picture("report", 1750)
    assert seen.complaints() == []
    fetched = seen.driver.execute_script("return performance.getEntriesByType('resource').length")
    assert fetched == 0


def test_what_callers_called_themselves_is_shown_as_text(opened: Opened):
    seen = opened.browser
    assert HOSTILE in seen.text("main")
    assert HOSTILE_KEY in seen.text("main")
    assert seen.each("script") == []
    assert seen.each("img") == []
    assert seen.each("main b") == []


def test_a_figure_leads_to_its_entries(opened: Opened):
    seen = opened.browser
    (number,) = [one for one in seen.each("td.number a") if one.text == "49"][:1]
    number.click()
    source = seen.driver.find_element("css selector", ":target")
    assert source.text.startswith("Outcome signed: 49 entries;")
    source.find_element("link text", "4").click()
    shown = seen.text(":target")
    assert shown.startswith("Entry 4: use, 2026-10-26T08:13:20.000Z")
    assert HOSTILE in shown


def test_its_charts_are_drawn_and_lead_to_entries_too(opened: Opened):
    seen = opened.browser
    bars = seen.each("figure svg .bars a rect, figure svg .bar a rect")
    assert len(bars) >= 12
    assert all(bar.size["height"] > 0 for bar in bars if bar.get_attribute("height") != "0.0")
    assert len(seen.each("figure svg .dots circle")) == 3
    (dot, *_) = seen.each("figure svg .dots a circle")
    dot.click()
    assert seen.text(":target").startswith("Entry ")


def test_nobody_is_kept_from_reading_it(opened: Opened):
    assert opened.browser.barriers() == []


def test_it_reads_the_same_with_scripts_off(opened: Opened):
    seen = opened.browser
    with_scripts = seen.text()
    with seen.scripts_off():
        seen.open(opened.file.as_uri())
        assert seen.text() == with_scripts
    assert len(with_scripts) > 5000


def test_it_prints(opened: Opened):
    assert 5 <= opened.browser.printed_pages() <= 40
