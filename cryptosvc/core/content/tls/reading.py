"""Vectors, extensions and handshake messages: the framing all of TLS is made of, read to the last octet.

Source: RFC 8446 section 3 (presentation language) and 4 (Handshake), RFC 5246 section 4 and 7.4.

Example:
    >>> reader = Reader(bytes.fromhex("02aabb"), "a list")
    >>> reader.vector(1, least=1).hex()
    'aabb'
    >>> reader.end()

"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from types import MappingProxyType

from cryptosvc.core.errors import Malformed


class Type(IntEnum):
    """Handshake message types. Source: RFC 8446 4, RFC 5246 7.4, RFC 6066 8."""

    CLIENT_HELLO = 1
    SERVER_HELLO = 2
    ENCRYPTED_EXTENSIONS = 8
    CERTIFICATE = 11
    SERVER_KEY_EXCHANGE = 12
    CERTIFICATE_REQUEST = 13
    SERVER_HELLO_DONE = 14
    CERTIFICATE_VERIFY = 15
    CLIENT_KEY_EXCHANGE = 16
    FINISHED = 20
    CERTIFICATE_STATUS = 22
    MESSAGE_HASH = 254


HEADER_OCTETS = 4


def malformed(what: str, rule: str) -> Malformed:
    """Make the refusal; the field is that of the form, which `handshake.py` adds."""
    return Malformed(f"the TLS handshake {what}", rule=f"tls/{rule}")


class Reader:
    """Takes parts off the front of octets; whatever is missing or left over is Malformed.

    Args:
        octets: the whole of the structure.
        name: of the structure, for the message.

    """

    def __init__(self, octets: bytes, name: str) -> None:
        self._octets = octets
        self._name = name
        self._at = 0

    @property
    def left(self) -> int:
        """Octets not yet taken."""
        return len(self._octets) - self._at

    def take(self, count: int) -> bytes:
        """Take exactly `count` octets."""
        if count > self.left:
            raise malformed(f"ends inside {self._name}", "truncated")
        self._at += count
        return self._octets[self._at - count : self._at]

    def number(self, octets: int) -> int:
        """Take an unsigned number, big-endian."""
        return int.from_bytes(self.take(octets))

    def vector(self, length_octets: int, *, least: int = 0, most: int | None = None) -> bytes:
        """Take a variable-length vector of `least` to `most` octets, whose length stands before it."""
        length = self.number(length_octets)
        if length < least or (most is not None and length > most):
            raise malformed(f"has a vector of a length it may not have in {self._name}", "length")
        return self.take(length)

    def numbers(self, length_octets: int, each: int) -> tuple[int, ...]:
        """Take a vector of at least one number of `each` octets."""
        octets = self.vector(length_octets, least=each)
        if len(octets) % each:
            raise malformed(f"has a list that is cut inside an entry in {self._name}", "length")
        return tuple(int.from_bytes(octets[at : at + each]) for at in range(0, len(octets), each))

    def extensions(self, *, least: int = 0) -> Mapping[int, bytes]:
        """Take an extension block: type → octets, in order; a type that comes twice is Malformed."""
        inner = Reader(self.vector(2, least=least), f"the extensions of {self._name}")
        found: dict[int, bytes] = {}
        while inner.left:
            kind = inner.number(2)
            if kind in found:
                raise malformed(f"has extension {kind} twice in {self._name}", "extension-twice")
            found[kind] = inner.vector(2)
        return MappingProxyType(found)

    def end(self) -> None:
        """Raise Malformed unless everything was taken."""
        if self.left:
            raise malformed(f"has octets after {self._name}", "trailing")


@dataclass(frozen=True, slots=True)
class Message:
    """One handshake message: its type, its body, and both as they stand in the transcript."""

    type: Type
    body: bytes
    octets: bytes

    def reader(self) -> Reader:
        """Begin to read the body."""
        return Reader(self.body, self.type.name.lower().replace("_", " "))


def messages(transcript: bytes) -> tuple[Message, ...]:
    """Split a transcript into its messages; an unknown type, or a cut message, is Malformed."""
    reader = Reader(transcript, "the transcript")
    found = []
    while reader.left:
        start = len(transcript) - reader.left
        number = reader.number(1)
        body = reader.vector(3)
        try:
            kind = Type(number)
        except ValueError:
            raise malformed(
                f"has a message of type {number}, which is not read here", "message-type"
            ) from None
        found.append(Message(kind, body, transcript[start : start + HEADER_OCTETS + len(body)]))
    return tuple(found)
