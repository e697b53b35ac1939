"""Which of several hosts on one PostgreSQL database does what only one should do.

An advisory lock, held by a session of its own for as long as its process lives. PostgreSQL gives it up with the
connection: at once where the process dies, within half a minute where its host does. Holding it is no permission:
what is done under it stays right if two do it (a checkpoint's size is claimed like a counter); it only saves the
refusals that the second would record, each of which would make the next checkpoint due.
"""

import hashlib
from contextlib import suppress

import psycopg

from cryptosvc.adapters.store.faults import translated

_CONNECT_SECONDS = 5
_OPTIONS = (
    "-c statement_timeout=5s -c tcp_keepalives_idle=10 -c tcp_keepalives_interval=5 -c tcp_keepalives_count=3"
)
"""The server looks whether a silent client is still there; its own default is two hours."""


class PostgresLead:
    """Held by one process of all that share a database, until it gives it back or is gone.

    Needs a connection of its own to the server: a pooler that hands out a session for each transaction loses the lock.

    Args:
        url: the store's, as SQLAlchemy writes it or as libpq does.
        what: names what is led, the same everywhere.

    """

    def __init__(self, url: str, what: str) -> None:
        self._url = url.replace("postgresql+psycopg://", "postgresql://", 1)
        digest = hashlib.sha256(b"cryptosvc lead " + what.encode()).digest()
        self._number = int.from_bytes(digest[:8], signed=True)
        self._held: psycopg.Connection[tuple[object, ...]] | None = None

    def take(self) -> bool:
        """Whether this process has it now; blocks for a round trip. Unavailable: the database is out of reach."""
        with translated():
            if self._held is not None:
                try:
                    self._held.execute("SELECT 1")
                except psycopg.Error:
                    self.give_back()  # the lock went with the connection
                else:
                    return True
            connection = psycopg.connect(
                self._url,
                autocommit=True,
                connect_timeout=_CONNECT_SECONDS,
                options=_OPTIONS,
                application_name="cryptosvc lead",
            )
            taken = False
            try:
                row = connection.execute("SELECT pg_try_advisory_lock(%s)", (self._number,)).fetchone()
                taken = row is not None and row[0] is True
            finally:
                if not taken:
                    connection.close()
            if taken:
                self._held = connection
            return taken

    def give_back(self) -> None:
        """Let another process have it."""
        if self._held is not None:
            held, self._held = self._held, None
            with suppress(psycopg.Error):
                held.close()
