"""A digest that people can compare: as groups of hex digits, and as words to read aloud across a room.

The words are the English list of BIP-39. SHA-256 digests become 24 words, the last of which carries eight bits of
checksum, so a misheard word is noticed; any four letters tell two words of the list apart.

Source: BIP-39 (trezor/python-mnemonic is its reference implementation).

Example:
    >>> grouped(bytes.fromhex("00112233445566778899aabbccddeeff" * 2))
    '0011 2233 4455 6677 8899 aabb ccdd eeff 0011 2233 4455 6677 8899 aabb ccdd eeff'
    >>> words(bytes(32))[-1]
    'art'
"""

from functools import cache

from mnemonic import Mnemonic

from cryptosvc.core.errors import Malformed

DIGEST_OCTETS = 32
WORDS = 24
_GROUP = 4


def grouped(digest: bytes) -> str:
    """Print a SHA-256 digest as 16 groups of four lower-case hex digits; Malformed unless it has 32 octets."""
    text = _whole(digest).hex()
    return " ".join(text[at : at + _GROUP] for at in range(0, len(text), _GROUP))


def words(digest: bytes) -> tuple[str, ...]:
    """Give the 24 words of a SHA-256 digest; Malformed unless it has 32 octets."""
    return tuple(_english().to_mnemonic(_whole(digest)).split(" "))


def from_hex(text: str) -> bytes:
    """Read a digest that somebody typed: 64 hex digits, with any white space between them, in any case.

    Raises:
        Malformed: `fingerprint/hex`.

    """
    joined = "".join(text.split())
    try:
        digest = bytes.fromhex(joined)
    except ValueError:
        digest = b""
    if len(digest) != DIGEST_OCTETS:
        raise Malformed("a fingerprint is 64 hex digits; compare it again", rule="fingerprint/hex")
    return digest


def from_words(text: str) -> bytes:
    """Read a digest that somebody heard: 24 words of the list, with any white space between them, in any case.

    Raises:
        Malformed: `fingerprint/words` (another number of words), `fingerprint/word` (one is not in the list; the
            message says which place it has), `fingerprint/checksum` (a word was misheard for another of the list).

    """
    heard = text.lower().split()
    if len(heard) != WORDS:
        raise Malformed(
            f"a fingerprint is {WORDS} words, these are {len(heard)}; read it again", rule="fingerprint/words"
        )
    for place, word in enumerate(heard, start=1):
        if word not in _known():
            raise Malformed(f"word {place} is not in the list; read it again", rule="fingerprint/word")
    try:
        return bytes(_english().to_entropy(heard))
    except ValueError:
        raise Malformed(
            "the words do not fit together; read them again", rule="fingerprint/checksum"
        ) from None


def _whole(digest: bytes) -> bytes:
    if len(digest) != DIGEST_OCTETS:
        raise Malformed("a fingerprint is of a SHA-256 digest, 32 octets", rule="fingerprint/length")
    return digest


@cache
def _english() -> Mnemonic:
    return Mnemonic("english")


@cache
def _known() -> frozenset[str]:
    return frozenset(_english().wordlist)
