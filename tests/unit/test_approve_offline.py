"""`propose`, `approve` and `withdraw` off-line: what is shown, what has to be typed, and what is signed."""

import hashlib
import json
from datetime import UTC, datetime
from pathlib import Path

import orjson
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from cryptosvc.cli.app import run
from cryptosvc.core import dsse, fingerprint
from cryptosvc.core import statement as statements
from cryptosvc.core.custodian import custodian_document
from cryptosvc.core.quorum import withdrawal_payload
from cryptosvc.core.registry import caller_document, key_document
from cryptosvc.core.statement import STATEMENT_TYPE, WITHDRAWAL_TYPE
from cryptosvc.wiring.actions import WiredActions
from tests.claims import caller_record, key_record
from tests.governance import Person, person

SETTING = {
    "system": "dcc-test",
    "environment": "test",
    "origin": "example.test/log",
    "policy_digest": "ab" * 32,
    "longest_open_seconds": 1_209_600,
}
ORDER = (
    *("--param", "class=command-signing", "--param", "module=soft"),
    *("--param", "classification=secret", "--param", "responsible=Ada Lovelace"),
)


class Desk:
    """A custodian's own machine: a folder, and keys in it."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self._monkeypatch = monkeypatch
        (folder / "setting.json").write_bytes(orjson.dumps(SETTING))

    def key(self, who: Person) -> str:
        path = self.folder / f"{who.record.custodian_id}.pem"
        path.write_bytes(who.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        return str(path)

    def run(self, *arguments: object, typed: str = "") -> int:
        self._monkeypatch.setattr("builtins.input", lambda _prompt: typed)
        return run(WiredActions(), [str(one) for one in arguments])

    def propose(self, who: Person, act: str, subject: str, *more: object, name: str = "statement") -> Path:
        out = self.folder / name
        done = self.run(
            *("propose", act, subject, "--key", self.key(who), "--as", who.record.custodian_id),
            *("--reason", "as rehearsed", "--setting", self.folder / "setting.json", "-o", out, *more),
        )
        assert done == 0
        return out


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    return Desk(tmp_path, monkeypatch)


def test_a_proposal_is_a_statement_and_its_proposers_envelope(desk: Desk, capsys):
    ada = person("ada")
    out = desk.propose(ada, "key.order", "key-1", *ORDER, "--hours", "2")
    octets = out.read_bytes()
    statement = statements.parse(octets)
    assert (statement.act, statement.subject, statement.subject_version) == ("key.order", "key-1", 0)
    assert statement.parameters["responsible"] == "Ada Lovelace"
    assert statement.expires_at - statement.proposed_at == 7200
    assert (statement.system, statement.origin) == ("dcc-test", "example.test/log")
    envelope = dsse.parse(out.with_name("statement.dsse").read_bytes())
    assert (envelope.payload_type, envelope.payload) == (STATEMENT_TYPE, octets)
    dsse.verify(envelope, {dsse.key_id(ada.record.key): ada.record.key})
    shown = capsys.readouterr().out
    assert "Order a new command-signing key key-1, to be generated on module soft." in shown


def test_approving_shows_everything_first_and_signs_what_was_shown(desk: Desk, capsys):
    ben = person("ben")
    out = desk.propose(person("ada"), "key.order", "key-1", *ORDER)
    capsys.readouterr()
    envelope_file = desk.folder / "ben.dsse"
    assert desk.run("approve", out, "--key", desk.key(ben), "-o", envelope_file, typed="approve key-1") == 0
    shown = capsys.readouterr().out
    digest = hashlib.sha256(out.read_bytes()).digest()
    for line in (
        "Order a new command-signing key key-1, to be generated on module soft.",
        "Under clause   G5.13(b) of the Smart Energy Code",
        "Because        as rehearsed",
        "Subject        key-1, does not exist yet",
        "Proposed by    ada,",
        "Deployment     dcc-test, environment test",
        "responsible: person who answers for the key (G5.21)",
        "Ada Lovelace",
        "To sign it, type: approve key-1",
    ):
        assert line in shown
    assert fingerprint.grouped(digest)[:39] in shown
    for word in fingerprint.words(digest):
        assert word in shown
    envelope = dsse.parse(envelope_file.read_bytes())
    assert envelope.payload == out.read_bytes()
    dsse.verify(envelope, {dsse.key_id(ben.record.key): ben.record.key})


@pytest.mark.parametrize("typed", ["", "yes", "approve key-2", "APPROVE key-1", "approve key-1 "])
def test_anything_else_typed_signs_nothing(desk: Desk, typed: str, capsys):
    out = desk.propose(person("ada"), "key.order", "key-1", *ORDER)
    envelope = desk.folder / "ben.dsse"
    assert desk.run("approve", out, "--key", desk.key(person("ben")), "-o", envelope, typed=typed) == 3
    assert "Not signed." in capsys.readouterr().out
    assert not envelope.exists()


def test_a_program_says_yes_and_takes_json_both_or_neither(desk: Desk, capsys):
    out = desk.propose(person("ada"), "key.order", "key-1", *ORDER)
    envelope = desk.folder / "ben.dsse"
    key = desk.key(person("ben"))
    for half in ("--yes", "--json"):
        assert desk.run("approve", out, "--key", key, "-o", envelope, half) == 2
        assert not envelope.exists()
    capsys.readouterr()
    assert desk.run("approve", out, "--key", key, "-o", envelope, "--yes", "--json") == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["proposal_id"] == hashlib.sha256(out.read_bytes()).hexdigest()
    assert envelope.exists()


def test_a_file_that_is_there_is_not_written_over(desk: Desk):
    out = desk.propose(person("ada"), "key.order", "key-1", *ORDER)
    before = out.read_bytes()
    assert desk.run("approve", out, "--key", desk.key(person("ben")), "-o", out, typed="approve key-1") == 2
    assert out.read_bytes() == before


def test_the_record_is_shown_before_and_after_where_it_is_given(desk: Desk, capsys):
    record = key_record(label="key-1")
    (desk.folder / "statement.record").write_bytes(orjson.dumps(key_document(record), default=list))
    (desk.folder / "statement.record").rename(desk.folder / "kept")
    out = desk.propose(person("ada"), "key.suspend", "key-1", "--version", 1)
    (desk.folder / "kept").rename(desk.folder / "statement.record")
    capsys.readouterr()
    key = desk.key(person("ben"))
    assert desk.run("approve", out, "--key", key, "-o", desk.folder / "e", typed="approve key-1") == 0
    assert "state: active  ->  suspended" in capsys.readouterr().out


def test_the_record_of_another_key_is_said_to_be_another(desk: Desk, capsys):
    other = desk.folder / "other"
    other.write_bytes(orjson.dumps(key_document(key_record(label="key-2")), default=list))
    out = desk.propose(person("ada"), "key.suspend", "key-1", "--version", 1)
    capsys.readouterr()
    key = desk.key(person("ben"))
    desk.run("approve", out, "--key", key, "-o", desk.folder / "e", "--record", other, typed="no")
    assert "Do not sign; ask why." in capsys.readouterr().out


def test_a_document_is_shown_field_by_field(desk: Desk, capsys):
    record = desk.folder / "caller.json"
    record.write_bytes(orjson.dumps(caller_document(caller_record()), default=list))
    desk.propose(person("ada"), "caller.register", "caller-1", "--param", f"record=@{record}")
    shown = capsys.readouterr().out
    assert "system: supplier-1" in shown
    assert f"certificate sha256: {'00' * 32}" in shown


def test_parameters_are_read_as_their_act_wants_them(desk: Desk):
    out = desk.propose(
        person("ada"),
        "key.activate",
        "key-1",
        "-p",
        "until=2027-01-31",
        "-p",
        "usage_limit=12",
        "--version",
        3,
    )
    found = statements.parse(out.read_bytes())
    assert found.parameters == {
        "until": int(datetime(2027, 1, 31, tzinfo=UTC).timestamp()),
        "usage_limit": 12,
    }
    assert found.subject_version == 3


@pytest.mark.parametrize(
    ("act", "parameter"),
    [
        ("key.activate", "until=soon"),
        ("key.activate", "usage_limit=many"),
        ("key.activate", "since=2027-01-31"),
        ("key.certify", "certificate=xyz"),
        ("key.certify", "certificate=@/nowhere"),
        ("key.certify", "other_purposes=perhaps"),
        ("key.activate", "until"),
        ("caller.register", "record=x"),
    ],
)
def test_a_parameter_that_is_not_the_acts_is_a_wrong_usage(desk: Desk, act: str, parameter: str):
    done = desk.run(
        *("propose", act, "key-1", "--key", desk.key(person("ada")), "--as", "ada", "--reason", "r"),
        *("--setting", desk.folder / "setting.json", "-o", desk.folder / "s", "--param", parameter),
    )
    assert done == 2
    assert not (desk.folder / "s").exists()


def test_what_an_act_lacks_is_refused_before_anything_is_written(desk: Desk, capsys):
    done = desk.run(
        *("propose", "key.order", "key-1", "--key", desk.key(person("ada")), "--as", "ada", "--reason", "r"),
        *("--setting", desk.folder / "setting.json", "-o", desk.folder / "s"),
    )
    assert done == 3
    assert "needs 'class'" in capsys.readouterr().err
    assert not (desk.folder / "s").exists()


def test_a_statement_that_was_changed_by_an_octet_is_not_shown_as_one(desk: Desk):
    out = desk.propose(person("ada"), "key.order", "key-1", *ORDER)
    spaced = desk.folder / "spaced"
    spaced.write_bytes(out.read_bytes().replace(b'"act":', b'"act": '))
    envelope = desk.folder / "ben.dsse"
    key = desk.key(person("ben"))
    assert desk.run("approve", spaced, "--key", key, "-o", envelope, typed="approve key-1") == 3
    assert not envelope.exists()


def test_a_withdrawal_is_signed_over_id_and_reason(desk: Desk):
    ada = person("ada")
    name = "1f" * 32
    out = desk.folder / "w"
    arguments = ("withdraw", name, "--key", desk.key(ada), "--reason", "typo", "-o", out)
    assert desk.run(*arguments, typed="withdraw") == 3
    assert desk.run(*arguments, typed=f"withdraw {name[:8]}") == 0
    envelope = dsse.parse(out.read_bytes())
    assert (envelope.payload_type, envelope.payload) == (WITHDRAWAL_TYPE, withdrawal_payload(name, "typo"))
    assert custodian_document(ada.record)["key"] == ada.record.key.hex()
    dsse.verify(envelope, {dsse.key_id(ada.record.key): ada.record.key})
