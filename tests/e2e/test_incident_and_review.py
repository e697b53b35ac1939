"""Review, incident and a module's own log, by the commands that auditor and operator run, on a service with a genesis."""

import hashlib
import json
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from cryptosvc.core import dsse
from tests import governed
from tests.deployment import Deployment

PUT_WITHIN_SECONDS = 60


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Deployment:
    made, _ = governed.founded(tmp_path_factory.mktemp("reviewed") / "deployment")
    with made.config.open("a") as config:
        config.write('\n[incident]\n[[incident.notify]]\nwho = "Panel"\nhow = "by mail"\nwithin_hours = 4\n')
        config.write('\n[[outside]]\nname = "archive"\nfile = "checkpoints"\n')
    return made


def test_an_auditor_signs_off_and_what_is_left_is_listed(deployment: Deployment, tmp_path: Path) -> None:
    config = ("--config", str(deployment.config))
    exported = deployment.verified_log()
    note = tmp_path / "checkpoint"
    note.write_bytes(_newest_note(exported.octets))
    size = int(note.read_text().splitlines()[1])
    signing = ("--checkpoint", str(note), "--log-key", str(deployment.folder / "log.pub.pem"))
    for who, code in (("ada", 2), (governed.AUDITOR, 0)):
        envelope = tmp_path / f"{who}.dsse"
        key = ("--key", str(deployment.folder / f"{who}.pem"), "--out", str(envelope))
        deployment.json("audit", "review", "sign", *signing, *key, "--from", "1", "--remarks", "looked at")
        done = deployment.run("audit", "review", "record", str(envelope), *config, "--json")
        assert (done.returncode != 0) == bool(code), done.stdout + done.stderr
        if code:
            assert "review/auditor" in done.stdout + done.stderr
    rows = json.loads(deployment.run("audit", "review", "list", *config, "--json").stdout)
    assert (rows[0]["from"], rows[0]["to"]) == (0, 0)
    assert rows[1]["from"] == size
    assert {row["late"] for row in rows} == {False}
    (signed,) = json.loads(deployment.run("audit", "review", "list", *config, "--signed", "--json").stdout)
    entry = deployment.verified_log().entries[signed["entry"]]
    assert entry.fields["facts"]["stop"] == str(size)
    assert entry.withheld["custodian"][1] == governed.AUDITOR
    assert dsse.parse(entry.withheld["review"][1].encode()).payload.count(b"looked at") == 1


def test_an_incident_is_one_command(deployment: Deployment, tmp_path: Path) -> None:
    words = tmp_path / "words"
    words.write_text("A key was used past the service.")
    pack = tmp_path / "pack"
    asked = (
        "audit",
        "incident",
        "past the service",
        "--words",
        str(words),
        "--config",
        str(deployment.config),
    )
    done = deployment.json(*asked, "--out", str(pack))
    names = {"incident.md", "alarms.jsonl", "log.export", "SHA256SUMS"}
    assert {path.name for path in pack.iterdir()} == names
    page = (pack / "incident.md").read_text()
    assert "| Panel | by mail | G2.11(a) |" in page
    assert "A key was used past the service." in page
    sums = (pack / "SHA256SUMS").read_bytes()
    for line in sums.decode().splitlines():
        digest, name = line.split()
        assert hashlib.sha256((pack / name).read_bytes()).hexdigest() == digest
    key = ("--key", str(deployment.folder / "log.pub.pem"))
    assert deployment.json("audit", "verify", str(pack / "log.export"), *key)["verified"] is True
    entry = deployment.verified_log().entries[done["entry"]]
    assert (entry.fields["kind"], entry.fields["facts"]["pack"]) == (
        "incident",
        hashlib.sha256(sums).hexdigest(),
    )
    (notice,) = done["notify"]
    assert notice["by"] - int(entry.fields["facts"]["known_at"]) == 4 * 3600
    assert entry.withheld["incident"][1] == "past the service"
    again = deployment.run(*asked, "--out", str(pack), "--json")
    assert again.returncode != 0
    assert "incident/folder" in again.stdout + again.stderr


def test_an_incident_of_a_running_service_has_a_bundle(deployment: Deployment, tmp_path: Path) -> None:
    tls, pack = deployment.folder / "tls", tmp_path / "pack"
    log_key = str(deployment.folder / "log.pub.pem")
    with deployment.serving():
        deployment.json(
            *(
                "audit",
                "incident",
                "past the service",
                "--config",
                str(deployment.config),
                "--out",
                str(pack),
            ),
            *("--target", f"127.0.0.1:{deployment.port}", "--ca", str(tls / "ca.pem"), "--log-key", log_key),
            *("--cert", str(tls / "auditor.pem"), "--private-key", str(tls / "auditor.key")),
            *("--key", "log-signing"),
        )
        outside = deployment.folder / "checkpoints"
        end = time.monotonic() + PUT_WITHIN_SECONDS
        while not outside.exists():
            assert time.monotonic() < end, "no checkpoint was put outside"
            time.sleep(0.05)
    export = tmp_path / "log.export"
    deployment.json("audit", "export", "--config", str(deployment.config), str(export))
    held = deployment.json("audit", "verify", str(export), "--key", log_key, "--outside", str(outside))
    assert held["held_outside"][0]["checkpoints"] >= 1
    verdict = deployment.json("audit", "verify", str(pack / "evidence.bundle"), "--key", log_key)
    assert verdict["verified"] is True
    assert verdict["question"]["conditions"] == {"key": ["log-signing"]}


def test_a_signature_past_the_service_is_found_in_the_modules_own_log(
    deployment: Deployment, tmp_path: Path
) -> None:
    log = deployment.verified_log()
    signed = [one for one in log.of_kind("use") if one.fields["outcome"] == "signed"]
    (key,) = {one.fields["key"] for one in signed}
    documents = [
        json.loads(one.withheld["document"][1])
        for one in log.of_kind("key-record")
        if one.fields["key"] == key
    ]
    object_id = documents[-1]["object_id"]
    moments = [datetime.fromtimestamp(int(one.fields["time"]) // 10**9, UTC).isoformat() for one in signed]
    rows = tmp_path / "module.csv"
    asked = ("audit", "module-log", str(rows), "--module", "softhsm", "--config", str(deployment.config))

    def said(times: list[str]) -> tuple[int, dict]:
        rows.write_text("time,object_id,label\n" + "".join(f"{one},{object_id},\n" for one in times))
        done = deployment.run(*asked, "--json")
        return done.returncode, json.loads(done.stdout)

    code, found = said(moments)
    assert (code, found["signatures"], found["unrecorded"]) == (0, len(moments), [])
    code, found = said([*moments, moments[-1].replace(moments[-1][:4], "2020")])
    assert (code, [(one["row"], one["key"]) for one in found["unrecorded"]]) == (1, [(len(moments) + 1, key)])
    recorded = [
        one.fields["facts"]
        for one in deployment.verified_log().of_kind("reconciled")
        if one.fields["operation"] == "unrecorded-signature"
    ]
    assert [(one["key"], one["module"]) for one in recorded] == [(key, "softhsm")]
    other = deployment.run(*asked, "--module", "nothing", "--json")
    assert other.returncode not in (0, 1)


def _newest_note(octets: bytes) -> bytes:
    """The largest signed checkpoint of an export."""
    lines = [json.loads(line) for line in octets.partition(b"\n\n")[0].splitlines()]
    notes = [str(line["checkpoint"]).encode() for line in lines if "checkpoint" in line]
    return max(notes, key=lambda one: int(one.splitlines()[1]))
