"""An independent judge of certificates, requests and lists: pyca/cryptography alone, and none of the project's code.

A payload is fine where pyca reads it, the values follow the profile as stated here a second time, and pyca's own
builder, given those values, writes the very same bytes. The last leaves no room for another encoding.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.name import _ASN1Type

from tests.certificates import AT, TEST_POLICY, key_identifier, key_pair, point_of
from tests.tlv import parse, tlv

_KEY = key_pair("oracle")
_ECDSA_WITH_SHA256 = tlv(0x30, tlv(0x06, bytes.fromhex("2a8648ce3d040302")))
_DIGITAL_SIGNATURE, _KEY_AGREEMENT, _OCA = (
    bytes.fromhex("03020780"),
    bytes.fromhex("03020308"),
    bytes.fromhex("03020106"),
)
_ROLES = {1, 2, 3, 4, 5, 6, 8, 127, 135, 137}
_KU, _SKI, _BC, _CP, _AKI = "2.5.29.15", "2.5.29.14", "2.5.29.19", "2.5.29.32", "2.5.29.35"


@dataclass(frozen=True)
class Issuer:
    """Who signs: the DER certificate and, for a root or a request, the key itself."""

    certificate: bytes
    key: ec.EllipticCurvePrivateKey


def _signed(payload: bytes) -> bytes:
    return tlv(
        0x30, payload, _ECDSA_WITH_SHA256, tlv(0x03, b"\x00", _KEY.sign(payload, ec.ECDSA(hashes.SHA256())))
    )


def _is_fine(judge: Callable[[], bool]) -> bool:
    try:
        return judge()
    except Exception:  # noqa: BLE001 -- whatever pyca raises, the payload is not fine
        return False


def certificate_is_fine(payload: bytes, issuer: Issuer) -> bool:
    """Whether `issuer` may sign this TBSCertificate at `AT` under the default profile."""
    return _is_fine(lambda: _certificate(payload, issuer))


def _certificate(payload: bytes, issuer: Issuer) -> bool:
    seen = x509.load_der_x509_certificate(_signed(payload))
    own = x509.load_der_x509_certificate(issuer.certificate)
    extensions = {e.oid.dotted_string: (e.critical, e.value.public_bytes()) for e in seen.extensions}
    key = seen.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    kind = _kind(seen.subject)
    own_identifier = own.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
    authority = (False, tlv(0x30, tlv(0x80, own_identifier)))
    expected = {_SKI: (False, tlv(0x04, key_identifier(key))), _AKI: authority}
    usages = {(True, _OCA)}
    if kind == "organisation":
        expected[_CP] = (True, _policies(TEST_POLICY))
        usages = {(True, _DIGITAL_SIGNATURE), (True, _KEY_AGREEMENT)}
        days = 3653
    elif kind == "issuing":
        expected |= {_CP: (True, _policies(TEST_POLICY)), _BC: (True, bytes.fromhex("30060101ff020100"))}
        days = 9132
    else:
        assert kind == "root"
        assert seen.subject == own.subject
        assert point_of(key) == point_of(issuer.key.public_key())
        expected |= {_CP: (True, _policies("2.5.29.32.0")), _BC: (True, bytes.fromhex("30030101ff"))}
        if _AKI not in extensions:
            del expected[_AKI]
        days = 18_263
    if kind == "root":
        assert _contingency(extensions.pop("1.3.6.1.5.5.7.1.20", None))
    else:
        assert own.not_valid_before_utc <= seen.not_valid_before_utc
        assert seen.not_valid_after_utc <= own.not_valid_after_utc
        assert point_of(key) != point_of(issuer.key.public_key())
    lasting = seen.not_valid_after_utc - seen.not_valid_before_utc + timedelta(seconds=1)
    builder = (
        x509.CertificateBuilder()
        .issuer_name(seen.issuer)
        .subject_name(seen.subject)
        .public_key(key)
        .serial_number(seen.serial_number)
        .not_valid_before(seen.not_valid_before_utc)
        .not_valid_after(seen.not_valid_after_utc)
    )
    for extension in seen.extensions:
        builder = builder.add_extension(extension.value, extension.critical)
    return (
        extensions.pop(_KU) in usages
        and extensions == expected
        and seen.issuer.public_bytes() == own.subject.public_bytes()
        and 0 < seen.serial_number < 1 << 127
        and timedelta(0) < lasting <= timedelta(days=days)
        and abs(seen.not_valid_before_utc - AT) <= timedelta(days=31)
        and seen.not_valid_after_utc > AT
        and builder.sign(_KEY, hashes.SHA256()).tbs_certificate_bytes == payload
    )


def _contingency(found: tuple[bool, bytes] | None) -> bool:
    """RFC 5934's ApexContingencyKey by its shape; pyca does not look into it."""
    if found is None:
        return True
    critical, value = found
    tree = parse(value)
    algorithm, wrapped = tree.children
    tags = [child.tag for child in algorithm.children]
    return (
        not critical
        and tree.dump() == value
        and (tree.tag, algorithm.tag, wrapped.tag) == (0x30, 0x30, 0x04)
        and tags[0] == 0x06
        and tags[1:] in ([], [0x04], [0x05], [0x30])
        and bool(wrapped.content)
    )


def _policies(oid: str) -> bytes:
    return x509.CertificatePolicies([x509.PolicyInformation(x509.ObjectIdentifier(oid), None)]).public_bytes()


def _kind(name: x509.Name) -> str:
    parts = [(a.oid.dotted_string, a._type, a.value) for a in name]
    assert len(name.rdns) == len(parts)
    if parts[-1][0] != "2.5.4.45":
        (ou, ou_type, role), (cn, cn_type, text) = parts
        assert (ou, cn) == ("2.5.4.11", "2.5.4.3")
        assert ou_type == cn_type == _ASN1Type.PrintableString
        assert _text(text)
        return {"00": "root", "07": "issuing"}[str(role)]
    if len(parts) == 3:
        cn, cn_type, text = parts.pop(0)
        assert (cn, cn_type) == ("2.5.4.3", _ASN1Type.UTF8String)
        assert _text(text)
    (ou, ou_type, role), (_, bits_type, bits) = parts
    assert (ou, ou_type, bits_type) == ("2.5.4.11", _ASN1Type.UTF8String, _ASN1Type.BitString)
    assert isinstance(role, str)
    assert isinstance(bits, bytes)
    assert re.fullmatch("[0-9A-F]{2}", role)
    assert int(role, 16) in _ROLES
    assert len(bits) == 9
    assert bits[0] == 0
    return "organisation"


def _text(text: str | bytes) -> bool:
    return isinstance(text, str) and 1 <= len(text) <= 64 and text.isprintable() and text.strip() == text


def request_is_fine(payload: bytes, key: ec.EllipticCurvePrivateKey, entity: bytes, role: int) -> bool:
    """Whether a signing key of this Organisation may sign this CertificationRequestInfo."""
    return _is_fine(lambda: _request(payload, key, entity, role))


def _request(payload: bytes, key: ec.EllipticCurvePrivateKey, entity: bytes, role: int) -> bool:
    seen = x509.load_der_x509_csr(_signed(payload))
    extensions = {e.oid.dotted_string: (e.critical, e.value.public_bytes()) for e in seen.extensions}
    assert _kind(seen.subject) == "organisation"
    *_, ou, unique = list(seen.subject)
    builder = x509.CertificateSigningRequestBuilder().subject_name(seen.subject)
    for extension in seen.extensions:
        builder = builder.add_extension(extension.value, extension.critical)
    return (
        extensions in ({}, {_KU: (True, _DIGITAL_SIGNATURE)})
        and ou.value == f"{role:02X}"
        and unique.value == b"\x00" + entity
        and builder.sign(key, hashes.SHA256()).tbs_certrequest_bytes == payload
    )


def list_is_fine(payload: bytes, issuer: Issuer, known: frozenset[int]) -> bool:
    """Whether `issuer` may sign this TBSCertList at `AT`; `known` are the serials an ARL may list."""
    return _is_fine(lambda: _list(payload, issuer, known))


def _list(payload: bytes, issuer: Issuer, known: frozenset[int]) -> bool:
    seen = x509.load_der_x509_crl(_signed(payload))
    own = x509.load_der_x509_certificate(issuer.certificate)
    is_arl = _kind(own.subject) == "root"
    this_update, next_update = seen.last_update_utc, seen.next_update_utc
    assert next_update is not None
    extensions = {e.oid.dotted_string: (e.critical, e.value.public_bytes()) for e in seen.extensions}
    critical, number = extensions.pop("2.5.29.20")
    scope = extensions.pop("2.5.29.28", None)
    own_identifier = own.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(seen.issuer)
        .last_update(this_update)
        .next_update(next_update)
    )
    for extension in seen.extensions:
        builder = builder.add_extension(extension.value, extension.critical)
    serials = set()
    for entry in seen:
        assert _entry(entry, this_update)
        serials.add(entry.serial_number)
        rebuilt = (
            x509.RevokedCertificateBuilder()
            .serial_number(entry.serial_number)
            .revocation_date(entry.revocation_date_utc)
        )
        for extension in entry.extensions:
            rebuilt = rebuilt.add_extension(extension.value, extension.critical)
        builder = builder.add_revoked_certificate(rebuilt.build())
    shortest, longest = (
        (timedelta(days=1), timedelta(days=366)) if is_arl else (timedelta(hours=1), timedelta(hours=48))
    )
    return (
        not critical
        and 0 <= int.from_bytes(number[2:], signed=True) < 1 << 159
        and scope in (None, (True, bytes.fromhex("30038201ff" if is_arl else "30038101ff")))
        and extensions == {_AKI: (False, tlv(0x30, tlv(0x80, own_identifier)))}
        and seen.issuer.public_bytes() == own.subject.public_bytes()
        and shortest <= next_update - this_update <= longest
        and timedelta(seconds=-300) <= AT - this_update <= timedelta(hours=1)
        and next_update > AT
        and len(serials) == len(seen)
        and (not is_arl or serials <= known)
        and builder.sign(_KEY, hashes.SHA256()).tbs_certlist_bytes == payload
    )


def _entry(entry: x509.RevokedCertificate, this_update: datetime) -> bool:
    extensions = [(e.oid.dotted_string, e.critical, e.value.public_bytes()) for e in entry.extensions]
    reasons = [("2.5.29.21", False, bytes([0x0A, 1, reason])) for reason in (1, 2, 3, 4, 5, 9)]
    return (
        0 < entry.serial_number < 1 << 159
        and entry.revocation_date_utc <= this_update
        and (not extensions or (len(extensions) == 1 and extensions[0] in reasons))
    )
