"""A small TLS stack whose private key is elsewhere: it does a handshake with OpenSSL and asks a signer for each signature.

TLS 1.2 and 1.3, server and client, over memory BIOs; ECDHE on P-256 or X25519, AES-128-GCM, SHA-256. It is written
from RFC 5246, RFC 8446 and RFC 8422, with nothing of the service, and keeps what it handed to the signer.
"""

import hashlib
import hmac
import os
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

Signer = Callable[[str, bytes], bytes]
"""(form, payload) → the finished handshake message."""

HELLO_RETRY = hashlib.sha256(b"HelloRetryRequest").digest()
P256, X25519 = 23, 29
_SCHEMES = bytes.fromhex("0403")


def vector(octets: bytes, size: int) -> bytes:
    return len(octets).to_bytes(size) + octets


def message(kind: int, body: bytes) -> bytes:
    return bytes([kind]) + vector(body, 3)


def extension(kind: int, body: bytes) -> bytes:
    return kind.to_bytes(2) + vector(body, 2)


def p_hash(secret: bytes, label: bytes, seed: bytes, count: int) -> bytes:
    """PRF of TLS 1.2."""
    seed, made, a = label + seed, b"", label + seed
    while len(made) < count:
        a = hmac.digest(secret, a, "sha256")
        made += hmac.digest(secret, a + seed, "sha256")
    return made[:count]


def expand(secret: bytes, label: str, context: bytes, count: int) -> bytes:
    """HKDF-Expand-Label of TLS 1.3, one block at most."""
    info = count.to_bytes(2) + vector(b"tls13 " + label.encode(), 1) + vector(context, 1)
    return hmac.digest(secret, info + b"\x01", "sha256")[:count]


class Share:
    """An ephemeral key."""

    def __init__(self, group: int) -> None:
        self.group = group
        self.private = (
            ec.generate_private_key(ec.SECP256R1()) if group == P256 else X25519PrivateKey.generate()
        )

    @property
    def public(self) -> bytes:
        public = self.private.public_key()
        if self.group == P256:
            return public.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
        return public.public_bytes_raw()

    def agree(self, other: bytes) -> bytes:
        if self.group == P256:
            peer = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), other)
            return self.private.exchange(ec.ECDH(), peer)
        return self.private.exchange(X25519PublicKey.from_public_bytes(other))


@dataclass
class Stack:
    """One handshake with `context`, OpenSSL on the other side."""

    context: ssl.SSLContext
    certificate: bytes
    sign: Signer
    server: bool
    sent: bytes = b""
    transcript: bytes = b""
    asked: list[tuple[str, bytes]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.to_them, self.from_them = ssl.MemoryBIO(), ssl.MemoryBIO()
        name = "head.end" if self.server else None
        self.them = self.context.wrap_bio(self.to_them, self.from_them, not self.server, name)
        self.pending: list[tuple[int, bytes]] = []
        self.waiting = b""
        self.open: Callable[[int, bytes, bytes], bytes] | None = None

    def step(self) -> bool:
        """Let OpenSSL go on; whether its handshake is complete."""
        try:
            self.them.do_handshake()
        except ssl.SSLWantReadError:
            return False
        return True

    def put(self, octets: bytes) -> None:
        """Send a handshake message in the clear."""
        self.transcript += octets
        self.record(22, octets)

    def record(self, kind: int, octets: bytes) -> None:
        self.to_them.write(bytes([kind]) + b"\x03\x03" + vector(octets, 2))

    def ask(self, form: str, payload: bytes) -> bytes:
        self.asked.append((form, payload))
        return self.sign(form, payload)

    def take(self) -> tuple[int, bytes]:
        """Take the next handshake message of theirs into the transcript; (20, …) for a change of cipher is skipped."""
        while len(self.waiting) < 4 or len(self.waiting) < 4 + int.from_bytes(self.waiting[1:4]):
            header = self.from_them.read(5)
            assert header, "they said nothing more"
            body = self.from_them.read(int.from_bytes(header[3:]))
            if header[0] == 20:
                continue
            self.waiting += body if self.open is None else self.open(header[0], header, body)
        length = 4 + int.from_bytes(self.waiting[1:4])
        taken, self.waiting = self.waiting[:length], self.waiting[length:]
        self.transcript += taken
        return taken[0], taken[4:]


def hello(share: Share, version: int, suites: str) -> bytes:
    """A ClientHello of one version and one group."""
    extensions = (
        extension(10, vector(share.group.to_bytes(2), 2))
        + extension(11, b"\x01\x00")
        + extension(13, vector(_SCHEMES, 2))
        + extension(43, vector(version.to_bytes(2), 1))
    )
    if version == 0x0304:
        extensions += extension(51, vector(share.group.to_bytes(2) + vector(share.public, 2), 2))
    body = b"\x03\x03" + os.urandom(32) + b"\x00" + vector(bytes.fromhex(suites), 2) + b"\x01\x00"
    return message(1, body + vector(extensions, 2))


def offered(body: bytes) -> tuple[bytes, bytes, dict[int, bytes]]:
    """Random, session id and extensions of a ClientHello."""
    random, at = body[2:34], 34
    session, at = body[at + 1 : at + 1 + body[at]], at + 1 + body[at]
    at += 2 + int.from_bytes(body[at : at + 2])
    at += 1 + body[at] + 2
    found = {}
    while at < len(body):
        size = int.from_bytes(body[at + 2 : at + 4])
        found[int.from_bytes(body[at : at + 2])] = body[at + 4 : at + 4 + size]
        at += 4 + size
    return random, session, found


def shares(block: bytes) -> dict[int, bytes]:
    found, at = {}, 2
    while at < len(block):
        size = int.from_bytes(block[at + 2 : at + 4])
        found[int.from_bytes(block[at : at + 2])] = block[at + 4 : at + 4 + size]
        at += 4 + size
    return found


class Keys13:
    """Traffic keys of one direction of a TLS 1.3 handshake."""

    def __init__(self, secret: bytes) -> None:
        self.cipher = AESGCM(expand(secret, "key", b"", 16))
        self.iv = int.from_bytes(expand(secret, "iv", b"", 12))
        self.finished = expand(secret, "finished", b"", 32)
        self.count = 0

    def nonce(self) -> bytes:
        self.count += 1
        return (self.iv ^ (self.count - 1)).to_bytes(12)

    def seal(self, octets: bytes) -> bytes:
        header = b"\x17\x03\x03" + (len(octets) + 17).to_bytes(2)
        return header + self.cipher.encrypt(self.nonce(), octets + b"\x16", header)

    def open(self, kind: int, header: bytes, body: bytes) -> bytes:
        del kind
        return self.cipher.decrypt(self.nonce(), body, header).rstrip(b"\0")[:-1]


def schedule(shared: bytes, transcript: bytes) -> tuple[Keys13, Keys13]:
    """Client's and server's handshake keys."""
    empty = hashlib.sha256().digest()
    early = hmac.digest(bytes(32), bytes(32), "sha256")
    secret = hmac.digest(expand(early, "derived", empty, 32), shared, "sha256")
    context = hashlib.sha256(transcript).digest()
    return Keys13(expand(secret, "c hs traffic", context, 32)), Keys13(
        expand(secret, "s hs traffic", context, 32)
    )


def certificate_1_3(der: bytes) -> bytes:
    return message(11, b"\0" + vector(vector(der, 3) + b"\0\0", 3))


def sealed(stack: Stack, keys: Keys13, octets: bytes, raw: bytes) -> bytes:
    """Send a message under TLS 1.3 keys; hash transcript and given transcript both grow."""
    stack.to_them.write(keys.seal(octets))
    stack.transcript += octets
    return raw + octets


def serve_1_3(stack: Stack, group: int = X25519) -> None:
    """Be the server in TLS 1.3; `group` P256 takes a HelloRetryRequest where the client sent no such share."""
    stack.step()
    _, body = stack.take()
    raw = stack.transcript
    _, session, found = offered(body)

    def server_hello(random: bytes, share: bytes) -> bytes:
        extensions = extension(43, b"\x03\x04") + extension(51, share)
        return message(2, b"\x03\x03" + random + vector(session, 1) + b"\x13\x01\0" + vector(extensions, 2))

    if group not in shares(found[51]):
        retry = server_hello(HELLO_RETRY, group.to_bytes(2))
        stack.transcript = message(254, hashlib.sha256(stack.transcript).digest())
        stack.put(retry)
        stack.step()
        before = len(stack.transcript)
        _, body = stack.take()
        raw += retry + stack.transcript[before:]
        found = offered(body)[2]
    share = Share(group)
    answer = server_hello(os.urandom(32), group.to_bytes(2) + vector(share.public, 2))
    stack.put(answer)
    raw += answer
    theirs, ours = schedule(share.agree(shares(found[51])[group]), stack.transcript)
    raw = sealed(stack, ours, message(8, b"\0\0"), raw)
    raw = sealed(stack, ours, certificate_1_3(stack.certificate), raw)
    raw = sealed(stack, ours, stack.ask("tls_transcript", raw), raw)
    finished = hmac.digest(ours.finished, hashlib.sha256(stack.transcript).digest(), "sha256")
    sealed(stack, ours, message(20, finished), raw)
    assert stack.step()
    stack.open = theirs.open
    expected = hmac.digest(theirs.finished, hashlib.sha256(stack.transcript).digest(), "sha256")
    assert stack.take() == (20, expected)


def call_1_3(stack: Stack) -> None:
    """Be the client in TLS 1.3, with a certificate."""
    share = Share(P256)
    stack.put(hello(share, 0x0304, "1301"))
    stack.step()
    _, body = stack.take()
    theirs_share = offered_share(body)
    ours, theirs = schedule(share.agree(theirs_share), stack.transcript)
    stack.open = theirs.open
    while stack.take()[0] != 20:
        pass
    raw = stack.transcript
    raw = sealed(stack, ours, certificate_1_3(stack.certificate), raw)
    raw = sealed(stack, ours, stack.ask("tls_transcript", raw), raw)
    finished = hmac.digest(ours.finished, hashlib.sha256(stack.transcript).digest(), "sha256")
    sealed(stack, ours, message(20, finished), raw)
    assert stack.step()


def offered_share(body: bytes) -> bytes:
    """The server's P-256 share in its ServerHello."""
    at = 35 + body[34] + 3 + 2
    while int.from_bytes(body[at : at + 2]) != 51:
        at += 4 + int.from_bytes(body[at + 2 : at + 4])
    return body[at + 8 : at + 8 + 65]


class Keys12:
    """Keys of one direction of TLS 1.2 with AES-128-GCM."""

    def __init__(self, key: bytes, salt: bytes) -> None:
        self.cipher, self.salt, self.count = AESGCM(key), salt, 0

    def seal(self, kind: int, octets: bytes) -> bytes:
        number = self.count.to_bytes(8)
        self.count += 1
        header = number + bytes([kind]) + b"\x03\x03" + len(octets).to_bytes(2)
        return number + self.cipher.encrypt(self.salt + number, octets, header)

    def open(self, kind: int, header: bytes, body: bytes) -> bytes:
        extra = self.count.to_bytes(8) + bytes([kind]) + header[1:3] + (len(body) - 24).to_bytes(2)
        self.count += 1
        return self.cipher.decrypt(self.salt + body[:8], body[8:], extra)


def keys_1_2(shared: bytes, client: bytes, server: bytes) -> tuple[bytes, Keys12, Keys12]:
    """Master secret, client's and server's keys."""
    master = p_hash(shared, b"master secret", client + server, 48)
    block = p_hash(master, b"key expansion", server + client, 40)
    return master, Keys12(block[:16], block[32:36]), Keys12(block[16:32], block[36:40])


def finished_1_2(master: bytes, label: bytes, transcript: bytes) -> bytes:
    return message(20, p_hash(master, label, hashlib.sha256(transcript).digest(), 12))


def serve_1_2(stack: Stack) -> None:
    """Be the server in TLS 1.2."""
    stack.step()
    _, body = stack.take()
    client, server = offered(body)[0], os.urandom(32)
    share = Share(P256)
    stack.put(message(2, b"\x03\x03" + server + b"\0" + b"\xc0\x2b\0" + vector(extension(0xFF01, b"\0"), 2)))
    stack.put(message(11, vector(vector(stack.certificate, 3), 3)))
    params = b"\x03" + P256.to_bytes(2) + vector(share.public, 1)
    stack.put(stack.ask("tls_server_key_exchange", client + server + params))
    stack.put(message(14, b""))
    stack.step()
    kind, body = stack.take()
    assert kind == 16
    master, theirs, ours = keys_1_2(share.agree(body[1:]), client, server)
    stack.open = theirs.open
    expected = finished_1_2(master, b"client finished", stack.transcript)
    assert stack.take() == (20, expected[4:])
    stack.record(20, b"\x01")
    stack.record(22, ours.seal(22, finished_1_2(master, b"server finished", stack.transcript)))
    assert stack.step()


def call_1_2(stack: Stack) -> None:
    """Be the client in TLS 1.2, with a certificate."""
    share = Share(P256)
    made = hello(share, 0x0303, "c02b00ff")
    stack.put(made)
    stack.step()
    seen: dict[int, bytes] = {}
    while 14 not in seen:
        kind, body = stack.take()
        seen[kind] = body
    stack.put(message(11, vector(vector(stack.certificate, 3), 3)))
    stack.put(message(16, vector(share.public, 1)))
    stack.put(stack.ask("tls_transcript", stack.transcript))
    master, ours, _ = keys_1_2(share.agree(seen[12][4:69]), made[6:38], seen[2][2:34])
    stack.record(20, b"\x01")
    stack.record(22, ours.seal(22, finished_1_2(master, b"client finished", stack.transcript)))
    assert stack.step()
