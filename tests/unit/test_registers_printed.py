"""What the registers say to auditors, and what is given to others of a key: printed and written by the command line."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key

from cryptosvc.cli.actions import Connection, Document
from cryptosvc.cli.app import run
from cryptosvc.core import fingerprint
from cryptosvc.core.asset import module_document
from cryptosvc.core.life import Asset, Event, Life, UnixSeconds
from cryptosvc.core.names import KeyId
from cryptosvc.core.registry import KeyRecord, key_document
from cryptosvc.wiring.actions import WiredActions
from tests import certificates
from tests.claims import key_record
from tests.governance import MODULE

ROOT = certificates.root_authority()
WHERE = ("--target", "127.0.0.1:1", "--ca", "ca", "--cert", "certificate", "--key", "key")
COMPROMISED = replace(
    key_record(),
    key_id=KeyId("key-1"),
    asset=Asset(label="Supplier | signing", classification="secret", responsible="Ada"),
    life=Life(compromised_since=UnixSeconds(1_800_000_000), replace_by=UnixSeconds(1_900_000_000)),
)


class Told(WiredActions):
    """Answers with these records, as the service would."""

    def __init__(self, *keys: KeyRecord) -> None:
        self._records = {
            "key-record": [key_document(one) for one in keys],
            "module-record": [module_document(MODULE)],
        }

    def records(self, connection: Connection, kind: str) -> Sequence[Document]:
        assert connection.target == "127.0.0.1:1"
        return self._records[kind]


def of_root(**changes: object) -> KeyRecord:
    return replace(
        certificates.key_record("root-oca", ROOT.key.public_key(), ROOT.certificate),
        key_id=KeyId("root"),
        **changes,  # type: ignore[arg-type]  # a test's keywords
    )


def exported(out: Path, key: KeyRecord, capsys: pytest.CaptureFixture[str]) -> tuple[int, dict]:
    code = run(Told(key), ["key", "export", str(key.key_id), *WHERE, "-o", str(out), "--json"])
    return code, json.loads(capsys.readouterr().out or "{}")


def test_since_when_a_key_is_compromised_and_by_when_one_is_replaced_stand_in_the_register(capsys):
    assert run(Told(COMPROMISED), ["asset", "list", *WHERE, "--json"]) == 0
    key, module = json.loads(capsys.readouterr().out)
    assert (key["compromised_since"], key["replace_by"]) == ("2027-01-15T08:00:00Z", "2030-03-17T17:46:40Z")
    assert (module["kind"], module["compromised_since"], module["replace_by"]) == ("module", "", "")
    assert (module["classification"], module["responsible"]) == ("secret", "Ada")


def test_the_register_is_a_page_to_review_and_sign(capsys):
    assert run(Told(COMPROMISED), ["asset", "list", *WHERE, "--format", "markdown"]) == 0
    lines = capsys.readouterr().out.splitlines()
    table = [line for line in lines if line.startswith("|")]
    assert [line.replace("\\|", "").count("|") for line in table] == [11] * 4
    assert "Supplier \\| signing" in table[2]
    assert "2027-01-15T08:00:00Z" in table[2]
    assert lines[-1].startswith("Reviewed by:")


def test_public_key_and_certificate_are_one_bundle_with_a_fingerprint_to_read_aloud(tmp_path, capsys):
    out = tmp_path / "root.pem"
    life = Life(milestones=((Event.DISTRIBUTE, UnixSeconds(1_800_000_000)),))
    code, said = exported(out, of_root(life=life), capsys)
    assert (code, said["certificate"], said["distributed"]) == (0, "yes", "2027-01-15T08:00:00Z")
    spki = ROOT.key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    assert said["public_key_sha256"] == hashlib.sha256(spki).hexdigest()
    assert fingerprint.from_words(said["in_words"]) == hashlib.sha256(spki).digest()
    octets = out.read_bytes()
    assert load_pem_public_key(octets) == ROOT.key.public_key()
    (found,) = x509.load_pem_x509_certificates(octets)
    assert found.public_bytes(Encoding.DER) == ROOT.certificate
    assert b"PRIVATE" not in octets


def test_without_a_certificate_it_is_the_public_key_alone(tmp_path, capsys):
    out = tmp_path / "root.pem"
    code, said = exported(out, of_root(certificate=b""), capsys)
    assert (code, said["certificate"], said["distributed"]) == (0, "none", "")
    assert out.read_bytes().count(b"BEGIN") == 1


def test_nothing_is_written_of_a_key_that_has_no_public_half(tmp_path, capsys):
    out = tmp_path / "root.pem"
    code, said = exported(out, of_root(public_point=b"", certificate=b""), capsys)
    assert (code, said["error"]["rule"]) == (3, "key/no-public-key")
    assert not out.exists()


def test_a_certificate_over_another_key_is_not_given_to_anybody(tmp_path, capsys):
    out = tmp_path / "root.pem"
    other = certificates.point_of(ec.generate_private_key(ec.SECP256R1()).public_key())
    code, said = exported(out, of_root(public_point=other), capsys)
    assert (code, said["error"]["rule"]) == (4, "key/certificate-other-key")
    assert not out.exists()


def test_a_file_that_is_there_and_a_key_that_is_not_stop_it(tmp_path, capsys):
    out = tmp_path / "root.pem"
    out.write_text("kept")
    assert exported(out, of_root(), capsys)[0] == 2
    assert out.read_text() == "kept"
    where = [*WHERE, "-o", str(tmp_path / "new.pem")]
    assert run(Told(of_root()), ["key", "export", "nobody", *where]) == 2
    assert not (tmp_path / "new.pem").exists()
