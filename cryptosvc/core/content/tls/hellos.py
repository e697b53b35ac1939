"""ClientHello and ServerHello, read completely, and what the one may answer to the other.

Source: RFC 8446 4.1 and 4.2, RFC 5246 7.4.1, RFC 8422 5.1.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from cryptosvc.core.content.tls.reading import Message, Reader, malformed

TLS_1_2 = 0x0303
TLS_1_3 = 0x0304
ECDSA_P256_SHA256 = 0x0403
"""SignatureScheme; as a TLS 1.2 pair: sha256, ecdsa. The one signature a `tls` key makes."""

SUPPORTED_GROUPS, SIGNATURE_ALGORITHMS, PRE_SHARED_KEY = 10, 13, 41
SUPPORTED_VERSIONS, COOKIE, KEY_SHARE, RENEGOTIATION_INFO = 43, 44, 51, 0xFF01
_RENEGOTIATION_SCSV = 0x00FF
_RANDOM_OCTETS = 32
_NO_COMPRESSION = b"\x00"

RETRY_RANDOM = bytes.fromhex("cf21ad74e59a6111be1d8c021e65b891c2a211167abb8c5e079e09e2c8a8339c")
"""The random that makes a ServerHello a HelloRetryRequest. Source: RFC 8446 4.1.3."""

HASHES_1_3: Mapping[int, str] = {
    0x1301: "sha256",
    0x1302: "sha384",
    0x1303: "sha256",
    0x1304: "sha256",
    0x1305: "sha256",
}
"""Cipher suites of TLS 1.3 → hash of their transcript. Source: RFC 8446 B.4."""

SUITES_1_2 = frozenset(
    {0xC009, 0xC00A, 0xC013, 0xC014, 0xC023, 0xC024, 0xC027, 0xC028, 0xC02B, 0xC02C, 0xC02F, 0xC030}
    | {0xC0AC, 0xC0AD, 0xC0AE, 0xC0AF, 0xCCA8, 0xCCA9}
)
"""ECDHE suites of TLS 1.2 with ECDSA or RSA. Source: RFC 8422, 5289, 7251, 7905."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientHello:
    """What the client offers.

    Args:
        random: 32 octets.
        session_id: 0 to 32 octets.
        suites: cipher suites, in order.
        extensions: type → octets.
        versions: of supported_versions; TLS 1.2 alone where there is none.
        schemes: of signature_algorithms; empty where there is none.
        groups: of supported_groups; empty where there is none.

    """

    random: bytes
    session_id: bytes
    suites: tuple[int, ...]
    extensions: Mapping[int, bytes]
    versions: tuple[int, ...]
    schemes: tuple[int, ...]
    groups: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerHello:
    """What the server chose.

    Args:
        random: 32 octets.
        version: TLS 1.2 or 1.3.
        suite: cipher suite.
        group: of key_share in TLS 1.3; 0 in TLS 1.2.
        retry: it is a HelloRetryRequest.

    """

    random: bytes
    version: int
    suite: int
    group: int
    retry: bool


def client_hello(message: Message) -> ClientHello:
    """Read a ClientHello."""
    reader = message.reader()
    _require_legacy_version(reader)
    random = reader.take(_RANDOM_OCTETS)
    session_id = reader.vector(1, most=32)
    suites = reader.numbers(2, 2)
    if reader.vector(1, least=1) != _NO_COMPRESSION:
        raise malformed("offers compression", "compression")
    extensions = reader.extensions()
    reader.end()
    if PRE_SHARED_KEY in extensions and list(extensions)[-1] != PRE_SHARED_KEY:
        raise malformed("has pre_shared_key before another extension", "extension-order")
    if KEY_SHARE in extensions:
        _client_shares(extensions[KEY_SHARE])
    return ClientHello(
        random=random,
        session_id=session_id,
        suites=suites,
        extensions=extensions,
        versions=_listed(extensions, SUPPORTED_VERSIONS, 1) or (TLS_1_2,),
        schemes=_listed(extensions, SIGNATURE_ALGORITHMS, 2),
        groups=_listed(extensions, SUPPORTED_GROUPS, 2),
    )


def server_hello(message: Message, offered: ClientHello) -> ServerHello:
    """Read a ServerHello or HelloRetryRequest and hold it against what was offered."""
    reader = message.reader()
    _require_legacy_version(reader)
    random = reader.take(_RANDOM_OCTETS)
    session_id = reader.vector(1, most=32)
    suite = reader.number(2)
    if reader.take(1) != _NO_COMPRESSION:
        raise malformed("chooses compression", "compression")
    extensions = reader.extensions() if reader.left else {}
    reader.end()
    version, retry = TLS_1_2, random == RETRY_RANDOM
    if SUPPORTED_VERSIONS in extensions:
        chosen = Reader(extensions[SUPPORTED_VERSIONS], "supported_versions")
        version = chosen.number(2)
        chosen.end()
        if version != TLS_1_3:
            raise malformed("chooses a version that supported_versions may not choose", "version")
    if version not in offered.versions or (retry and version != TLS_1_3):
        raise malformed("chooses a version that was not offered", "version")
    if suite not in offered.suites or suite not in (HASHES_1_3 if version == TLS_1_3 else SUITES_1_2):
        raise malformed("chooses a cipher suite that was not offered or is not read here", "suite")
    _require_answers(extensions, offered, retry=retry)
    group = 0
    if version == TLS_1_3:
        if session_id != offered.session_id:
            raise malformed("does not echo the session id", "session-id")
        group = _chosen_group(extensions, offered, retry=retry)
    return ServerHello(random=random, version=version, suite=suite, group=group, retry=retry)


def require_answers(extensions: Mapping[int, bytes], offered: ClientHello) -> None:
    """Raise Malformed where an answer has an extension that nobody asked for."""
    _require_answers(extensions, offered, retry=False)


def shares(hello: ClientHello) -> frozenset[int]:
    """Groups the client sent a share of."""
    return _client_shares(hello.extensions[KEY_SHARE]) if KEY_SHARE in hello.extensions else frozenset()


def _require_legacy_version(reader: Reader) -> None:
    if reader.number(2) != TLS_1_2:
        raise malformed("is of a version before TLS 1.2, or of none", "version")


def _require_answers(extensions: Mapping[int, bytes], offered: ClientHello, *, retry: bool) -> None:
    unasked = {COOKIE} if retry else set()
    if _RENEGOTIATION_SCSV in offered.suites:
        unasked.add(RENEGOTIATION_INFO)
    if extensions.keys() - offered.extensions.keys() - unasked:
        raise malformed("answers an extension that was not offered", "extension-unasked")


def _chosen_group(extensions: Mapping[int, bytes], offered: ClientHello, *, retry: bool) -> int:
    if extensions.keys() - {SUPPORTED_VERSIONS, KEY_SHARE, *([COOKIE] if retry else [])}:
        raise malformed(
            "has an extension in its ServerHello that no handshake with a certificate has", "extension"
        )
    if retry and COOKIE in extensions:
        cookie = Reader(extensions[COOKIE], "the cookie")
        cookie.vector(2, least=1)
        cookie.end()
    if KEY_SHARE not in extensions:
        if retry and COOKIE in extensions:
            return 0
        raise malformed("has no key_share", "key-share")
    share = Reader(extensions[KEY_SHARE], "the key_share")
    group = share.number(2)
    if not retry:
        share.vector(2, least=1)
    share.end()
    if group not in offered.groups or (group in shares(offered)) is retry:
        raise malformed("chooses a group that was not offered", "group")
    return group


def _client_shares(octets: bytes) -> frozenset[int]:
    """Groups of a client's key_share, which may be an empty list."""
    outer = Reader(octets, "the key_share")
    shares = Reader(outer.vector(2), "the key_share")
    outer.end()
    groups: list[int] = []
    while shares.left:
        groups.append(shares.number(2))
        shares.vector(2, least=1)
    if len(set(groups)) != len(groups):
        raise malformed("has two shares of one group", "key-share")
    return frozenset(groups)


def _listed(extensions: Mapping[int, bytes], kind: int, length_octets: int) -> tuple[int, ...]:
    if kind not in extensions:
        return ()
    reader = Reader(extensions[kind], f"extension {kind}")
    found = reader.numbers(length_octets, 2)
    reader.end()
    return found
