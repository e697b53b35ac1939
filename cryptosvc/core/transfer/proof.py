"""How a key that arrived proves that it is the one that was sent: by what only it, or its private half, can do.

A signing key signs a fresh challenge; a key that derives, which never signs, agrees on a secret with a pair made for
the purpose, and the digest of that secret is its answer. Anybody can verify either, years later, with the public key.

A symmetric key has no public half. The source has it work on a challenge before it leaves, and commits to what came out:
the check value is SHA-256 of the answer, and stands, with the challenge, in the package that it signs. The answer itself only
the key gives, so it says in the receipt that the key is there.

Source: NIST SP 800-57 Part 1, 5.3.4 (assurance of possession); SP 800-56A 5.6.2.2.3; Smart Energy Code G2.22H(b), G2.44(b)
(a signing key never derives, a key that derives never signs).
"""

import hashlib
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from cryptosvc.core.errors import Forbidden
from cryptosvc.core.keyclass import Algorithm, Usage, ceiling

CHALLENGE_OCTETS = 32
_SIGNATURE_OCTETS = 64
_SIGNED = b"cryptosvc transfer: possession of a signing key v1"
_AGREED = b"cryptosvc transfer: possession of a key that derives v1"
_WORKED = b"cryptosvc transfer: possession of a symmetric key v1"


@dataclass(frozen=True, slots=True)
class Proof:
    """A challenge and its answer.

    Args:
        key_id: whose.
        challenge: 32 random octets; for a key that derives, the private scalar of the pair it agreed with.
        answer: r‖s over the challenge, 64 octets; for other keys a digest, 32 octets.

    """

    key_id: str
    challenge: bytes
    answer: bytes


def proves_by_agreement(key_class: str) -> bool:
    """Whether keys of a class derive, and so cannot sign."""
    return Usage.DERIVE in ceiling(key_class).template.usages


def is_symmetric(key_class: str) -> bool:
    """Whether keys of a class have no public half."""
    return ceiling(key_class).template.algorithm in (
        Algorithm.HMAC_SHA256,
        Algorithm.AES_128,
        Algorithm.AES_256,
    )


def answer_of_work(transfer_id: str, key_id: str, octets: bytes) -> bytes:
    """What a symmetric key answers, given what came out of its work on the challenge, 32 octets."""
    return hashlib.sha256(b"\0".join((_WORKED, transfer_id.encode(), key_id.encode(), octets))).digest()


def check_value(challenge: bytes, answer: bytes) -> str:
    """How the source commits to the answer of a symmetric key: `CHALLENGE:SHA-256 of the answer`, in hex."""
    return f"{challenge.hex()}:{hashlib.sha256(answer).hexdigest()}"


def challenge_of(check: str) -> bytes:
    """The challenge of a check value, 32 octets; Forbidden where it is none."""
    try:
        challenge = bytes.fromhex(check.partition(":")[0])
    except ValueError:
        challenge = b""
    if len(challenge) != CHALLENGE_OCTETS:
        raise Forbidden("a symmetric key has no check value", rule="transfer/not-proven", clause="G2.22G")
    return challenge


def digest_to_sign(transfer_id: str, key_id: str, challenge: bytes) -> bytes:
    """SHA-256 of what a signing key signs, 32 octets; no document of another kind has these octets."""
    return hashlib.sha256(b"\0".join((_SIGNED, transfer_id.encode(), key_id.encode(), challenge))).digest()


def answer_of_secret(transfer_id: str, key_id: str, secret: bytes) -> bytes:
    """What a key that derives answers, given the secret it agreed on, 32 octets."""
    return hashlib.sha256(
        b"\0".join((_AGREED, transfer_id.encode(), key_id.encode(), bytes(secret)))
    ).digest()


def pair_of(challenge: bytes) -> ec.EllipticCurvePrivateKey:
    """The pair a challenge stands for, with which a key that derives agrees."""
    order = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
    return ec.derive_private_key(int.from_bytes(challenge) % (order - 1) + 1, ec.SECP256R1())


def require_proven(
    proof: Proof, transfer_id: str, key_class: str, public_point: bytes, check: str = ""
) -> None:
    """Require that the answer is one that only the private half of `public_point` (65 octets) gives.

    Args:
        proof: challenge and answer.
        transfer_id: of which transfer.
        key_class: of the key.
        public_point: empty for a symmetric key.
        check: of a symmetric key, what its source committed to, as `check_value` prints it; else empty.

    Raises:
        Forbidden: `transfer/not-proven`.

    """
    if is_symmetric(key_class):
        if public_point or check != check_value(proof.challenge, proof.answer):
            raise _not_proven(proof, "is not what its check value says")
        return
    public = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), public_point)
    if proves_by_agreement(key_class):
        secret = pair_of(proof.challenge).exchange(ec.ECDH(), public)
        holds = proof.answer == answer_of_secret(transfer_id, proof.key_id, secret)
    else:
        holds = _signed(proof, transfer_id, public)
    if not holds or len(proof.challenge) != CHALLENGE_OCTETS:
        raise _not_proven(proof, "does not verify under the public key of the package")


def _not_proven(proof: Proof, what: str) -> Forbidden:
    return Forbidden(
        f"key {proof.key_id} did not prove that it is the one that was sent: what it answered {what}",
        rule="transfer/not-proven",
        clause="G2.22H",
    )


def _signed(proof: Proof, transfer_id: str, public: ec.EllipticCurvePublicKey) -> bool:
    if len(proof.answer) != _SIGNATURE_OCTETS:
        return False
    r, s = int.from_bytes(proof.answer[:32]), int.from_bytes(proof.answer[32:])
    message = b"\0".join((_SIGNED, transfer_id.encode(), proof.key_id.encode(), proof.challenge))
    try:
        public.verify(encode_dss_signature(r, s), message, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        return False
    return True
