"""Strict readers of documents: each gives one field as the type it must have, or raises TypeError or KeyError.

Whoever reads a document turns those two, and ValueError, into Malformed, and compares what it read with what it would
print; so a reader here only has to keep a wrong type from slipping through as another.
"""

from collections.abc import Mapping

from cryptosvc.core.canonical import JsonValue


def text(document: Mapping[str, JsonValue], name: str) -> str:
    """Read a string."""
    value = document[name]
    if not isinstance(value, str):
        raise TypeError(name)
    return value


def number(document: Mapping[str, JsonValue], name: str) -> int:
    """Read a whole number; true and false are none."""
    value = document[name]
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(name)
    return value


def number_or_none(document: Mapping[str, JsonValue], name: str) -> int | None:
    """Read a whole number or null."""
    return None if document[name] is None else number(document, name)


def truth(document: Mapping[str, JsonValue], name: str) -> bool:
    """Read true or false."""
    value = document[name]
    if not isinstance(value, bool):
        raise TypeError(name)
    return value


def octets(document: Mapping[str, JsonValue], name: str) -> bytes:
    """Read hex text as octets."""
    return bytes.fromhex(text(document, name))


def texts(document: Mapping[str, JsonValue], name: str) -> list[str]:
    """Read an array of strings."""
    value = document[name]
    if not isinstance(value, list):
        raise TypeError(name)
    if not all(isinstance(item, str) for item in value):
        raise TypeError(name)
    return value


def mapping(document: Mapping[str, JsonValue], name: str) -> Mapping[str, JsonValue]:
    """Read an object."""
    value = document[name]
    if not isinstance(value, Mapping):
        raise TypeError(name)
    return value


def mappings(document: Mapping[str, JsonValue], name: str) -> list[Mapping[str, JsonValue]]:
    """Read an array of objects."""
    value = document[name]
    if not isinstance(value, list) or not all(isinstance(item, Mapping) for item in value):
        raise TypeError(name)
    return value
