"""The second parser disagrees where it sees another value; nothing of its own escapes."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from cryptosvc.core.content.x509 import der, referee, signed
from cryptosvc.core.content.x509.extensions import Extension, read_extensions
from cryptosvc.core.content.x509.tbs import TbsCertificate, read_tbs
from cryptosvc.core.errors import Malformed
from cryptosvc.core.names import UnixNanoseconds
from tests.x509_specimens import SPECIMENS

CERTIFICATE = SPECIMENS["organisation"].payload
REQUEST = SPECIMENS["csr"].payload
LIST = SPECIMENS["crl"].payload


def walked(payload: bytes) -> der.Node:
    return der.read(payload, limit=8192)


OTHER_NAME = walked(SPECIMENS["root"].payload).children[3]

CHANGES: dict[str, Callable[[TbsCertificate], TbsCertificate]] = {
    "serial": lambda tbs: replace(tbs, serial=8),
    "issuer": lambda tbs: replace(tbs, issuer=OTHER_NAME),
    "not_before": lambda tbs: replace(tbs, not_before=UnixNanoseconds(tbs.not_before + 1)),
    "not_after": lambda tbs: replace(tbs, not_after=UnixNanoseconds(tbs.not_after - 1)),
    "subject": lambda tbs: replace(tbs, subject=OTHER_NAME),
    "public_key": lambda tbs: replace(tbs, public_point=bytes(65)),
    "extensions": lambda tbs: replace(tbs, extensions=tbs.extensions[::-1]),
}


@pytest.mark.parametrize("field", CHANGES)
def test_a_certificate_that_is_seen_otherwise(field: str) -> None:
    copy, tbs = signed.throwaway_copy(CERTIFICATE), read_tbs(walked(CERTIFICATE))
    referee.certificate(copy, CERTIFICATE, tbs)
    with pytest.raises(Malformed) as caught:
        referee.certificate(copy, CERTIFICATE, CHANGES[field](tbs))
    assert caught.value.rule == "referee/disagrees"
    assert caught.value.message.endswith(f": {field}")


def test_criticality_is_compared() -> None:
    copy, tbs = signed.throwaway_copy(CERTIFICATE), read_tbs(walked(CERTIFICATE))
    first, *others = tbs.extensions
    with pytest.raises(Malformed, match="extensions"):
        referee.certificate(
            copy, CERTIFICATE, replace(tbs, extensions=(replace(first, critical=not first.critical), *others))
        )


def test_another_payload_than_the_one_to_be_signed() -> None:
    copy, tbs = signed.throwaway_copy(CERTIFICATE), read_tbs(walked(CERTIFICATE))
    with pytest.raises(Malformed, match="tbs_bytes"):
        referee.certificate(copy, SPECIMENS["organisation-named"].payload, tbs)


@pytest.mark.parametrize(
    "copy",
    [b"", b"\x30\x00", signed.throwaway_copy(b"\x30\x00"), REQUEST],
    ids=["none", "empty", "hollow", "request"],
)
def test_what_it_cannot_read(copy: bytes) -> None:
    with pytest.raises(Malformed) as caught:
        referee.certificate(copy, CERTIFICATE, read_tbs(walked(CERTIFICATE)))
    assert caught.value.rule == "referee/refused"
    assert caught.value.__suppress_context__


def test_a_request_that_is_seen_otherwise() -> None:
    copy, node = signed.throwaway_copy(REQUEST), walked(REQUEST)
    subject, point = node.children[1].encoded, node.children[2].children[1].content[1:]
    asked = read_extensions(node.children[3].children[0].children[1].children[0])
    referee.request(copy, REQUEST, subject, point, asked)
    for wrong in (
        (CERTIFICATE, subject, point, asked),
        (REQUEST, b"\x30\x00", point, asked),
        (REQUEST, subject, bytes(65), asked),
        (REQUEST, subject, point, ()),
    ):
        with pytest.raises(Malformed) as caught:
            referee.request(copy, *wrong)
        assert caught.value.rule == "referee/disagrees"


def test_a_list_that_is_seen_otherwise() -> None:
    copy, node = signed.throwaway_copy(LIST), walked(LIST)
    issuer = node.children[2].encoded
    updates = der.instant(node.children[3]), der.instant(node.children[4])
    entries: list[tuple[int, UnixNanoseconds, tuple[Extension, ...]]] = [
        (
            der.integer(entry.children[0]),
            der.instant(entry.children[1]),
            read_extensions(entry.children[2]) if len(entry.children) > 2 else (),
        )
        for entry in node.children[5].children
    ]
    found = read_extensions(node.children[6].children[0])
    referee.revocation_list(copy, LIST, issuer, updates, entries, found)
    for wrong in (
        (CERTIFICATE, issuer, updates, entries, found),
        (LIST, b"\x30\x00", updates, entries, found),
        (LIST, issuer, (updates[1], updates[1]), entries, found),
        (LIST, issuer, (updates[0], updates[0]), entries, found),
        (LIST, issuer, updates, entries[::-1], found),
        (LIST, issuer, updates, entries[:1], found),
        (LIST, issuer, updates, entries, found[:1]),
    ):
        with pytest.raises(Malformed) as caught:
            referee.revocation_list(copy, *wrong)
        assert caught.value.rule == "referee/disagrees"
