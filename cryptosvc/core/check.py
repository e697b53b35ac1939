"""Look at what the module produced, with other code, before it leaves.

A signature is verified in software under the key's registered public point over the very bytes that were judged, by
other code than the module's: SoftHSM computes with OpenSSL, and a fault of the one should not be vouched for by the
same. AWS-LC does it one by one; `adapters/multi_buffer.py` eight at a time, where library and processor can.
What does not verify is never released: the claim ends as Corrupt and the service stops using that key.
"""

import hashlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache

from awscrt.crypto import EC
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from cryptosvc.core.content import forms
from cryptosvc.core.content.dlms import association, protection
from cryptosvc.core.content.dlms.association import AssociationContent
from cryptosvc.core.content.dlms.key_change import KeyChangeContent
from cryptosvc.core.content.dlms.protection import DlmsContent
from cryptosvc.core.content.gbcs import agreed, received
from cryptosvc.core.errors import Corrupt, Forbidden, Internal, Refusal
from cryptosvc.core.names import ContentKind, Operation
from cryptosvc.core.record import Claim, Failed, Produced
from cryptosvc.core.values import quickly

P256_COORDINATE_OCTETS = 32


@dataclass(frozen=True, slots=True)
class Checked:
    """A result that passed the check.

    Args:
        claim: what it answers.
        signature: r‖s, 64 octets; of a MAC its 12 octets, of a prepayment token 4; empty for what was decrypted.
        artefact: the finished thing: certificate, CSR, CRL, Signed Pre-Command, Command, signed document, UTRN; the
            message inside a verified MAC; empty for what was decrypted.
        digest: SHA-256 of the artefact, 32 octets; for what was decrypted, of what was encrypted.
        derivation: where the key of a MAC was derived, `module` or `service`; empty for a signature.
        plaintexts: of what was decrypted, one for each attribute; for the caller alone.
        association: the sealed dedicated key of an association that was opened; empty otherwise.

    """

    claim: Claim
    signature: bytes
    artefact: bytes
    digest: bytes
    derivation: str = ""
    plaintexts: tuple[bytes, ...] = field(default=(), repr=False)
    association: bytes = b""


_checked = quickly(Checked)
_sha256 = hashlib.sha256


Presented = tuple[bytes, bytes, bytes]
"""What a signature is held against: public point (65 octets, 0x04 || x || y), r‖s (64), SHA-256 of what was signed (32)."""

Verify = Callable[[Sequence[Presented]], Sequence[bool]]
"""Whether each signature verifies, in order. A point that is not on the curve verifies nothing."""


def one_by_one(presented: Sequence[Presented]) -> list[bool]:
    """Verify with AWS-LC."""
    return [_verifies(*one) for one in presented]


def check_all(items: Sequence[Produced | Failed], verify: Verify = one_by_one) -> list[Checked | Failed]:
    """Verify and assemble what a batch produced, in order; what does not pass ends as Failed, and Failed stays.

    A MAC cannot be verified here, since its key never leaves the module; it is held to its length, and where somebody
    claimed one, compared with that: Failed with Forbidden where it is another ("not verified" is all that is said).
    Failed with Corrupt: a signature does not verify under the registered public key, or cannot be put in its place.
    """
    verdicts = iter(verify([_presented(item) for item in items if _is_signature(item)]))
    return [
        item if isinstance(item, Failed) else _ended(item, verified=not _is_signature(item) or next(verdicts))
        for item in items
    ]


def check(produced: Produced) -> Checked:
    """Verify and assemble one; raises Forbidden and Corrupt for what `check_all` ends as Failed."""
    (ended,) = check_all([produced])
    if isinstance(ended, Failed):
        raise ended.error
    return ended


def _is_signature(item: Produced | Failed) -> bool:
    return isinstance(item, Produced) and item.claim.authorised.case.facts.operation is Operation.SIGN


def _presented(item: Produced | Failed) -> Presented:
    assert isinstance(item, Produced)
    case = item.claim.authorised.case
    return case.key.public_point, item.signature, _sha256(case.content.signed_bytes).digest()


def _ended(produced: Produced, *, verified: bool) -> Checked | Failed:
    try:
        if not verified:
            raise _unverified()
        return _assembled(produced)
    except (Corrupt, Forbidden) as error:
        return Failed(produced.claim, error)


def _assembled(produced: Produced) -> Checked:
    case = produced.claim.authorised.case
    if case.facts.operation is not Operation.SIGN:
        if isinstance(case.content, DlmsContent | KeyChangeContent):
            return _of_device_key(produced)
        _require_agreed(produced)
        received.require_verified(case.content, produced.signature)
    try:
        artefact = forms.assemble(case.request.form, case.content, produced.signature, case.key)
    except (Refusal, Internal) as error:
        # The key has been used: a refusal now would cost the whole batch its record.
        raise Corrupt(
            "what was signed cannot be put together with its signature", rule="check/artefact"
        ) from error
    digest = _sha256(artefact).digest()
    if case.content.kind is ContentKind.ENCRYPTED_ATTRIBUTES:
        plain = received.plaintexts(case.content, produced.signature)
        return _checked(produced.claim, b"", b"", digest, produced.derivation, plain)
    return _checked(produced.claim, produced.signature, artefact, digest, produced.derivation)


def _of_device_key(produced: Produced) -> Checked:
    """What was done with a SMETS1 Device's keys, which nobody else has either."""
    case = produced.claim.authorised.case
    content, made = case.content, produced.signature
    if not produced.derivation:
        raise Corrupt("what the module made is not what was asked of it", rule="check/dlms")
    if isinstance(content, AssociationContent):
        return _of_association(produced, content)
    if isinstance(content, DlmsContent):
        if len(made) != protection.result_octets(content):
            raise Corrupt("what the module made is not what was asked of it", rule="check/dlms")
        protection.require_verified(content, made)
    artefact = forms.assemble(case.request.form, content, made, case.key)
    digest = _sha256(artefact).digest()
    if not isinstance(content, DlmsContent):
        return _checked(produced.claim, b"", artefact, digest, produced.derivation)
    if content.way is protection.Way.READ:
        plain = (protection.plaintext(content, made),)
        return _checked(produced.claim, b"", b"", digest, produced.derivation, plain)
    return _checked(produced.claim, protection.tag_of(content, made), artefact, digest, produced.derivation)


def _of_association(produced: Produced, content: AssociationContent) -> Checked:
    case = produced.claim.authorised.case
    made = produced.signature
    seal = association.sealed_key(content, made)
    artefact = forms.assemble(case.request.form, content, made, case.key)
    digest = _sha256(artefact).digest()
    return _checked(produced.claim, association.tag_of(made), artefact, digest, produced.derivation, (), seal)


def _require_agreed(produced: Produced) -> None:
    content = produced.claim.authorised.case.content
    if (
        not isinstance(content, agreed.AgreedContent)
        or len(produced.signature) != agreed.result_octets(content)
        or not produced.derivation
    ):
        raise Corrupt("what the module made is not what was asked of it", rule="check/mac")


def verify_p256(public_point: bytes, signature: bytes, signed_bytes: bytes) -> None:
    """Raise Corrupt unless r‖s is an ECDSA P-256 SHA-256 signature of `signed_bytes` under `public_point`."""
    if not _verifies(public_point, signature, _sha256(signed_bytes).digest()):
        raise _unverified()


def _unverified() -> Corrupt:
    return Corrupt(
        "the module returned a signature that does not verify; the key is not used again until an operator has looked",
        rule="check/signature",
    )


def _verifies(public_point: bytes, signature: bytes, digest: bytes) -> bool:
    if len(signature) != 2 * P256_COORDINATE_OCTETS:
        return False
    r = int.from_bytes(signature[:P256_COORDINATE_OCTETS])
    s = int.from_bytes(signature[P256_COORDINATE_OCTETS:])
    with suppress(ValueError):  # what is registered is not a point
        return bool(_public_key(public_point).verify(digest, encode_dss_signature(r, s)))
    return False


@lru_cache(maxsize=4096)
def is_point(public_point: bytes) -> bool:
    """Whether these are the 65 octets of an uncompressed point of P-256."""
    try:
        _public_key(public_point)
    except ValueError:
        return False
    return len(public_point) == 1 + 2 * P256_COORDINATE_OCTETS


@lru_cache(maxsize=4096)
def _public_key(public_point: bytes) -> EC:
    """Load a point, 65 octets; ValueError where it is not on the curve, which pyca finds."""
    point = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), public_point)
    return EC.new_key_from_der_data(point.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))
