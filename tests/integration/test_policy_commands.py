"""`cryptosvc policy check | explain | matrix` as an auditor meets them: no deployment, only a folder."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

POLICIES = REPOSITORY / "policies"
REFUSED, WRONG_USAGE, VERIFICATION_FAILED = 3, 2, 4
OVER_WIDE = """
@id("extra")
@clause("G2.60")
@text("An extra policy.")
permit (principal, action == Action::"sign", resource in KeyClass::"root-oca")
when { context.content == Content::"organisation-certificate" };
"""


def policy(*arguments: str | Path, folder: Path = POLICIES) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "cryptosvc", "policy", *map(str, arguments), "--folder", str(folder)]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=120, check=False)
    assert "Traceback" not in done.stderr
    return done


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(POLICIES, tmp_path / "policies"))


def test_check_counts_what_holds() -> None:
    done = policy("check", "--json")
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert len(answer["digest"]) == 64
    assert answer["decision_rows"] > 50
    assert answer["sound"] is True


def test_check_of_an_over_wide_folder_names_the_cell(folder: Path) -> None:
    (folder / "99-extra.cedar").write_text(OVER_WIDE)
    done = policy("check", "--json", folder=folder)
    assert done.returncode == VERIFICATION_FAILED, done.stdout
    error = json.loads(done.stdout)["error"]
    assert "root-oca" in error["message"]
    assert "organisation-certificate" in error["message"]
    assert "extra" in error["message"]


def test_check_of_a_table_that_does_not_hold_names_the_row(folder: Path) -> None:
    table = folder / "tests" / "supply.toml"
    text = table.read_text()
    table.write_text(text.replace('expect = "permit"', 'expect = "refuse"', 1))
    done = policy("check", folder=folder)
    assert done.returncode == VERIFICATION_FAILED, done.stdout
    assert "supply.toml" in done.stderr


def test_explain_says_why_not_and_what_would_change_it() -> None:
    refused = policy("explain", "command-signing", "gbcs-pre-command", "--fact", "state=suspended", "--json")
    assert refused.returncode == REFUSED
    answer = json.loads(refused.stdout)
    assert answer["permitted"] is False
    assert any(one.startswith("key-is-usable (G5.13(b))") for one in answer["decided_by"])
    assert answer["would_be_permitted_if"]
    purpose = policy("explain", "root-oca", "organisation-certificate")
    assert purpose.returncode == REFUSED
    assert "may not sign organisation-certificate" in purpose.stdout
    assert "(G2.60)" in purpose.stdout


@pytest.mark.parametrize("fact", ["user_role", "user_role=XX", "no_such_fact=1"])
def test_explain_refuses_what_is_no_fact(fact: str) -> None:
    done = policy("explain", "command-signing", "gbcs-pre-command", "--fact", fact)
    assert done.returncode == WRONG_USAGE, done.stdout + done.stderr
    assert fact.partition("=")[0] in done.stderr


def test_the_matrix_lists_every_cell_with_its_verdict() -> None:
    cells = json.loads(policy("matrix", "--json").stdout)
    permitted = {(cell["key_class"], cell["content"]) for cell in cells if cell["decision"] == "permit"}
    assert ("issuing-oca", "organisation-certificate") in permitted
    assert ("root-oca", "organisation-certificate") not in permitted
    assert len(cells) > 1000
