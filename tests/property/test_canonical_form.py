"""Canonical JSON is the RFC 8785 form, byte for byte, for everything the log holds."""

import hashlib

import pytest
import rfc8785
from hypothesis import given, settings
from hypothesis import strategies as st

from cryptosvc.core.canonical import canonical, digest
from cryptosvc.core.errors import Internal

KEYS = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=12)
INTEGERS = st.integers(-(2**53 - 1), 2**53 - 1)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
SCALARS = st.none() | st.booleans() | INTEGERS | TEXTS
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(KEYS, inner, max_size=5),
    max_leaves=25,
)
OBJECTS = st.dictionaries(KEYS, VALUES, max_size=8)


@given(OBJECTS)
@settings(deadline=None, max_examples=400)
def test_it_is_the_rfc_8785_form(value):
    assert canonical(value) == rfc8785.dumps(value)


@given(OBJECTS)
@settings(deadline=None)
def test_order_of_insertion_is_of_no_consequence(value):
    assert canonical(dict(reversed(value.items()))) == canonical(value)


@given(OBJECTS)
@settings(deadline=None)
def test_digest_is_sha_256_of_it(value):
    assert digest(value) == hashlib.sha256(rfc8785.dumps(value)).digest()


@given(st.lists(SCALARS, max_size=6))
def test_tuples_are_arrays(values):
    assert canonical({"v": tuple(values)}) == canonical({"v": values})


@pytest.mark.parametrize("control", range(0x20))
def test_control_characters_are_escaped_as_rfc_8785_says(control):
    value = {"c": chr(control)}
    assert canonical(value) == rfc8785.dumps(value)


@pytest.mark.parametrize("number", [2**53, -(2**53), 2**64, -(2**70)])
def test_integers_beyond_53_bits_are_refused(number):
    with pytest.raises(Internal) as raised:
        canonical({"n": number})
    assert raised.value.rule == "canonical/value"


@pytest.mark.parametrize("value", [b"octets", {1, 2}, object(), 1j, {1: "x"}, {None: "x"}, "\ud800"])
def test_what_json_has_no_word_for_is_refused(value):
    with pytest.raises(Internal):
        canonical({"v": value})


@pytest.mark.parametrize("number", [2**53 - 1, -(2**53 - 1)])
def test_the_last_integers_within_53_bits_are_numbers(number):
    assert canonical({"n": number}) == b'{"n":%d}' % number
