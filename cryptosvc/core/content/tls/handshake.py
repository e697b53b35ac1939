"""What a `tls` key signs to establish TLS with a SMETS1 Device, and nothing else (G2.44(d)).

Two forms. `tls_server_key_exchange` is client random ‖ server random ‖ ServerECDHParams, what a server signs in
TLS 1.2. `tls_transcript` is every handshake message so far, from the first ClientHello to the one before the
CertificateVerify asked for; which version and which side is read from it:

| transcript | signed |
|---|---|
| TLS 1.2, client: … ServerHelloDone, own Certificate, ClientKeyExchange | the transcript (RFC 5246 7.4.8) |
| TLS 1.3, server: … EncryptedExtensions, [CertificateRequest], own Certificate | 64 spaces, server context, 00, transcript hash (RFC 8446 4.4.3) |
| TLS 1.3, client: … server's Finished, own Certificate | the same with the client context |

The hash of TLS 1.3 is computed here: no caller can hand one in. Each message is read to its last octet, each must
stand where a full handshake with certificates has it, the scheme ecdsa_secp256r1_sha256 must have been offered to
the side that signs, and the own Certificate must carry the very key asked for, in force. A random is used for one
signature for ever. The artefact is the finished handshake message.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from cryptosvc.core.content.base import Content, Once
from cryptosvc.core.content.tls import hellos, parts
from cryptosvc.core.content.tls.certificate import require_own
from cryptosvc.core.content.tls.hellos import ECDSA_P256_SHA256, HASHES_1_3, TLS_1_3, ClientHello, ServerHello
from cryptosvc.core.content.tls.reading import Message, Reader, Type, malformed, messages
from cryptosvc.core.errors import Malformed
from cryptosvc.core.names import ContentForm, ContentKind, UnixNanoseconds
from cryptosvc.core.registry import KeyRecord

SERVER_CONTEXT = b"TLS 1.3, server CertificateVerify"
CLIENT_CONTEXT = b"TLS 1.3, client CertificateVerify"
ONCE_SCOPE = "tls-random"
_RANDOM_OCTETS = 32
_PAD = b" " * 64


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsHandshake(Content):
    """What is to be signed, with what it takes to finish it.

    Args:
        own_certificate: DER of the certificate the signing side sends; empty for a ServerKeyExchange.
        params: ServerECDHParams of a ServerKeyExchange; empty otherwise.

    """

    own_certificate: bytes = b""
    params: bytes = b""


def parse_key_exchange(payload: bytes) -> TlsHandshake:
    """Read randoms and ServerECDHParams, or raise Malformed. Source: RFC 8422 5.4, RFC 5246 7.4.3."""
    return _named(ContentForm.TLS_SERVER_KEY_EXCHANGE, payload, _key_exchange)


def parse_transcript(payload: bytes) -> TlsHandshake:
    """Read a handshake up to a CertificateVerify, or raise Malformed."""
    return _named(ContentForm.TLS_TRANSCRIPT, payload, _transcript)


def bind(content: Content, key: KeyRecord, at: UnixNanoseconds) -> None:
    """Raise Forbidden unless the certificate sent is of this very key and in force."""
    assert isinstance(content, TlsHandshake)
    if content.own_certificate:
        require_own(content.own_certificate, key, at)


def assemble(content: Content, signature: bytes, key: KeyRecord) -> bytes:
    """Print the ServerKeyExchange or CertificateVerify message. `signature` is r‖s, 64 octets."""
    del key
    assert isinstance(content, TlsHandshake)
    encoded = encode_dss_signature(int.from_bytes(signature[:32]), int.from_bytes(signature[32:]))
    kind = Type.SERVER_KEY_EXCHANGE if content.params else Type.CERTIFICATE_VERIFY
    signed = ECDSA_P256_SHA256.to_bytes(2) + len(encoded).to_bytes(2) + encoded
    return _message(kind, content.params + signed)


def _named(form: ContentForm, payload: bytes, read: Callable[[bytes], TlsHandshake]) -> TlsHandshake:
    try:
        return read(payload)
    except Malformed as refusal:
        raise Malformed(refusal.message, rule=refusal.rule, field=form.value) from None


def _key_exchange(payload: bytes) -> TlsHandshake:
    reader = Reader(payload, "the key exchange")
    client, server = reader.take(_RANDOM_OCTETS), reader.take(_RANDOM_OCTETS)
    params = parts.ecdh_params(reader)
    reader.end()
    if client == server:
        raise malformed("has one random on both sides", "random")
    return TlsHandshake(
        kind=ContentKind.TLS_HANDSHAKE,
        signed_bytes=payload,
        facts=(
            ("group", str(params.curve)),
            ("side", "server"),
            ("structure", "server-key-exchange"),
            ("version", "1.2"),
        ),
        promises=(_once(server, payload),),
        params=params.octets,
    )


class _Walk:
    """The messages of a transcript, taken in order."""

    def __init__(self, transcript: bytes) -> None:
        self._messages = messages(transcript)
        self._at = 0

    @property
    def over(self) -> bool:
        return self._at == len(self._messages)

    def comes(self, kind: Type) -> bool:
        return not self.over and self._messages[self._at].type is kind

    def take(self, kind: Type) -> Message:
        if not self.comes(kind):
            raise malformed(f"has no {kind.name} where one must come", "order")
        self._at += 1
        return self._messages[self._at - 1]

    def octets(self, start: int = 0) -> bytes:
        return b"".join(message.octets for message in self._messages[start:])


def _transcript(payload: bytes) -> TlsHandshake:
    walk = _Walk(payload)
    first = walk.take(Type.CLIENT_HELLO)
    offered = hellos.client_hello(first)
    chosen = hellos.server_hello(walk.take(Type.SERVER_HELLO), offered)
    begins = walk.octets()
    if chosen.retry:
        # RFC 8446 4.4.1: after a HelloRetryRequest the first ClientHello counts as its hash
        begins = _message(Type.MESSAGE_HASH, _digest(chosen, first.octets)) + walk.octets(1)
        again = hellos.client_hello(walk.take(Type.CLIENT_HELLO))
        if (again.random, again.session_id, again.suites) != (
            offered.random,
            offered.session_id,
            offered.suites,
        ):
            raise malformed("changes its ClientHello after a retry", "retry")
        if chosen.group and chosen.group not in hellos.shares(again):
            raise malformed("does not send the share the retry asked for", "retry")
        retried, offered = chosen, again
        chosen = hellos.server_hello(walk.take(Type.SERVER_HELLO), offered)
        if chosen.retry or chosen.suite != retried.suite or retried.group not in (0, chosen.group):
            raise malformed("does not stand by its retry", "retry")
    if chosen.version == TLS_1_3:
        return _verify_1_3(walk, begins, offered, chosen)
    return _verify_1_2(walk, payload, offered, chosen)


def _verify_1_3(walk: _Walk, transcript: bytes, offered: ClientHello, chosen: ServerHello) -> TlsHandshake:
    parts.encrypted_extensions(walk.take(Type.ENCRYPTED_EXTENSIONS), offered)
    asked: tuple[int, ...] = ()
    if walk.comes(Type.CERTIFICATE_REQUEST):
        asked = parts.request_1_3(walk.take(Type.CERTIFICATE_REQUEST))
    own = parts.certificates_1_3(walk.take(Type.CERTIFICATE))
    side, context, random, schemes = "server", SERVER_CONTEXT, chosen.random, offered.schemes
    if not walk.over:
        side, context, random, schemes = "client", CLIENT_CONTEXT, offered.random, asked
        parts.signature(walk.take(Type.CERTIFICATE_VERIFY).reader())
        parts.require_octets(walk.take(Type.FINISHED), len(_digest(chosen, b"")))
        own = parts.certificates_1_3(walk.take(Type.CERTIFICATE))
    _require_end(walk)
    signed_bytes = _PAD + context + b"\x00" + _digest(chosen, transcript)
    return _verify(side, chosen, own, schemes, signed_bytes, random)


def _verify_1_2(walk: _Walk, transcript: bytes, offered: ClientHello, chosen: ServerHello) -> TlsHandshake:
    parts.certificates_1_2(walk.take(Type.CERTIFICATE))
    if walk.comes(Type.CERTIFICATE_STATUS):
        parts.status(walk.take(Type.CERTIFICATE_STATUS))
    params = parts.server_key_exchange(walk.take(Type.SERVER_KEY_EXCHANGE))
    schemes = parts.request_1_2(walk.take(Type.CERTIFICATE_REQUEST))
    parts.require_empty(walk.take(Type.SERVER_HELLO_DONE))
    own = parts.certificates_1_2(walk.take(Type.CERTIFICATE))
    parts.client_key_exchange(walk.take(Type.CLIENT_KEY_EXCHANGE), params.curve)
    _require_end(walk)
    return _verify("client", chosen, own, schemes, transcript, offered.random)


def _verify(
    side: str,
    chosen: ServerHello,
    own: tuple[bytes, ...],
    schemes: tuple[int, ...],
    signed_bytes: bytes,
    random: bytes,
) -> TlsHandshake:
    if ECDSA_P256_SHA256 not in schemes:
        raise malformed("does not take ecdsa_secp256r1_sha256 from the side that signs", "scheme")
    return TlsHandshake(
        kind=ContentKind.TLS_HANDSHAKE,
        signed_bytes=signed_bytes,
        facts=(
            ("side", side),
            ("structure", "certificate-verify"),
            ("suite", f"{chosen.suite:04X}"),
            ("version", "1.3" if chosen.version == TLS_1_3 else "1.2"),
        ),
        promises=(_once(random, signed_bytes),),
        own_certificate=own[0],
    )


def _require_end(walk: _Walk) -> None:
    if not walk.over:
        raise malformed("goes on after the message before a CertificateVerify", "order")


def _digest(chosen: ServerHello, octets: bytes) -> bytes:
    return hashlib.new(HASHES_1_3[chosen.suite], octets).digest()


def _message(kind: Type, body: bytes) -> bytes:
    return bytes([kind]) + len(body).to_bytes(3) + body


def _once(random: bytes, signed_bytes: bytes) -> Once:
    return Once(ONCE_SCOPE, random.hex(), hashlib.sha256(signed_bytes).digest())
