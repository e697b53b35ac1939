"""Canonical JSON: RFC 8785 for what the log holds.

ASCII keys, no floats, integers within ±(2**53 - 1); wider numbers travel as decimal strings. orjson with sorted
keys then gives the RFC 8785 form (a property test holds it to the rfc8785 package).
"""

import hashlib
from collections.abc import Mapping, Sequence

import orjson

from cryptosvc.core.errors import Internal

_NOT_CANONICAL = (
    "only null, booleans, integers within 53 bits, strings, sequences and string-keyed mappings are canonical"
)

JsonValue = None | bool | int | str | Sequence["JsonValue"] | Mapping[str, "JsonValue"]

_OPTIONS = orjson.OPT_SORT_KEYS | orjson.OPT_STRICT_INTEGER


def canonical(value: Mapping[str, JsonValue]) -> bytes:
    """Emit the RFC 8785 bytes of `value`; anything outside the form raises Internal."""
    try:
        return orjson.dumps(value, option=_OPTIONS)
    except (TypeError, orjson.JSONEncodeError):
        raise Internal(_NOT_CANONICAL, rule="canonical/value") from None


def digest(value: Mapping[str, JsonValue]) -> bytes:
    """SHA-256 of the canonical form, 32 octets."""
    return hashlib.sha256(canonical(value)).digest()
