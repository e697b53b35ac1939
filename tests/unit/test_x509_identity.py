"""Facts of finished certificates: made ones, and every published one."""

import base64
import re
from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from cryptosvc.core.content.x509 import certificate, der
from cryptosvc.core.content.x509.extensions import KeyUsage
from cryptosvc.core.content.x509.identity import known_oca, read_certificate
from cryptosvc.core.content.x509.profile import TEST_POLICY, X509Profile
from cryptosvc.core.errors import Malformed
from cryptosvc.core.names import ContentKind, RemotePartyRole
from tests.certificates import (
    AT,
    SUPPLIER,
    key_identifier,
    key_pair,
    nanoseconds,
    organisation_certificate,
    point_of,
)
from tests.tlv import replaced
from tests.x509_specimens import ISSUING, ROOT

KEY = key_pair("identity").public_key()


def published(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Every certificate of keystore and zaz1, by file name."""
    for path in sorted([*folder.glob("keystore/*.pem"), *folder.glob("zaz1/**/*")]):
        if not path.is_file():
            continue
        text = path.read_bytes().replace(b"\\n", b"\n")
        if path.suffix == ".der":
            yield path.name, text
        for body in re.findall(b"BEGIN CERTIFICATE-----(.*?)-----END", text, re.DOTALL):
            yield path.name, base64.b64decode(body)


def test_organisation() -> None:
    facts = read_certificate(
        organisation_certificate(ISSUING, KEY, role=0x87, serial=99, common_name="Zürich")
    )
    assert str(facts.eui64) == SUPPLIER
    assert facts.role is RemotePartyRole.XML_SIGN
    assert facts.public_point == point_of(KEY)
    assert facts.ski == key_identifier(KEY)
    assert (facts.serial, facts.issuer_text) == (99, "CN=Z1,OU=07")
    assert facts.issuer_der == read_certificate(ISSUING.certificate).subject_der
    assert facts.not_before == nanoseconds(AT)
    assert facts.not_after == nanoseconds(AT + timedelta(days=3653, seconds=-1))
    assert facts.usages == {KeyUsage.DIGITAL_SIGNATURE}
    assert not facts.is_ca


def test_ocas() -> None:
    root, issuing = read_certificate(ROOT.certificate), read_certificate(ISSUING.certificate)
    assert (root.role, issuing.role) == (RemotePartyRole.ROOT, RemotePartyRole.ISSUING_AUTHORITY)
    assert root.eui64 is issuing.eui64 is None
    assert root.is_ca
    assert issuing.is_ca
    assert known_oca(ISSUING.certificate).serial == 0x22
    with pytest.raises(Malformed, match="lists OCA Certificates"):
        known_oca(organisation_certificate(ISSUING, KEY))


@pytest.mark.parametrize(
    ("path", "raw", "rule"),
    [
        ((1,), "300c06082a8648ce3d0403020500", "signature/algorithm"),
        ((0, 2), "300c06082a8648ce3d0403020500", "signature/algorithm"),
        ((2,), "0400", "certificate/structure"),
        ((0, 7, 0, 0), "300a0603551d240101ff0400", "certificate/critical"),
        ((0, 7, 0, 1), "30110603551d0e040a04080000000000000000", "certificate/ski"),
        ((0, 5, 0, 0, 1), "0c03313337", "name/role"),
        ((0, 5, 0, 0, 1), "0c023766", "name/role"),
        ((0, 5, 0, 0, 1), "0c024646", "name/role"),
        ((0, 5), "3000", "name/form"),
    ],
)
def test_refused(path: tuple[int, ...], raw: str, rule: str) -> None:
    broken = replaced(organisation_certificate(ISSUING, KEY), path, bytes.fromhex(raw))
    with pytest.raises(Malformed) as caught:
        read_certificate(broken)
    assert caught.value.rule == rule


def test_every_published_certificate_is_read(gbcs_data: Path) -> None:
    refused: Counter[str] = Counter()
    devices = 0
    for name, encoded in published(gbcs_data):
        try:
            facts = read_certificate(encoded)
        except Malformed as error:
            refused[error.rule] += 1
            continue
        devices += facts.role is None
        assert (facts.eui64 is None) == (facts.role is RemotePartyRole.ISSUING_AUTHORITY)
        entity = re.fullmatch(r"([0-9a-f]{16})-(ds|ka|pp-ka)\.pem", name)
        if entity and name != "90b3d51f30000007-ka.pem":  # which really holds another party's certificate
            assert facts.eui64 is not None
            assert facts.eui64.octets.hex() == entity[1]
    assert devices >= 400
    # Two certificates of a vendor with NULL algorithm parameters; one with the OU "137" in decimal.
    assert refused == {"signature/algorithm": 2, "name/role": 1}


def test_published_organisation_certificates_follow_the_profile(gbcs_data: Path) -> None:
    profile = X509Profile(organisation_policies=frozenset({TEST_POLICY}))
    kinds: Counter[ContentKind] = Counter()
    for name, encoded in published(gbcs_data):
        try:
            facts = read_certificate(encoded)
        except Malformed:
            continue
        if facts.role is None or "keystore.json" in name:
            continue
        tbs = der.read(encoded, limit=8192).children[0].encoded
        try:
            content = certificate.parse(tbs, profile)
        except Malformed as error:
            # Certificates made by a test tool of 2018: issuer in UTF8String, no authority key identifier, a century.
            assert error.rule == "name/string-type"  # noqa: PT017 -- most do not raise
            assert b"\x17\x0d180101000000Z" in tbs
            continue
        kinds[content.kind] += 1
        assert content.serial == facts.serial
        assert content.public_point == facts.public_point
        assert dict(content.facts).get("entity", "") == ("" if facts.eui64 is None else str(facts.eui64))
    assert kinds[ContentKind.ORGANISATION_CERTIFICATE] >= 35
    assert kinds[ContentKind.OCA_CERTIFICATE] >= 3
