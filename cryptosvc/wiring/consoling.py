"""What the auditor's console shows, from the service."""

import contextlib
from base64 import b64encode
from collections.abc import Callable
from pathlib import Path

from cryptosvc.cli.actions import Connection, Document
from cryptosvc.cli.browser.loopback import Loopback
from cryptosvc.cli.inquiry import Asked, Rows
from cryptosvc.core import checkpoint
from cryptosvc.core.canonical import JsonValue
from cryptosvc.core.errors import Malformed
from cryptosvc.core.said import FIELDS
from cryptosvc.wiring.calls import client_of
from cryptosvc.wiring.exporting import public_key_der
from cryptosvc.wiring.inquiring import Inquiries
from cryptosvc.wiring.profiles import read_octets


class ServiceViews:
    """Implements `cli.browser.views.Views` with calls to the service.

    Args:
        connection: where it is, and whose certificate asks.
        log_key: SubjectPublicKeyInfo of the log's audit-signing key.
        origin: of the log.
        kept: the signed checkpoint the log must extend.

    """

    def __init__(self, connection: Connection, log_key: bytes, origin: str, kept: bytes) -> None:
        self._connection = connection
        self._log_key = log_key
        self._origin = origin
        self._kept = kept
        self._inquiries = Inquiries()

    def about(self) -> Document:
        """Say which log, which key, and what can be asked."""
        fields: dict[str, JsonValue] = {name: field.meaning for name, field in FIELDS.items()}
        return {
            "origin": self._origin,
            "log_key": b64encode(self._log_key).decode(),
            "kept": self._kept.decode(),
            "fields": fields,
            "target": self._connection.target,
        }

    def rows(self, asked: Asked) -> Rows:
        """Ask, and put the pages of the answer together."""
        found: list[Document] = []
        cursor, size = "", 0
        for page in self._inquiries.query(self._connection, asked):
            found += page.rows
            cursor, size = page.cursor, page.size
        return Rows(found, cursor, size)

    def key(self, key_id: str) -> Document:
        """Tell everything a key did."""
        if not key_id:
            raise Malformed("say which key", rule="console/parameters", field="id")
        return self._inquiries.usage(self._connection, key_id, 0, 0)

    def entry(self, leaf_index: int) -> Document:
        """Fetch an entry with its proof, as they come."""
        with client_of(self._connection) as client:
            found = client.get_entry(leaf_index)
            note = client.get_checkpoint()
            size = checkpoint.parse(note).checkpoint.size
            hashes: list[JsonValue] | None = None
            if leaf_index < size:
                hashes = [one.hex() for one in client.prove_inclusion(leaf_index, size).hashes]
            kept = checkpoint.parse(self._kept).checkpoint.size
            consistency: list[JsonValue] = []
            if 0 < kept < size:
                consistency = [one.hex() for one in client.prove_consistency(kept, size).hashes]
        return {
            "leaf_index": found.leaf_index,
            "entry": b64encode(found.entry).decode(),
            "withheld": found.withheld.decode(),
            "checkpoint": note.decode(),
            "hashes": hashes,
            "consistency": consistency,
        }

    def why(self, leaf_index: int) -> Document:
        """Retell a decision."""
        return self._inquiries.why(self._connection, leaf_index)


class Consoles:
    """Implements `cli.browser.command.Consoles`."""

    def serve(
        self,
        connection: Connection,
        log_key: Path,
        origin: str,
        since: Path | None,
        port: int,
        ready: Callable[[str], None],
    ) -> None:
        """Serve until interrupted.

        Where no origin is given, it is that of the checkpoint that was kept; where none was, of the newest. Both must
        verify.
        """
        key = public_key_der(log_key)
        with client_of(connection) as client:
            newest = client.get_checkpoint()
        kept = newest if since is None else read_octets(since, "--since")
        own = origin or checkpoint.parse(kept).checkpoint.origin
        for note in (kept, newest):
            checkpoint.verify(note, own, key)
        loopback = Loopback(ServiceViews(connection, key, own, kept), port)
        ready(loopback.address)
        with contextlib.suppress(KeyboardInterrupt):
            loopback.serve()
