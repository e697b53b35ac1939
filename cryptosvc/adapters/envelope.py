"""The envelope of a backup: age (age-encryption.org/v1), to recipients; nobody else reads it, and no octet can be changed.

A recipient is an age public key (`age1…`) or an SSH public key (`ssh-ed25519 …`, `ssh-rsa …`); a key file holds age
identities, one a line, or is an SSH private key without passphrase. Any age program opens what is written here.
"""

import os
from collections.abc import Sequence
from pathlib import Path

import pyrage

from cryptosvc.core.errors import Corrupt, Malformed, Unavailable

_OPENSSH = b"-----BEGIN"
_AGE_IDENTITY = "AGE-SECRET-KEY-"


def require_recipients(recipients: Sequence[str]) -> None:
    """Require that there are recipients, and that each is one; Malformed `backup/recipient`."""
    if not recipients:
        raise Malformed(
            "a backup is for somebody: give --to, or set backup.recipients",
            rule="backup/recipient",
            field="--to",
        )
    for one in recipients:
        _recipient(one)


def seal(plain: Path, out: Path, recipients: Sequence[str]) -> None:
    """Encrypt a file to recipients; on disk when this returns.

    Raises:
        Malformed: `backup/recipient`.
        Unavailable: a file cannot be read or written.

    """
    found = [_recipient(one) for one in recipients]
    try:
        with plain.open("rb") as read, out.open("wb") as write:
            out.chmod(0o600)
            pyrage.encrypt_io(read, write, found)
            write.flush()
            os.fsync(write.fileno())
    except (OSError, pyrage.EncryptError) as error:
        raise Unavailable(f"the backup could not be written: {error}", rule="backup/unwritable") from None


def open_sealed(sealed: Path, out: Path, key: Path) -> None:
    """Decrypt a file with the keys in a file.

    Raises:
        Malformed: `backup/key`: there is no such key in the file.
        Corrupt: `backup/envelope`: it is for another key, or not as it was written.
        Unavailable: a file cannot be read or written.

    """
    identities = _identities(key)
    try:
        with sealed.open("rb") as read, out.open("wb") as write:
            out.chmod(0o600)
            pyrage.decrypt_io(read, write, identities)
    except (OSError, pyrage.DecryptError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise Unavailable(f"the backup could not be read: {error}", rule="backup/unreadable") from None
        # a chunk that was changed, or is missing, comes as an I/O error that no system call made
        raise Corrupt(
            f"the backup does not open with this key, or was changed ({error})",
            rule="backup/envelope",
            clause="G2.16",
        ) from None


def _recipient(text: str) -> pyrage.x25519.Recipient | pyrage.ssh.Recipient:
    try:
        if text.startswith("ssh-"):
            return pyrage.ssh.Recipient.from_str(text)
        return pyrage.x25519.Recipient.from_str(text)
    except pyrage.RecipientError:
        raise Malformed(
            "a recipient is an age public key (age1…) or an SSH public key (ssh-ed25519 … or ssh-rsa …)",
            rule="backup/recipient",
            field="--to",
        ) from None


def _identities(path: Path) -> list[pyrage.x25519.Identity | pyrage.ssh.Identity]:
    try:
        octets = path.read_bytes()
    except OSError as error:
        raise Unavailable(f"cannot read {path}: {error.strerror}", rule="backup/key") from None
    try:
        if octets.startswith(_OPENSSH):
            return [pyrage.ssh.Identity.from_buffer(octets)]
        lines = octets.decode("ascii").splitlines()
        found = [pyrage.x25519.Identity.from_str(line) for line in lines if line.startswith(_AGE_IDENTITY)]
    except (pyrage.IdentityError, UnicodeDecodeError, ValueError):
        found = []
    if not found:
        raise Malformed(
            "the key file holds no age identity (AGE-SECRET-KEY-…) and is no SSH private key without passphrase",
            rule="backup/key",
            field="--key",
        )
    return [*found]
