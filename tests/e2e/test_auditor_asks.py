"""An auditor's commands against a running service: queries, accounts, a decision retold, and the proof that it is all."""

import csv
import io
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests import second_verifier
from tests.e2e.conftest import Quickstart

pytestmark = pytest.mark.xdist_group("quickstart")

SUPPLIER = "90-B3-D5-1F-30-01-00-00"


def lines(quickstart: Quickstart, *where: str) -> list[dict[str, object]]:
    done = quickstart.run("audit", "query", *where, "--limit", "0", "--format", "jsonl", caller="auditor")
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_a_query_finds_what_a_key_did_in_every_form(quickstart: Quickstart):
    rows = lines(quickstart, "-w", "key=supplier-signing", "-w", "outcome=signed", "--oldest-first")
    assert rows
    assert {(row["key"], row["kind"], row["outcome"]) for row in rows} == {
        ("supplier-signing", "use", "signed")
    }
    assert [row["leaf_index"] for row in rows] == sorted(row["leaf_index"] for row in rows)
    as_csv = quickstart.run(
        *("audit", "query", "-w", "key=supplier-signing", "-w", "outcome=signed", "--limit", "0"),
        *("--format", "csv"),
        caller="auditor",
    )
    again = list(csv.DictReader(io.StringIO(as_csv.stdout)))
    assert {row["leaf_hash"] for row in rows} <= {row["leaf_hash"] for row in again}
    table = quickstart.run("audit", "query", "-w", "kind=use", "--limit", "1", caller="auditor")
    assert re.search(r"LEAF INDEX +TIME +KIND", table.stdout)
    more = re.search(r"more: --cursor (\S+)", table.stderr)
    assert more
    following = quickstart.run(
        "audit", "query", "-w", "kind=use", "--limit", "1", "--cursor", more[1], caller="auditor"
    )
    assert following.returncode == 0
    assert following.stdout != table.stdout


@pytest.mark.parametrize(
    ("arguments", "caller", "code", "said"),
    [
        (("-w", "key=x"), "supplier", 3, r"forbidden \(G2\.26\): only an auditor"),
        (("-w", "payload=x"), "auditor", 3, r"a query asks by one of: key, class"),
        (("-w", "key"), "auditor", 2, r"is not FIELD=VALUE"),
        (("--from", "soon"), "auditor", 2, r"is not a date"),
        (("--from", "1969-01-01"), "auditor", 2, r"no log is from before 1970"),
        (("--cursor", "x"), "auditor", 3, r"this cursor was not given out"),
        (("-w", "key=absent"), "auditor", 0, r"LEAF INDEX"),
    ],
)
def test_what_cannot_be_asked_is_said(quickstart: Quickstart, arguments, caller, code, said):
    done = quickstart.run("audit", "query", *arguments, caller=caller)
    assert done.returncode == code, done.stderr
    assert re.search(said, done.stdout + done.stderr)


def test_a_key_s_account_tells_uses_changes_and_who(quickstart: Quickstart):
    told = quickstart.json("audit", "usage", "supplier-signing", caller="auditor")
    assert told["callers"]["supplier"] >= 1
    assert {one["content"] for one in told["uses"]} >= {"gbcs-pre-command"}
    assert [one["version"] for one in told["changes"]] == list(range(1, len(told["changes"]) + 1))
    assert told["certificates"]
    assert told["modules"] == ["softhsm"]
    assert told["first_use"]["leaf_index"] <= told["last_use"]["leaf_index"]
    assert sum(one["count"] for one in told["uses"]) == sum(one["count"] for one in told["uses_by_month"])
    who = quickstart.json("audit", "who", "supplier", caller="auditor")
    assert who["as_caller"]["keys"]["supplier-signing"] >= 1
    assert "as_custodian" not in who


def test_a_decision_is_retold_with_the_policies_as_they_read(quickstart: Quickstart):
    (row, *_) = lines(
        quickstart, "-w", "key=supplier-signing", "-w", "outcome=signed", "-w", "content=gbcs-pre-command"
    )
    told = quickstart.json("audit", "why", str(row["leaf_index"]), caller="auditor")
    assert told["decision"]["decision"] == "permit"
    assert told["policy_set"].startswith("kept in the log")
    assert told["policies"]
    for one in told["policies"]:
        assert one["text"].startswith(f'@id("{one["id"]}")')
        assert "@clause(" in one["text"]
    assert told["withheld"]["principal"] == "supplier"


def test_the_users_that_were_served_are_listed_with_their_counts(quickstart: Quickstart):
    rows = quickstart.json("audit", "users", caller="auditor")
    (mine,) = [row for row in rows if row["user"] == SUPPLIER]
    assert mine["uses"] >= 1
    assert mine["devices"] >= 1
    assert re.fullmatch(r"20\d\d-H[12]", mine["half_year"])


def test_an_answer_is_proven_complete_off_line(quickstart: Quickstart, tmp_path: Path):
    kept = tmp_path / "kept.note"
    kept.write_text(quickstart.json("audit", "checkpoint", caller="auditor")["note"])
    where = ("-w", "key=supplier-signing,issuing-oca")
    beginning = tmp_path / "beginning.jsonl"
    done = quickstart.json("audit", "range", str(beginning), caller="auditor")
    assert done["entries"] == done["to"] > 0
    answer = tmp_path / "answer.jsonl"
    rows = lines(quickstart, *where)
    answer.write_text("".join(json.dumps(row) + "\n" for row in rows))
    key = str(quickstart.folder / "log.pub.pem")
    proven = quickstart.json(
        "audit", "complete", str(beginning), "--key", key, *where, "--answer", str(answer)
    )
    assert proven["verified"]
    assert proven["found"] == len([row for row in rows if row["leaf_index"] < done["to"]]) > 0
    answer.write_text(
        "".join(json.dumps(row) + "\n" for row in rows if row["leaf_index"] != proven["leaves"][1])
    )
    short = quickstart.run("audit", "complete", str(beginning), "--key", key, *where, "--answer", str(answer))
    assert short.returncode == 4
    assert f"entry {proven['leaves'][1]} the first of them" in short.stderr
    since = quickstart.json(
        "audit", "range", str(tmp_path / "since.jsonl"), "--since", str(kept), caller="auditor"
    )
    again = quickstart.json(
        "audit", "complete", str(tmp_path / "since.jsonl"), "--key", key, "-w", "kind=read"
    )
    assert (again["from"], again["to"]) == (since["from"], since["to"])
    assert since["from"] > 0


def test_an_answer_goes_out_as_evidence_and_is_verified_off_line_by_both_verifiers(
    quickstart: Quickstart, tmp_path: Path
):
    kept, bundle, key = tmp_path / "kept.note", tmp_path / "answer.bundle", quickstart.folder / "log.pub.pem"
    kept.write_text(quickstart.json("audit", "checkpoint", caller="auditor")["note"])
    lines(quickstart, "-w", "key=supplier-signing")  # the log grows
    where = ("-w", "key=supplier-signing", "--limit", "0", "--bundle", str(bundle), "--log-key", str(key))
    made = quickstart.json("audit", "query", *where, "--complete", caller="auditor")
    assert (made["answer_is_complete"], made["absent"], made["software_is_this"]) == ("claimed", [], True)
    verify = ("audit", "verify", str(bundle), "--key", str(key))
    found = quickstart.json(*verify, "--range", made["range"])
    assert (found["answer_is_complete"], found["undecided"]) == ("proven", 0)
    assert found["answer"] == made["answer"] > 1
    assert found["beside"] >= 3  # the record of the log's key, the policy set, a start of the software
    assert found["question"]["conditions"] == {"key": ["supplier-signing"]}
    second = [sys.executable, str(second_verifier.SCRIPT), str(bundle), str(key)]
    done = subprocess.run(second, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout[:9]) == (0, "verified:"), done.stdout + done.stderr
    unkept = quickstart.run(*verify, "--since", str(kept))
    assert (unkept.returncode, "kept" in unkept.stderr) == (4, True)
    since = quickstart.json("audit", "query", *where, "--since", str(kept), caller="auditor")
    assert 0 < since["since"] <= since["entries"]
    quickstart.json(*verify, "--since", str(kept))
    assert subprocess.run([*second, str(kept)], capture_output=True, check=False).returncode == 0
    assert b'"principal":["' in bundle.read_bytes()
    left_out = ("--without", "principal", "--without", "peer", "-w", "caller=supplier")
    quickstart.json("audit", "query", *where, *left_out, caller="auditor")
    assert quickstart.json(*verify)["answer"] >= 1
    assert b'"principal":["' not in bundle.read_bytes()
    assert subprocess.run(second, capture_output=True, check=False).returncode == 0
    needed = quickstart.run("audit", "query", *where, "--without", "caller", caller="auditor")
    assert (needed.returncode, "told by its 'caller'" in needed.stderr) == (3, True)


def test_every_question_is_in_the_log(quickstart: Quickstart):
    asked = quickstart.run("audit", "query", "-w", "target=00-00-00-00-00-00-00-01", caller="auditor")
    assert asked.returncode == 0
    (row, *_) = lines(quickstart, "-w", "kind=read", "-w", "caller=auditor")
    shown = quickstart.json("audit", "show", str(row["leaf_index"]), caller="auditor")
    assert shown["entry"]["facts"]["what"] == "query"
    assert "00-00-00-00-00-00-00-01" in shown["withheld"]["query"]
    assert "00-00-00-00-00-00-00-01" not in json.dumps(shown["entry"])
