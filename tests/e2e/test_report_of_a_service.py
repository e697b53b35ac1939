"""A report of a running service, made with an auditor's certificate."""

from pathlib import Path

import pytest

from tests.browser import Browser
from tests.e2e.conftest import Quickstart
from tests.report_stand import ranged

pytestmark = pytest.mark.xdist_group("quickstart")


def test_a_report_of_a_running_service(quickstart: Quickstart, browser: Browser, tmp_path: Path):
    key = str(quickstart.folder / "log.pub.pem")
    out = tmp_path / "report.html"
    done = quickstart.json(
        *("audit", "report", "--log-key", key, "--key", "supplier-signing", "-o", str(out)), caller="auditor"
    )
    assert done["verified"]
    assert done["from"] == 0
    assert done["entries"] < done["to"]
    browser.open(out.as_uri())
    assert browser.text("main").startswith(f"Verified: entries 0 to {done['to'] - 1}\n")
    assert "gbcs-pre-command" in browser.text("main")
    assert browser.complaints() == []
    assert browser.barriers() == []


def test_a_report_needs_a_range_or_a_service(quickstart: Quickstart, tmp_path: Path):
    key = str(quickstart.folder / "log.pub.pem")
    out = tmp_path / "report.html"
    nowhere = quickstart.run("audit", "report", "--log-key", key, "-o", str(out), CRYPTOSVC_TARGET="")
    assert nowhere.returncode == 2
    assert "give --range, or --target" in nowhere.stderr
    refused = quickstart.run("audit", "report", "--log-key", key, "-o", str(out), caller="supplier")
    assert refused.returncode == 3
    assert not out.exists()


def test_a_range_that_was_changed_ends_with_code_4(quickstart: Quickstart, tmp_path: Path):
    range_file, key = ranged(tmp_path)
    range_file.write_bytes(range_file.read_bytes().replace(b'"clause":"G3.29"', b'"clause":"G3.28"', 1))
    out = tmp_path / "report.html"
    done = quickstart.run(
        "audit", "report", "--range", str(range_file), "--log-key", str(key), "-o", str(out), "--json"
    )
    assert done.returncode == 4
    assert '"rule": "completeness/root"' in done.stdout
    assert "does not verify" in out.read_text()
