"""Segments: what a stretch of the log holds, sealed under a key whose destruction deletes it (G2.17, G2.18).

Once a stretch of the log is old enough, its entries of the kinds of `core/erased.py` and the values that stand withheld beside
entries are encrypted (AES-256-GCM) under a data key that a key of the module gives by HMAC. While that key is there, they are
read as before. When it is destroyed, under a quorum, nobody can make the data key again: what is left of them, in the store,
in dead rows and in every backup made since, is noise. Of an entry its leaf hash is left, and of a withheld value the
commitment in its entry.

What must stay to derive every record again (records with their documents, the genesis, policy sets, reviews) is never sealed.

What is sealed is, in octets: 00, the length of the key's id, the id, of an entry its leaf hash, and what AES-GCM gives with the
leaf hash as additional data and as nonce, of a value, its first twelve octets, of an entry, the twelve after these. So it
belongs to its leaf, and no nonce comes twice.

Source: Smart Energy Code G2.17, G2.18; NIST SP 800-38D; NIST SP 800-88 Rev 1, 2.5 (cryptographic erase).
"""

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from cryptosvc.core import erased
from cryptosvc.core.errors import Corrupt
from cryptosvc.core.merkle import HASH_OCTETS
from cryptosvc.core.registry import RECORD_KINDS

MARK = b"\x00"
"""First octet of what is sealed; canonical JSON never begins so."""
KEY_CLASS = "log-authentication"
"""Class of the module keys that give data keys: HMAC keys of the log that never leave their module."""
KEPT_KINDS = RECORD_KINDS | {"genesis", "policy-set", "review"}
"""Kinds of entry beside which nothing is sealed: the log derives its records from them, and reviews are evidence."""
CLAUSE = "G2.18"
_NONCE_OCTETS = 12


def derivation(origin: str, key_id: str) -> bytes:
    """What a module key makes the HMAC of, to give the data key of its segment: 32 octets."""
    return b"cryptosvc segment\0" + origin.encode() + b"\0" + key_id.encode()


def sealed(withheld: bytes, leaf_hash: bytes, key_id: str, data_key: bytes) -> bytes:
    """Seal what stands beside an entry."""
    secret = AESGCM(data_key).encrypt(leaf_hash[:_NONCE_OCTETS], withheld, leaf_hash)
    return _named(key_id) + secret


def sealed_entry(entry: bytes, leaf_hash: bytes, key_id: str, data_key: bytes) -> bytes:
    """Seal an entry whole; its leaf hash stays in the open."""
    secret = AESGCM(data_key).encrypt(leaf_hash[_NONCE_OCTETS : 2 * _NONCE_OCTETS], entry, leaf_hash)
    return _named(key_id) + leaf_hash + secret


def _named(key_id: str) -> bytes:
    name = key_id.encode()
    return b"".join((MARK, bytes((len(name),)), name))


def key_of(octets: bytes) -> str:
    """Id of the key that something is sealed under; empty where it is not sealed."""
    return octets[2 : 2 + octets[1]].decode("ascii", "replace") if octets[:1] == MARK else ""


def hash_of(entry: bytes) -> bytes:
    """Leaf hash of an entry as a store holds it: sealed, in the open, or a hash alone."""
    if entry[:1] != MARK:
        return erased.hash_of(entry)
    at = 2 + entry[1]
    return entry[at : at + HASH_OCTETS]


def opened(withheld: bytes, leaf_hash: bytes, data_key: bytes) -> bytes:
    """Open what `sealed` made.

    Raises:
        Corrupt: `segment/changed`: it is not what was sealed beside this entry under this key.

    """
    return _decrypted(data_key, leaf_hash[:_NONCE_OCTETS], withheld[2 + withheld[1] :], leaf_hash)


def opened_entry(entry: bytes, data_key: bytes) -> bytes:
    """Open what `sealed_entry` made; Corrupt as `opened`."""
    leaf_hash, secret = hash_of(entry), entry[2 + entry[1] + HASH_OCTETS :]
    return _decrypted(data_key, leaf_hash[_NONCE_OCTETS : 2 * _NONCE_OCTETS], secret, leaf_hash)


def _decrypted(data_key: bytes, nonce: bytes, secret: bytes, leaf_hash: bytes) -> bytes:
    try:
        return AESGCM(data_key).decrypt(nonce, secret, leaf_hash)
    except (InvalidTag, ValueError):
        raise Corrupt(
            "what is kept sealed of an entry, or beside it, is not what was sealed there: the database was edited",
            rule="segment/changed",
            clause=CLAUSE,
        ) from None
