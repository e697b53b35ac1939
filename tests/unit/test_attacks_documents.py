"""Documents that are valid to the last octet and still cost more than they should."""

import time

import pytest

from cryptosvc.core.content.duis import document
from cryptosvc.core.errors import Malformed
from tests import duis_documents as duis

PROFILE = duis.demo_profile()
GOOD = duis.request()


def declaring(count: int) -> bytes:
    """The good document with this many more prefixes, all of a namespace that may be declared."""
    declared = b" ".join(b'xmlns:a%d="http://www.w3.org/2001/XMLSchema"' % n for n in range(count))
    return GOOD.replace(b"<sr:Request ", b"<sr:Request " + declared + b" ", 1)


def test_canonical_form_of_many_declarations_is_never_asked_for() -> None:
    """Canonical XML compares each namespace declaration with all before it: 5,500 in 256 kB took most of a second."""
    payload = declaring(5_400)
    assert len(payload) <= PROFILE.max_octets
    started = time.perf_counter()
    with pytest.raises(Malformed) as refusal:
        document.parse(payload, PROFILE)
    assert time.perf_counter() - started < 0.1
    assert refusal.value.rule == "duis/namespace-count"


def test_the_bound_of_declarations_has_two_sides() -> None:
    assert document.parse(declaring(15), PROFILE).document == declaring(15)
    with pytest.raises(Malformed) as refusal:
        document.parse(declaring(16), PROFILE)
    assert refusal.value.rule == "duis/namespace-count"
