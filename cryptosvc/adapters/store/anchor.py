"""The anchor: the newest head this host saw, in a small file outside the database.

A worker's memory ends with its process; the anchor does not. A store that was put back from a backup behind it is
refused at start. It is written whenever the registry changes, and otherwise at an interval, so what it may miss is the
uses of the last interval, never a suspension or a revocation.
"""

import fcntl
import os
from pathlib import Path

import orjson

from cryptosvc.adapters.store.heads import Head, HeadAuthenticator, require_not_before
from cryptosvc.core.canonical import canonical
from cryptosvc.core.errors import Corrupt, Malformed, Unavailable


class Anchor:
    """One file, shared by the workers of a host.

    Args:
        path: the file; outside the database's folder where that is backed up and restored as a whole.
        authenticator: the same key as the head's.

    """

    def __init__(self, path: Path, authenticator: HeadAuthenticator) -> None:
        self._path = path
        self._authenticator = authenticator

    def read(self) -> Head | None:
        """The head kept; None where there is no file. Corrupt: the file was edited."""
        try:
            octets = self._path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise Unavailable(
                f"cannot read the anchor file: {error.strerror}", rule="anchor/unreadable"
            ) from None
        try:
            found = orjson.loads(octets)
            body = found["head"].encode()
            self._authenticator.verify(b"anchor\0" + body, bytes.fromhex(found["tag"]))
            return Head.parse(body)
        except (ValueError, TypeError, KeyError, AttributeError, Malformed, Corrupt):
            raise Corrupt(
                "the anchor file is not one this service wrote; an operator must find out why",
                rule="anchor/forged",
            ) from None

    def keep(self, head: Head) -> None:
        """Write the head where it is larger than the one kept; on disk, whole or not at all, when this returns.

        Raises:
            Corrupt: the one kept is larger and not this one's past as far as sizes tell, or was edited.
            Unavailable: the file cannot be written.

        """
        body = head.emit()
        tag = self._authenticator.mac(b"anchor\0" + body)
        partial = self._path.with_name(f"{self._path.name}.{os.getpid()}")
        try:
            lock = os.open(
                self._path.with_name(self._path.name + ".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600
            )
            try:
                fcntl.flock(lock, fcntl.LOCK_EX)
                kept = self.read()
                if kept is not None and kept.size >= head.size:
                    if kept.size == head.size:
                        require_not_before(head, kept)
                    return
                descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
                try:
                    os.write(descriptor, canonical({"head": body.decode(), "tag": tag.hex()}))
                    os.fsync(descriptor)
                finally:
                    os.close(descriptor)
                partial.replace(self._path)
            finally:
                os.close(lock)
        except OSError as error:
            raise Unavailable(
                f"cannot write the anchor file: {error.strerror}", rule="anchor/unwritable"
            ) from None
