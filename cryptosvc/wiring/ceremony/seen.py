"""The same facts read by pyca/cryptography, and signatures verified by it. Shares nothing with `said.py`."""

import datetime as dt
from collections.abc import Mapping

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID

from cryptosvc.core.canonical import JsonValue
from cryptosvc.core.errors import Corrupt

_NAMES = {
    "2.5.29.14": "subjectKeyIdentifier",
    "2.5.29.15": "keyUsage",
    "2.5.29.17": "subjectAltName",
    "2.5.29.19": "basicConstraints",
    "2.5.29.20": "cRLNumber",
    "2.5.29.28": "issuingDistributionPoint",
    "2.5.29.32": "certificatePolicies",
    "2.5.29.35": "authorityKeyIdentifier",
    "1.3.6.1.5.5.7.1.20": "wrappedApexContingencyKey",
}
_USAGES = {
    "digital_signature": "digitalSignature",
    "content_commitment": "contentCommitment",
    "key_encipherment": "keyEncipherment",
    "data_encipherment": "dataEncipherment",
    "key_agreement": "keyAgreement",
    "key_cert_sign": "keyCertSign",
    "crl_sign": "cRLSign",
}


def of_certificate(encoded: bytes, issuer_point: bytes) -> dict[str, JsonValue]:
    """Facts of a DER certificate whose signature verifies under the point; Corrupt where it does not."""
    certificate = x509.load_der_x509_certificate(encoded)
    _require_signed(issuer_point, certificate.signature, certificate.tbs_certificate_bytes)
    ends = certificate.not_valid_after_utc + dt.timedelta(seconds=1)
    facts: dict[str, JsonValue] = {
        **_named(certificate.extensions),
        "key_usage": _usage(certificate.extensions),
        "remote_party_role": _role(certificate.subject),
        "validity_days": (ends - certificate.not_valid_before_utc).days,
        "serial": f"{certificate.serial_number:x}",
        "not_before": _moment(certificate.not_valid_before_utc),
        "not_after": _moment(certificate.not_valid_after_utc),
        "public_key": _point(certificate.public_key()),
    }
    try:
        constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
    except x509.ExtensionNotFound:
        return facts
    return facts if constraints.path_length is None else {**facts, "path_length": constraints.path_length}


def point_of(encoded: bytes) -> bytes:
    """Uncompressed public point in a DER certificate."""
    return bytes.fromhex(_point(x509.load_der_x509_certificate(encoded).public_key()))


def of_request(encoded: bytes) -> dict[str, JsonValue]:
    """Facts of a DER request that its own key signed; Corrupt where it did not."""
    request = x509.load_der_x509_csr(encoded)
    if not request.is_signature_valid:
        raise _unsigned()
    return {
        "key_usage": _usage(request.extensions),
        "remote_party_role": _role(request.subject),
        "public_key": _point(request.public_key()),
    }


def of_list(encoded: bytes, issuer_point: bytes) -> dict[str, JsonValue]:
    """Facts of a DER CertificateList whose signature verifies under the point; Corrupt where it does not."""
    found = x509.load_der_x509_crl(encoded)
    _require_signed(issuer_point, found.signature, found.tbs_certlist_bytes)
    ends = found.next_update_utc
    assert ends is not None  # the profile asks for it
    return {
        **_named(found.extensions),
        "entries": len(found),
        "validity_days": (ends - found.last_update_utc).days,
        "this_update": _moment(found.last_update_utc),
        "next_update": _moment(ends),
        "crl_number": found.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number,
    }


def point_of_spki(point: bytes) -> str:
    """The point as pyca reads and writes it, hex; Corrupt where it is no point of P-256."""
    try:
        key = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), point)
    except ValueError:
        raise Corrupt("the module gave no point of P-256", rule="ceremony/point") from None
    return _point(key)


def _named(found: x509.Extensions) -> Mapping[str, JsonValue]:
    names = [(_NAMES.get(one.oid.dotted_string, one.oid.dotted_string), one.critical) for one in found]
    return {
        "extensions": sorted(name for name, _ in names),
        "critical_extensions": sorted(name for name, critical in names if critical),
    }


def _usage(found: x509.Extensions) -> JsonValue:
    usage = found.get_extension_for_class(x509.KeyUsage).value
    return sorted(name for attribute, name in _USAGES.items() if getattr(usage, attribute))


def _role(name: x509.Name) -> int:
    (unit,) = name.get_attributes_for_oid(NameOID.ORGANIZATIONAL_UNIT_NAME)
    return int(str(unit.value), 16)


def _moment(at: dt.datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")


def _point(key: object) -> str:
    assert isinstance(key, ec.EllipticCurvePublicKey)  # of_… refuse what is not signed by a P-256 key
    return key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint).hex()


def _require_signed(point: bytes, signature: bytes, octets: bytes) -> None:
    key = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), point)
    try:
        key.verify(signature, octets, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        raise _unsigned() from None


def _unsigned() -> Corrupt:
    return Corrupt("a second look finds a signature that does not verify", rule="ceremony/signature")


def of_parts(
    asked: Mapping[str, JsonValue], outcome: Mapping[str, str], *, usable: bool
) -> dict[str, JsonValue]:
    """What a statement asked of the parts of a key, and what the module's own quorum gave as evidence."""
    holders = str(asked.get("holders", ""))
    threshold = asked.get("threshold", holders.count(",") + 1)
    facts: dict[str, JsonValue] = {"usable": usable, "threshold": threshold}
    if "parts" in asked:
        facts["parts"] = asked["parts"]
    if evidence := outcome.get("module_evidence"):
        facts["module_evidence"] = evidence
    return facts
