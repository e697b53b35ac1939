"""Dead Simple Signing Envelopes, strictly: one form of bytes per envelope, every signature in it good.

An envelope is JSON, `{"payload": base64, "payloadType": text, "signatures": [{"keyid": text, "sig": base64}]}`, and a
signature is over the pre-authentication encoding of type and payload, never over the JSON. Three rules make this
reading narrower than the DSSE specification and than securesystemslib, which accepts one key under two ids as two
signers and ignores fields it does not know:

- the bytes are the canonical form (RFC 8785: sorted keys, no white space), so an envelope that was parsed emits the
  bytes it was read from; duplicate keys, unknown fields, other base64 alphabets and missing padding all fail on that;
- a signature by a key nobody named, or one that does not verify, spoils the envelope;
- signers are counted by public key, not by key id.

Signatures are ECDSA P-256 over SHA-256 in DER (`ECDSA-Sig-Value`), as DSSE implementations write them; OpenSSL
re-encodes before it verifies, so BER variants fail. An (r, n - s) twin verifies too and is still the same signer.

Source: DSSE protocol and envelope, version 1.0.2 (secure-systems-lab/dsse); SEC 1 version 2, C.5.

Example:
    >>> pae("http://example.com/HelloWorld", b"hello world")
    b'DSSEv1 29 http://example.com/HelloWorld 11 hello world'
"""

import binascii
import hashlib
from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache

import orjson
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_public_key

from cryptosvc.core.errors import Forbidden, Malformed

ENVELOPE_OCTETS = 1 << 20
"""Longest envelope that is read."""
SIGNATURES_AT_MOST = 16
TEXT_CHARACTERS = 200
"""Longest payload type or key id."""

_FIELDS = ["payload", "payloadType", "signatures"]
_SIGNATURE_FIELDS = ["keyid", "sig"]
_P256_SIGNATURE_OCTETS = 72
_ECDSA_SHA256 = ec.ECDSA(hashes.SHA256())


@dataclass(frozen=True, slots=True)
class Signature:
    """One signature of an envelope.

    Args:
        key_id: which key made it, as verifier and signer agreed; 1 to 200 printable ASCII characters.
        signature: DER ECDSA-Sig-Value, at most 72 octets.

    """

    key_id: str
    signature: bytes


@dataclass(frozen=True, slots=True)
class Envelope:
    """A parsed envelope; nothing in it is believed before `verify`.

    Args:
        payload_type: 1 to 200 printable ASCII characters.
        payload: the signed octets.
        signatures: 1 to 16, no key id twice.

    """

    payload_type: str
    payload: bytes
    signatures: tuple[Signature, ...]


def pae(payload_type: str, payload: bytes) -> bytes:
    """Pre-authentication encoding: the octets a signature is over."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def key_id(spki: bytes) -> str:
    """Name a key by lower-case hex SHA-256 of its SubjectPublicKeyInfo DER: the id where nobody agreed another."""
    return hashlib.sha256(spki).hexdigest()


def sign(payload_type: str, payload: bytes, signers: Mapping[str, Callable[[bytes], bytes]]) -> Envelope:
    """Make an envelope: each signer (key id → function) signs the pre-authentication encoding and returns DER."""
    encoded = pae(payload_type, payload)
    made = tuple(Signature(name, signer(encoded)) for name, signer in signers.items())
    return _bounded(Envelope(payload_type, payload, made))


def emit(envelope: Envelope) -> bytes:
    """Write the canonical JSON of an envelope."""
    return orjson.dumps(
        {
            "payload": b64encode(envelope.payload).decode(),
            "payloadType": envelope.payload_type,
            "signatures": [
                {"keyid": one.key_id, "sig": b64encode(one.signature).decode()} for one in envelope.signatures
            ],
        },
        option=orjson.OPT_SORT_KEYS,
    )


def parse(octets: bytes) -> Envelope:
    """Read an envelope; Malformed unless `octets` is exactly what `emit` writes for it."""
    if len(octets) > ENVELOPE_OCTETS:
        raise Malformed(f"a DSSE envelope has at most {ENVELOPE_OCTETS} octets", rule="dsse/size")
    try:
        tree: object = orjson.loads(octets)
    except orjson.JSONDecodeError:
        raise Malformed("a DSSE envelope is JSON", rule="dsse/json") from None
    if not isinstance(tree, dict) or sorted(tree) != _FIELDS:
        raise Malformed(
            "a DSSE envelope has payload, payloadType and signatures, nothing else", rule="dsse/fields"
        )
    signatures: object = tree["signatures"]
    if not isinstance(signatures, list):
        raise Malformed("signatures of a DSSE envelope is an array", rule="dsse/fields")
    envelope = _bounded(
        Envelope(
            _text(tree["payloadType"]), _base64(tree["payload"]), tuple(_signature(one) for one in signatures)
        )
    )
    if emit(envelope) != octets:
        raise Malformed(
            "a DSSE envelope is canonical JSON: sorted keys, none twice, no white space, padded standard base64",
            rule="dsse/canonical",
        )
    return envelope


def verify(envelope: Envelope, keys: Mapping[str, bytes]) -> tuple[str, ...]:
    """Check every signature of the envelope, and name who made them.

    Args:
        envelope: as parsed.
        keys: key id → SubjectPublicKeyInfo DER of a P-256 key, of everyone who may sign.

    Returns:
        The key ids that signed, in the envelope's order; as many different public keys as there are ids.

    Raises:
        Malformed: `keys` names one public key twice, or holds something that is not a P-256 key.
        Forbidden: a signature is by a key that is not in `keys`, does not verify, or two are by one key.

    """
    points = {name: _point(spki) for name, spki in keys.items()}
    if len(set(points.values())) != len(points):
        raise Malformed("one public key is registered under two key ids", rule="dsse/key-twice")
    encoded = pae(envelope.payload_type, envelope.payload)
    for one in envelope.signatures:
        spki = keys.get(one.key_id)
        if spki is None:
            raise Forbidden(
                "the envelope is signed by a key that is not registered for this", rule="dsse/unknown-key"
            )
        try:
            _load(spki).verify(one.signature, encoded, _ECDSA_SHA256)
        except InvalidSignature:
            raise Forbidden("a signature of the envelope does not verify", rule="dsse/signature") from None
    signed = tuple(one.key_id for one in envelope.signatures)
    if not signed or len({points[name] for name in signed}) != len(signed):
        raise Forbidden("each signature of the envelope is by a different key", rule="dsse/signer-twice")
    return signed


def _bounded(envelope: Envelope) -> Envelope:
    if not 1 <= len(envelope.signatures) <= SIGNATURES_AT_MOST:
        raise Malformed(f"a DSSE envelope has 1 to {SIGNATURES_AT_MOST} signatures", rule="dsse/signatures")
    names = {one.key_id for one in envelope.signatures}
    if len(names) != len(envelope.signatures):
        raise Malformed("a DSSE envelope names each key id once", rule="dsse/signatures")
    for text in (envelope.payload_type, *names):
        if not 1 <= len(text) <= TEXT_CHARACTERS or not (text.isascii() and text.isprintable()):
            raise Malformed(
                f"payload type and key ids are 1 to {TEXT_CHARACTERS} printable ASCII characters",
                rule="dsse/text",
            )
    if any(not 1 <= len(one.signature) <= _P256_SIGNATURE_OCTETS for one in envelope.signatures):
        raise Malformed("a DER P-256 signature has at most 72 octets", rule="dsse/signature-size")
    return envelope


def _signature(tree: object) -> Signature:
    if not isinstance(tree, dict) or sorted(tree) != _SIGNATURE_FIELDS:
        raise Malformed("a DSSE signature has keyid and sig, nothing else", rule="dsse/fields")
    return Signature(_text(tree["keyid"]), _base64(tree["sig"]))


def _text(tree: object) -> str:
    if not isinstance(tree, str):
        raise Malformed("payloadType and keyid are strings", rule="dsse/text")
    return tree


def _base64(tree: object) -> bytes:
    if not isinstance(tree, str) or not tree.isascii():
        raise Malformed("payload and sig are base64 strings", rule="dsse/base64")
    try:
        return b64decode(tree, validate=True)
    except binascii.Error:
        raise Malformed("payload and sig are padded standard base64", rule="dsse/base64") from None


def _point(spki: bytes) -> bytes:
    return _load(spki).public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)


@lru_cache(maxsize=256)
def _load(spki: bytes) -> ec.EllipticCurvePublicKey:
    try:
        key = load_der_public_key(spki)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise Malformed("a DSSE key is the SubjectPublicKeyInfo of a P-256 key", rule="dsse/key")
    return key
