"""The rest of the world in a rehearsal: a Root OCA and an Issuing OCA of another system, with keys in memory.

Their certificates stand in the registry as those of another system, as they would in a real deployment, and nothing
on the rehearsal's token is theirs.
"""

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from cryptosvc.core.content.x509 import signed
from cryptosvc.core.content.x509.profile import X509Profile
from cryptosvc.core.life import UnixSeconds
from cryptosvc.core.names import Environment, KeyId, ModuleName, RemotePartyRole, SystemName
from cryptosvc.core.registry import KeyRecord, KeyState, Origin
from cryptosvc.wiring.ceremony import papers

SYSTEM = SystemName("rehearsal-outside")


class Outside:
    """Two OCAs, made at a moment.

    Args:
        profile: what their certificates must follow.
        at: from when they are valid.

    """

    def __init__(self, profile: X509Profile, at: UnixSeconds) -> None:
        self._profile = profile
        self._root, self._issuing = _new(), _new()
        self._root_certificate = _finished(
            papers.root_certificate(
                _point(self._root), "REHEARSAL-OUTSIDE-ROOT", profile.root_days, at, profile
            ),
            self._root,
        )
        name = papers.oca_name(RemotePartyRole.ISSUING_AUTHORITY, "REHEARSAL-OUTSIDE")
        request = (
            x509.CertificateSigningRequestBuilder().subject_name(name).sign(self._issuing, hashes.SHA256())
        )
        self._issuing_certificate = self.issue_oca(request.public_bytes(Encoding.DER), at)

    def records(self) -> tuple[KeyRecord, KeyRecord]:
        """What the registry knows of them."""
        return (
            _record("outside-root-oca", "root-oca", self._root, self._root_certificate, RemotePartyRole.ROOT),
            _record(
                "outside-issuing-oca",
                "issuing-oca",
                self._issuing,
                self._issuing_certificate,
                RemotePartyRole.ISSUING_AUTHORITY,
            ),
        )

    @property
    def issuing_certificate(self) -> bytes:
        """DER of the Issuing OCA's certificate."""
        return self._issuing_certificate

    def issue(self, request: bytes, days: int, at: UnixSeconds) -> bytes:
        """Issue the Organisation Certificate that a DER request asks for; DER."""
        tbs = papers.issued_certificate(
            self._issuing_certificate, request, days, at, self._profile, is_oca=False
        )
        return _finished(tbs, self._issuing)

    def issue_oca(self, request: bytes, at: UnixSeconds) -> bytes:
        """Issue the Issuing OCA Certificate that a DER request asks for, under the Root OCA; DER."""
        days = min(self._profile.issuing_days, self._profile.root_days - 1)
        tbs = papers.issued_certificate(self._root_certificate, request, days, at, self._profile, is_oca=True)
        return _finished(tbs, self._root)


def _record(
    key_id: str, key_class: str, key: ec.EllipticCurvePrivateKey, certificate: bytes, role: RemotePartyRole
) -> KeyRecord:
    return KeyRecord(
        key_id=KeyId(key_id),
        version=1,
        key_class=key_class,
        state=KeyState.ACTIVE,
        system=SYSTEM,
        environment=Environment.TEST,
        module=ModuleName("outside"),
        label=key_id,
        object_id=b"\x01",
        public_point=_point(key),
        certificate=certificate,
        eui64=None,
        role=role,
        origin=Origin.ADOPTED,
        transferable=False,
        signs_for_eligible_user=False,
    )


def _new() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def _point(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)


def _finished(tbs: bytes, key: ec.EllipticCurvePrivateKey) -> bytes:
    """A certificate over a TBSCertificate: the corridor's own assembly, with a signature of a key in memory."""
    r, s = decode_dss_signature(key.sign(tbs, ec.ECDSA(hashes.SHA256())))
    return signed.finished(tbs, r.to_bytes(32) + s.to_bytes(32))
