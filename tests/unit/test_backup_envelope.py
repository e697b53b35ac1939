"""The envelope and the manifest of a backup: for its recipients, whole, and as the service signed it (G2.16)."""

from dataclasses import replace
from pathlib import Path

import pyrage
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from cryptosvc.adapters import envelope
from cryptosvc.core import backup, dsse
from cryptosvc.core.content import service_statement
from cryptosvc.core.errors import Corrupt, Malformed, Unavailable

IDENTITY = pyrage.x25519.Identity.generate()
RECIPIENT = str(IDENTITY.to_public())
MANIFEST = backup.Manifest(
    origin="example.test/log",
    system="dcc-test",
    environment="test",
    made_at=1_800_000_000_000_000_000,
    size=7,
    root=b"\x01" * 32,
    checkpoint="",
    sha256=b"\x02" * 32,
    octets=4096,
    rows={"leaf": 7},
    software="ab" * 32,
    policy_digest="cd" * 32,
)


@pytest.fixture
def sealed(tmp_path: Path) -> Path:
    """Some chunks of age, and a key that opens them."""
    plain = tmp_path / "plain"
    plain.write_bytes(bytes(range(256)) * 1024)
    (tmp_path / "key").write_text(f"# a comment\n{IDENTITY}\n")
    envelope.seal(plain, tmp_path / "sealed", [RECIPIENT])
    return tmp_path / "sealed"


def test_what_is_sealed_opens_with_the_key_and_is_what_it_was(sealed: Path):
    envelope.open_sealed(sealed, sealed.with_name("out"), sealed.with_name("key"))
    assert sealed.with_name("out").read_bytes() == sealed.with_name("plain").read_bytes()
    assert {sealed.stat().st_mode & 0o077, sealed.with_name("out").stat().st_mode & 0o077} == {0}


def test_an_ssh_key_opens_it_too(tmp_path: Path):
    key = ed25519.Ed25519PrivateKey.generate()
    public = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
    (tmp_path / "id").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()))
    (tmp_path / "plain").write_bytes(b"a store")
    envelope.seal(tmp_path / "plain", tmp_path / "sealed", [f"{public} ada@example"])
    envelope.open_sealed(tmp_path / "sealed", tmp_path / "out", tmp_path / "id")
    assert (tmp_path / "out").read_bytes() == b"a store"


@pytest.mark.parametrize(
    "change", [lambda octets: octets[:-1], lambda octets: octets[:200], lambda octets: b"x" + octets]
)
def test_what_was_cut_or_changed_does_not_open(sealed: Path, change):
    sealed.write_bytes(change(sealed.read_bytes()))
    with pytest.raises(Corrupt) as refused:
        envelope.open_sealed(sealed, sealed.with_name("out"), sealed.with_name("key"))
    assert refused.value.rule == "backup/envelope"


def test_every_chunk_is_authenticated(sealed: Path):
    octets = sealed.read_bytes()
    for at in range(0, len(octets), 40_000):
        changed = bytearray(octets)
        changed[at] ^= 1
        sealed.write_bytes(changed)
        with pytest.raises(Corrupt) as refused:
            envelope.open_sealed(sealed, sealed.with_name("out"), sealed.with_name("key"))
        assert refused.value.rule == "backup/envelope"


def test_a_key_file_and_a_recipient_are_what_they_must_be(sealed: Path):
    sealed.with_name("key").write_text("# nothing\n")
    for path, error, rule in (
        (sealed.with_name("key"), Malformed, "backup/key"),
        (sealed.with_name("nowhere"), Unavailable, "backup/key"),
    ):
        with pytest.raises(error) as refused:
            envelope.open_sealed(sealed, sealed.with_name("out"), path)
        assert refused.value.rule == rule
    for recipients in ([], ["age1nobody"], ["ssh-rsa AAAA"], [RECIPIENT, str(IDENTITY)]):
        with pytest.raises(Malformed) as refused:
            envelope.require_recipients(recipients)
        assert refused.value.rule == "backup/recipient"
        assert str(IDENTITY) not in refused.value.message
    with pytest.raises(Unavailable):
        envelope.seal(sealed.with_name("nowhere"), sealed, [RECIPIENT])


def signed(payload: bytes) -> tuple[bytes, bytes]:
    key = ec.generate_private_key(ec.SECP256R1())
    spki = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    made = dsse.sign(
        service_statement.PAYLOAD_TYPE,
        payload,
        {dsse.key_id(spki): lambda octets: key.sign(octets, ec.ECDSA(hashes.SHA256()))},
    )
    return dsse.emit(made), spki


def test_a_manifest_is_a_statement_of_the_service_and_reads_back():
    payload = backup.payload(MANIFEST)
    assert dict(service_statement.parse(payload).facts)["type"] == "backup-manifest"
    octets, spki = signed(payload)
    assert backup.read(octets)[0] == MANIFEST
    backup.verify(octets, spki)
    _, other = signed(payload)
    with pytest.raises(Corrupt) as refused:
        backup.verify(octets, other)
    assert refused.value.rule == "backup/signature"


@pytest.mark.parametrize(
    "octets",
    [
        b"",
        b"{}",
        signed(b"{}")[0],
        signed(backup.payload(MANIFEST).replace(b'"size":7', b'"size":"7"'))[0],
        signed(backup.payload(MANIFEST).replace(b'"backup-manifest"', b'"transfer-offer"'))[0],
    ],
)
def test_what_is_no_manifest_is_refused(octets):
    with pytest.raises(Corrupt) as refused:
        backup.read(octets)
    assert refused.value.rule == "backup/manifest"


def test_two_backups_have_two_ids():
    ids = {backup.read(signed(backup.payload(one))[0])[1] for one in (MANIFEST, replace(MANIFEST, made_at=1))}
    assert len(ids) == 2
