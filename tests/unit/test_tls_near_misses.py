"""What is almost a handshake of ours is not signed: cut, added to, out of order, with other parts, of other keys."""

from collections.abc import Iterator
from functools import cache

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from cryptosvc.core.content.tls import handshake
from cryptosvc.core.errors import Forbidden, Malformed, Refusal
from cryptosvc.core.names import ContentForm, UnixNanoseconds
from tests import tls_parties, tls_stack
from tests.tls_parties import OURS, PARSE, SCENARIOS, performed
from tests.tls_stack import extension, message, vector

TRANSCRIPTS = tuple(name for name in SCENARIOS if name != "1.2 server")
P256 = b"\x03\x00\x17\x41"


@cache
def genuine(name: str) -> tuple[ContentForm, bytes]:
    ((form, payload),) = performed(name).asked
    return ContentForm(form), payload


def split(transcript: bytes) -> list[bytes]:
    found = []
    while transcript:
        length = 4 + int.from_bytes(transcript[1:4])
        found.append(transcript[:length])
        transcript = transcript[length:]
    return found


def refused(form: ContentForm, payload: bytes) -> Refusal:
    with pytest.raises((Malformed, Forbidden)) as refusal:
        handshake.bind(PARSE[form](payload), tls_parties.key_record(OURS), tls_parties.AT)
    assert refusal.value.field == form.value
    assert refusal.value.rule.startswith("tls/")
    return refusal.value


def broken(name: str) -> Iterator[bytes]:
    """Cut everywhere; added to; each message gone, twice, swapped, of another type, of another length; others put in."""
    _, payload = genuine(name)
    yield from (payload[:count] for count in range(len(payload)))
    yield from (payload + octets for octets in (b"\0", b"\x01", bytes(4), payload))
    if name == "1.2 server":
        return
    parts = split(payload)
    others = [message(kind, b"") for kind in (0, 3, 4, 5, 8, 14, 15, 20, 24, 25, 254, 255)]
    for at, part in enumerate(parts):
        before, after = parts[:at], parts[at + 1 :]
        changed = [[], [part, part], *([part, other] for other in others), *([other] for other in others)]
        changed += [
            [part[:1] + (len(part) - 4 + by).to_bytes(3) + part[4:]] for by in (-1, 1) if len(part) + by >= 4
        ]
        changed += [[message(part[0], part[4:] + b"\0")], [message(part[0], part[4:-1])]] * (len(part) > 4)
        for instead in changed:
            yield b"".join([*before, *instead, *after])
        if after:
            yield b"".join([*before, after[0], part, *after[1:]])


@pytest.mark.parametrize("name", SCENARIOS)
def test_what_is_broken_anywhere_is_refused(name: str) -> None:
    form, payload = genuine(name)
    tried = [one for one in broken(name) if one != payload]
    assert len(tried) > 130
    for one in tried:
        refused(form, one)


def test_more_than_a_thousand_near_misses_were_tried() -> None:
    assert sum(len(set(broken(name))) for name in SCENARIOS) > 2_000


@pytest.mark.parametrize("name", SCENARIOS)
def test_what_is_signed_is_itself_nothing_to_sign(name: str) -> None:
    """Neither is the structure of TLS 1.3 with its hash, nor a digest; a TLS 1.2 transcript is what it is."""
    form, payload = genuine(name)
    signed = PARSE[form](payload).signed_bytes
    for said in PARSE:
        if (said, signed) != (form, payload):
            refused(said, signed)


class TestServerKeyExchange:
    """Randoms and parameters, 133 octets for P-256."""

    @pytest.mark.parametrize(
        ("params", "rule"),
        [
            (b"\x01" + bytes(70), "tls/curve"),  # explicit_prime
            (b"\x02" + bytes(70), "tls/curve"),
            (b"\x00\x17\x41" + bytes(65), "tls/curve"),
            (b"\x03\x00\x16\x41" + bytes(65), "tls/curve"),  # secp256k1
            (b"\x03\x00\x1d\x20" + bytes(32), "tls/curve"),  # x25519, whose points cannot be checked
            (P256 + b"\x04" + bytes(64), "tls/point"),
            (P256 + b"\x04" + b"\xff" * 64, "tls/point"),
            (b"\x03\x00\x17\x01\x00", "tls/point"),  # infinity
            (b"\x03\x00\x17\x00", "tls/length"),
            (b"\x03\x00\x17\x21\x02" + bytes(32), "tls/point"),
        ],
    )
    def test_other_parameters_are_refused(self, params: bytes, rule: str) -> None:
        assert refused(ContentForm.TLS_SERVER_KEY_EXCHANGE, b"c" * 32 + b"s" * 32 + params).rule == rule

    @pytest.mark.parametrize("flip", [1, 33, 64])
    def test_a_point_beside_the_curve_is_refused(self, flip: int) -> None:
        form, payload = genuine("1.2 server")
        octets = bytearray(payload)
        octets[68 + flip] ^= 1
        assert refused(form, bytes(octets)).rule == "tls/point"

    def test_a_compressed_point_is_refused(self) -> None:
        point = (
            tls_parties.private_key("x")
            .public_key()
            .public_bytes(Encoding.X962, PublicFormat.CompressedPoint)
        )
        payload = b"c" * 32 + b"s" * 32 + b"\x03\x00\x17" + vector(point, 1)
        assert refused(ContentForm.TLS_SERVER_KEY_EXCHANGE, payload).rule == "tls/point"

    def test_a_random_that_is_the_other_sides_is_refused(self) -> None:
        _, payload = genuine("1.2 server")
        again = payload[:32] + payload[:32] + payload[64:]
        assert refused(ContentForm.TLS_SERVER_KEY_EXCHANGE, again).rule == "tls/random"

    @pytest.mark.parametrize(("number", "curve"), [(24, ec.SECP384R1()), (25, ec.SECP521R1())])
    def test_the_other_named_curves_are_read(self, number: int, curve: ec.EllipticCurve) -> None:
        point = (
            ec.generate_private_key(curve)
            .public_key()
            .public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
        )
        payload = b"c" * 32 + b"s" * 32 + b"\x03" + number.to_bytes(2) + vector(point, 1)
        content = handshake.parse_key_exchange(payload)
        assert content.signed_bytes == payload
        assert dict(content.facts)["group"] == str(number)
        assert refused(
            ContentForm.TLS_SERVER_KEY_EXCHANGE, payload.replace(point, b"\x04" + point[2:] + b"\x01")
        )

    def test_a_random_is_promised_once(self) -> None:
        _, payload = genuine("1.2 server")
        (promise,) = handshake.parse_key_exchange(payload).promises
        assert (promise.scope, promise.value) == ("tls-random", payload[32:64].hex())


class TestHellos:
    """Every field of the two hellos that could mean another handshake."""

    def test_the_specimen_itself_is_read(self) -> None:
        content = handshake.parse_transcript(_server_transcript())
        assert dict(content.facts)["side"] == "server"
        handshake.bind(content, tls_parties.key_record(OURS), tls_parties.AT)

    @pytest.mark.parametrize(
        ("client", "server", "rule"),
        [
            ({"legacy": 0x0302}, {}, "tls/version"),
            ({"legacy": 0x0304}, {}, "tls/version"),
            ({"versions": (0x0303,)}, {}, "tls/version"),
            ({"compression": b"\x01\x00"}, {}, "tls/compression"),
            ({"compression": b""}, {}, "tls/length"),
            ({"session": bytes(33)}, {}, "tls/length"),
            ({"suites": (0x1302,)}, {}, "tls/suite"),
            ({"schemes": (0x0804, 0x0503)}, {}, "tls/scheme"),
            ({"groups": (24,)}, {}, "tls/group"),
            ({"share": 24}, {}, "tls/group"),
            ({"more": extension(10, b"\0\x02\0\x17")}, {}, "tls/extension-twice"),
            ({"more": extension(41, b"") + extension(7, b"")}, {}, "tls/extension-order"),
            ({"more": b"\0"}, {}, "tls/truncated"),
            ({}, {"legacy": 0x0304}, "tls/version"),
            ({}, {"version": 0x0303}, "tls/version"),
            ({}, {"version": 0x7F1C}, "tls/version"),
            ({}, {"session": b"x"}, "tls/session-id"),
            ({}, {"suite": 0x1303}, "tls/suite"),
            ({"suites": (0x1301, 0x00FF)}, {"suite": 0x00FF}, "tls/suite"),
            ({}, {"compression": b"\x01"}, "tls/compression"),
            ({}, {"group": 24}, "tls/group"),
            ({}, {"more": extension(16, b"")}, "tls/extension-unasked"),
            ({"more": extension(16, b"\0")}, {"more": extension(16, b"")}, "tls/extension"),
            ({"more": extension(41, b"")}, {"more": extension(41, b"\0\0")}, "tls/extension"),
        ],
    )
    def test_another_is_refused(self, client, server, rule: str) -> None:
        assert refused(ContentForm.TLS_TRANSCRIPT, _server_transcript(client, server)).rule == rule

    @pytest.mark.parametrize(
        ("rest", "rule"),
        [
            (message(8, extension(0, b"")), "tls/trailing"),
            (message(8, vector(extension(0, b""), 2)), "tls/extension-unasked"),
            (
                message(8, b"\0\0") + message(13, b"\x01x" + vector(extension(13, b"\0\x02\x04\x03"), 2)),
                "tls/certificate-context",
            ),
            (message(8, b"\0\0") + message(13, b"\0" + vector(extension(5, b""), 2)), "tls/schemes"),
            (message(8, b"\0\0") + message(13, b"\0\0\0"), "tls/length"),
        ],
    )
    def test_other_messages_between_are_refused(self, rest: bytes, rule: str) -> None:
        transcript = (
            _client_hello() + _server_hello() + rest + tls_stack.certificate_1_3(tls_parties.der(OURS))
        )
        assert refused(ContentForm.TLS_TRANSCRIPT, transcript).rule == rule

    def test_a_certificate_with_a_context_or_none_at_all_is_refused(self) -> None:
        start = _client_hello() + _server_hello() + message(8, b"\0\0")
        one = vector(vector(tls_parties.der(OURS), 3) + b"\0\0", 3)
        assert (
            refused(ContentForm.TLS_TRANSCRIPT, start + message(11, b"\x01c" + one)).rule
            == "tls/certificate-context"
        )
        assert (
            refused(ContentForm.TLS_TRANSCRIPT, start + message(11, b"\0" + vector(b"", 3))).rule
            == "tls/length"
        )


class TestCertificate:
    """The Certificate sent must be of the key asked for, for signatures, in force."""

    @pytest.mark.parametrize(
        ("encoded", "rule"),
        [
            (lambda: tls_parties.der("device"), "tls/certificate"),
            (lambda: tls_parties.der(OURS, ends=0, begins=-2), "tls/in-force"),
            (lambda: tls_parties.der(OURS, begins=1), "tls/in-force"),
            (lambda: tls_parties.der(OURS, signs=False), "tls/key-usage"),
            (lambda: tls_parties.der(OURS) + b"\0", "tls/certificate"),
            (lambda: tls_parties.der(OURS)[:-1], "tls/certificate"),
            (lambda: b"\x30\x00", "tls/certificate"),
        ],
    )
    def test_another_is_forbidden_under_the_clause(self, encoded, rule: str) -> None:
        at = UnixNanoseconds(tls_parties.AT + 1_000_000_000)
        content = handshake.parse_transcript(_server_transcript(certificate=encoded()))
        with pytest.raises(Forbidden) as refusal:
            handshake.bind(content, tls_parties.key_record(OURS), at)
        assert (refusal.value.rule, refusal.value.clause) == (rule, "G2.44(d)")

    @pytest.mark.parametrize("name", TRANSCRIPTS)
    def test_a_handshake_of_another_key_is_forbidden(self, name: str) -> None:
        _, payload = genuine(name)
        with pytest.raises(Forbidden, match="not of the key"):
            handshake.bind(
                handshake.parse_transcript(payload), tls_parties.key_record("device"), tls_parties.AT
            )

    def test_where_one_is_registered_no_other_of_the_same_key_is_sent(self) -> None:
        content = handshake.parse_transcript(_server_transcript())
        registered = tls_parties.der(OURS, issuer="another authority")
        key = tls_parties.key_record(OURS, certificate=registered)
        with pytest.raises(Forbidden, match="not of the key"):
            handshake.bind(content, key, tls_parties.AT)
        same = tls_parties.key_record(OURS, certificate=tls_parties.der(OURS))
        handshake.bind(content, same, tls_parties.AT)


def _client_hello(
    *,
    legacy: int = 0x0303,
    session: bytes = b"",
    suites: tuple[int, ...] = (0x1301,),
    compression: bytes = b"\0",
    versions: tuple[int, ...] = (0x0304,),
    groups: tuple[int, ...] = (23,),
    schemes: tuple[int, ...] = (0x0403,),
    share: int = 23,
    more: bytes = b"",
) -> bytes:
    def numbers(many: tuple[int, ...]) -> bytes:
        return b"".join(one.to_bytes(2) for one in many)

    extensions = (
        extension(43, vector(numbers(versions), 1))
        + extension(10, vector(numbers(groups), 2))
        + extension(13, vector(numbers(schemes), 2))
        + extension(51, vector(share.to_bytes(2) + vector(b"x" * 65, 2), 2))
        + more
    )
    body = legacy.to_bytes(2) + b"c" * 32 + vector(session, 1) + vector(numbers(suites), 2)
    return message(1, body + vector(compression, 1) + vector(extensions, 2))


def _server_hello(
    *,
    legacy: int = 0x0303,
    session: bytes = b"",
    suite: int = 0x1301,
    compression: bytes = b"\0",
    version: int = 0x0304,
    group: int = 23,
    more: bytes = b"",
) -> bytes:
    extensions = (
        extension(43, version.to_bytes(2)) + extension(51, group.to_bytes(2) + vector(b"y" * 65, 2)) + more
    )
    body = legacy.to_bytes(2) + b"s" * 32 + vector(session, 1) + suite.to_bytes(2) + compression
    return message(2, body + vector(extensions, 2))


def _server_transcript(client=(), server=(), certificate: bytes = b"") -> bytes:
    own = tls_stack.certificate_1_3(certificate or tls_parties.der(OURS))
    return _client_hello(**dict(client)) + _server_hello(**dict(server)) + message(8, b"\0\0") + own
