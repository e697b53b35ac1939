"""Every element of every specimen, broken in every way that fits its type: over 8,000 near-misses.

A mutant is refused, or it is another complete and valid payload and the independent oracle says so too. What may be
valid is bounded: only a handful of ways can lead there.
"""

import pytest

from cryptosvc.core.content.base import Content
from cryptosvc.core.errors import Forbidden, Malformed
from tests.tlv import mutants
from tests.x509_specimens import SPECIMENS

ONE_RULE = {
    "long-length": {"der/length-form"},
    "longest-length": {"der/length-form"},
    "indefinite": {"der/indefinite-length"},
    "length-past-end": {"der/truncated"},
    "class-private": {"der/type", "der/tag-number"},
    "high-tag": {"der/tag-number"},
    "integer-padded": {"der/integer"},
    "oid-padded": {"der/object-identifier"},
    "oid-cut-arc": {"der/object-identifier"},
    "boolean-01": {"der/boolean"},
    "boolean-two": {"der/boolean"},
    "string-t61": {"der/type"},
    "string-ia5": {"der/type"},
    "string-bmp": {"der/type"},
    "time-as-generalized": {"der/time"},
    "time-fraction": {"der/time"},
    "time-offset": {"der/time"},
    "time-no-seconds": {"der/time"},
    "time-feb-30": {"der/time"},
}
"""Ways of breaking that exactly one rule of the walk is there for."""

MAY_LEAD_TO_ANOTHER = {
    "content-zero-after",  # a serial or CRL number grows by an octet
    "content-cut",  # a CN or number loses its last octet
    "delete",  # a CN, an entry, a reason, the scope, a root's contingency key, a request's attribute
    "swap",  # extensions and entries stand in any order
    "null-after",  # contents that are free, as a wrapped key's parameters
    "oid-other",  # the algorithm of a wrapped key
    "integer-padded-ff",
    "tag-next",
    "class-context",
    "content-empty",  # a request without attributes
}

COUNTED_AT_LEAST = {"certificate": 500, "crl": 300, "csr": 300}


@pytest.mark.parametrize("name", SPECIMENS)
def test_specimen_is_fine(name: str) -> None:
    specimen = SPECIMENS[name]
    assert specimen.is_fine(specimen.payload)
    assert specimen.inspect(specimen.payload).signed_bytes == specimen.payload


@pytest.mark.parametrize("name", SPECIMENS)
def test_broken_encodings(name: str) -> None:
    specimen = SPECIMENS[name]
    refused = 0
    for how, where, payload in mutants(specimen.payload):
        if payload == specimen.payload:
            continue
        verdict = specimen.judged(payload)
        if isinstance(verdict, Content):
            assert how in MAY_LEAD_TO_ANOTHER, (how, where)
            assert verdict.signed_bytes == payload
            assert specimen.is_fine(payload), (how, where, payload.hex())
            continue
        refused += 1
        assert isinstance(verdict, Malformed | Forbidden)
        assert verdict.field
        expected = ONE_RULE.get(how)
        assert expected is None or verdict.rule in expected, (how, where, verdict.rule)
    assert refused >= COUNTED_AT_LEAST[specimen.form]
