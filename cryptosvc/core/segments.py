"""Segments: what is withheld in a stretch of the log, sealed under a key whose destruction deletes it (G2.17, G2.18).

A leaf keeps commitments; the values and salts behind them stand beside it. Once a stretch of the log is old enough, those
values are encrypted (AES-256-GCM) under a data key that a key of the module gives by HMAC. While that key is there, they are
read as before. When it is destroyed, under a quorum, nobody can make the data key again: what is left of the values, in
the store, in dead rows and in every backup made since, is noise, and the commitments in the log stay what they are.

What must stay to derive every record again (documents of records, the genesis, policy sets, reviews) is never sealed.

A sealed value is, in octets: 00, the length of the key's id, the id, and what AES-GCM gives with the first twelve octets of
the leaf hash as nonce and the whole of it as additional data. So it belongs to its leaf, and no nonce comes twice.

Source: Smart Energy Code G2.17, G2.18; NIST SP 800-38D; NIST SP 800-88 Rev 1, 2.5 (cryptographic erase).
"""

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from cryptosvc.core.errors import Corrupt
from cryptosvc.core.registry import RECORD_KINDS

MARK = b"\x00"
"""First octet of what is sealed; canonical JSON never begins so."""
KEY_CLASS = "log-authentication"
"""Class of the module keys that give data keys: HMAC keys of the log that never leave their module."""
KEPT_KINDS = RECORD_KINDS | {"genesis", "policy-set", "review"}
"""Kinds of entry of which nothing is sealed: the log derives its records from them, and reviews are evidence."""
CLAUSE = "G2.18"
_NONCE_OCTETS = 12


def derivation(origin: str, key_id: str) -> bytes:
    """What a module key makes the HMAC of, to give the data key of its segment: 32 octets."""
    return b"cryptosvc segment\0" + origin.encode() + b"\0" + key_id.encode()


def sealed(withheld: bytes, leaf_hash: bytes, key_id: str, data_key: bytes) -> bytes:
    """Seal what stands beside an entry."""
    name = key_id.encode()
    secret = AESGCM(data_key).encrypt(leaf_hash[:_NONCE_OCTETS], withheld, leaf_hash)
    return b"".join((MARK, bytes((len(name),)), name, secret))


def key_of(withheld: bytes) -> str:
    """Id of the key that something is sealed under; empty where it is not sealed."""
    return withheld[2 : 2 + withheld[1]].decode("ascii", "replace") if withheld[:1] == MARK else ""


def opened(withheld: bytes, leaf_hash: bytes, data_key: bytes) -> bytes:
    """Open what `sealed` made.

    Raises:
        Corrupt: `segment/changed`: it is not what was sealed beside this entry under this key.

    """
    try:
        return AESGCM(data_key).decrypt(leaf_hash[:_NONCE_OCTETS], withheld[2 + withheld[1] :], leaf_hash)
    except InvalidTag:
        raise Corrupt(
            "what is kept sealed beside an entry is not what was sealed there: the database was edited",
            rule="segment/changed",
            clause=CLAUSE,
        ) from None
