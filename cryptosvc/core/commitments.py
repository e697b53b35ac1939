"""What an entry commits to without saying it: salted hashes of values that stand beside it."""

import hashlib

ENTRY_VERSION = 1
"""Of the entry format, `v` in every entry."""


def commitment(salt: bytes, name: str, value: str) -> str:
    """Hex SHA-256(salt || 0x00 || name || 0x00 || value)."""
    return hashlib.sha256(b"\x00".join((salt, name.encode(), value.encode()))).hexdigest()
