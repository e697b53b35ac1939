"""The second parser: pyca/cryptography reads the throwaway-signed copy and must see what our walk saw, field by field.

Where the two disagree the payload is refused: one of them would be signing something else than it believes.
"""

from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from cryptosvc.core.content.x509.extensions import Extension
from cryptosvc.core.content.x509.tbs import TbsCertificate
from cryptosvc.core.errors import Malformed
from cryptosvc.core.names import UnixNanoseconds

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_ECDSA_WITH_SHA256 = "1.2.840.10045.4.3.2"


def certificate(copy: bytes, payload: bytes, tbs: TbsCertificate) -> None:
    """Require that pyca reads `copy` as a certificate over `payload` with the values of `tbs`."""

    def differing() -> Iterable[str]:
        seen = x509.load_der_x509_certificate(copy)
        yield from _unequal(
            tbs_bytes=(seen.tbs_certificate_bytes, payload),
            version=(seen.version, x509.Version.v3),
            serial=(seen.serial_number, tbs.serial),
            algorithm=(seen.signature_algorithm_oid.dotted_string, _ECDSA_WITH_SHA256),
            issuer=(seen.issuer.public_bytes(), tbs.issuer.encoded),
            not_before=(_instant(seen.not_valid_before_utc), tbs.not_before),
            not_after=(_instant(seen.not_valid_after_utc), tbs.not_after),
            subject=(seen.subject.public_bytes(), tbs.subject.encoded),
            public_key=(_point(seen.public_key()), tbs.public_point),
            extensions=(_extensions(seen.extensions), tbs.extensions),
        )

    _agree(differing)


def request(
    copy: bytes, payload: bytes, subject: bytes, point: bytes, extensions: tuple[Extension, ...]
) -> None:
    """Require that pyca reads `copy` as a PKCS#10 request over `payload` with these values."""

    def differing() -> Iterable[str]:
        seen = x509.load_der_x509_csr(copy)
        yield from _unequal(
            tbs_bytes=(seen.tbs_certrequest_bytes, payload),
            algorithm=(seen.signature_algorithm_oid.dotted_string, _ECDSA_WITH_SHA256),
            subject=(seen.subject.public_bytes(), subject),
            public_key=(_point(seen.public_key()), point),
            extensions=(_extensions(seen.extensions), extensions),
            attributes=(len(list(seen.attributes)), 1 if extensions else 0),
        )

    _agree(differing)


def revocation_list(
    copy: bytes,
    payload: bytes,
    issuer: bytes,
    updates: tuple[UnixNanoseconds, UnixNanoseconds],
    entries: Iterable[tuple[int, UnixNanoseconds, tuple[Extension, ...]]],
    extensions: tuple[Extension, ...],
) -> None:
    """Require that pyca reads `copy` as a CRL over `payload` with these values; entries are compared one by one."""

    def differing() -> Iterable[str]:
        seen = x509.load_der_x509_crl(copy)
        next_update = seen.next_update_utc
        listed = [
            (entry.serial_number, _instant(entry.revocation_date_utc), _extensions(entry.extensions))
            for entry in seen
        ]
        yield from _unequal(
            tbs_bytes=(seen.tbs_certlist_bytes, payload),
            algorithm=(seen.signature_algorithm_oid.dotted_string, _ECDSA_WITH_SHA256),
            issuer=(seen.issuer.public_bytes(), issuer),
            this_update=(_instant(seen.last_update_utc), updates[0]),
            next_update=(None if next_update is None else _instant(next_update), updates[1]),
            entries=(listed, list(entries)),
            extensions=(_extensions(seen.extensions), extensions),
        )

    _agree(differing)


def _agree(differing: Callable[[], Iterable[str]]) -> None:
    try:
        wrong = sorted(differing())
    except Exception:  # noqa: BLE001 -- whatever the other parser raises, it says that it does not accept this
        raise Malformed("the second parser does not accept the structure", rule="referee/refused") from None
    if wrong:
        raise Malformed(f"two parsers disagree about: {', '.join(wrong)}", rule="referee/disagrees")


def _unequal(**pairs: tuple[object, object]) -> Iterable[str]:
    return (name for name, (seen, ours) in pairs.items() if seen != ours)


def _instant(moment: datetime) -> UnixNanoseconds:
    return UnixNanoseconds((moment - _EPOCH) // timedelta(seconds=1) * 1_000_000_000)


def _point(key: object) -> bytes:
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        return b""
    return key.public_bytes(serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint)


def _extensions(seen: x509.Extensions) -> tuple[Extension, ...]:
    """Write every extension again from the values pyca parsed."""
    return tuple(
        Extension(extension.oid.dotted_string, extension.critical, extension.value.public_bytes())
        for extension in seen
    )
