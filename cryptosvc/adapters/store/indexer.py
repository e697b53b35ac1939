"""Fills the query index behind the log: reads entries in order, a few blocks at a time, and goes on where it was.

Nothing of it is in a record transaction, so signing does not wait for it; what is not in the index yet, a query reads
from the log itself. One process should do it at a time; if two do, the second does the same over again.
"""

import os
import threading
from collections.abc import Callable
from pathlib import Path

import sqlalchemy
from sqlalchemy.exc import SQLAlchemyError

from cryptosvc.adapters.store import postings
from cryptosvc.adapters.store.engine import open_store
from cryptosvc.adapters.store.faults import Moved, Uncertain
from cryptosvc.adapters.store.postings import BLOCK, IndexState, Posted, Terms
from cryptosvc.adapters.store.session import Session, Store
from cryptosvc.core.erased import hash_of
from cryptosvc.core.errors import Unavailable

BLOCKS_AT_ONCE = 1
_SQLITE = "sqlite:///"
SUFFIX = ".query"
"""Of the index's own file beside a SQLite store."""


def index_store(url: str) -> Store:
    """The store the index of this store is in; makes its file where there is none.

    Raises:
        Unavailable: the file cannot be made.

    """
    if not url.startswith(_SQLITE):
        return open_store(url)
    path = Path(url.removeprefix(_SQLITE) + SUFFIX)
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        engine = sqlalchemy.create_engine(f"{_SQLITE}{path}", poolclass=sqlalchemy.NullPool)
        postings.metadata.create_all(engine)
        engine.dispose()
    except (OSError, SQLAlchemyError) as error:
        raise Unavailable(
            f"the query index at {path} cannot be made ({type(error).__name__})", rule="query-index/file"
        ) from None
    return open_store(f"{_SQLITE}{path}")


class Indexer:
    """Brings the index up.

    Args:
        log: the store of the log; read only.
        index: the store of the index.
        random_octets: gives n random octets.

    """

    def __init__(self, log: Store, index: Store, random_octets: Callable[[int], bytes] = os.urandom) -> None:
        self._log = log
        self._index = index
        self._random_octets = random_octets
        self._terms: tuple[bytes, Terms] | None = None
        self._turn = threading.Lock()

    def step(self, blocks: int = BLOCKS_AT_ONCE) -> int:
        """Add up to this many whole blocks; how many were added. Blocks.

        Raises:
            Unavailable: log or index is out of reach.

        """
        with self._turn:
            try:
                return self._step(blocks)
            except (Moved, Uncertain):
                return 0  # done or not, the next step looks

    def close(self) -> None:
        """Wait for the step under way; close both stores."""
        with self._turn:
            self._index.close()
            self._log.close()

    def _step(self, blocks: int) -> int:
        state = self._begun()
        if state is None:
            return 0
        terms = self._spelling(state)
        posted: list[Posted] = []
        last = b""
        first = state.through // BLOCK
        for block in range(first, first + blocks):
            with self._log.reading() as session:
                leaves = session.leaves(block * BLOCK, (block + 1) * BLOCK)
            if len(leaves) < BLOCK:
                break
            posted.append(postings.post(block, leaves, terms))
            last = hash_of(leaves[-1][0])
        if posted:
            with self._index.writing() as session:
                if postings.state(session) != state:  # somebody else did this, or began anew
                    return 0
                postings.put(session, posted, last)
        return len(posted)

    def _begun(self) -> IndexState | None:
        """The state, begun anew where there is none or it is of another log; None before genesis."""
        with self._index.reading() as session:
            state = postings.state(session)
        with self._log.reading() as session:
            log = log_identity(session)
            if log is None:
                return None
            if belongs(state, session, log):
                return state
        with self._index.writing() as session:
            postings.begin(session, log, self._random_octets(postings.TERM_KEY_OCTETS))
            return postings.state(session)

    def _spelling(self, state: IndexState) -> Terms:
        if self._terms is None or self._terms[0] != state.term_key:
            self._terms = state.term_key, Terms(state.term_key)
        return self._terms[1]


def log_identity(session: Session) -> bytes | None:
    """What an index knows its log by; None before genesis."""
    deployment = session.deployment()
    return None if deployment is None else deployment.database_id


def belongs(state: IndexState | None, session: Session, log: bytes | None) -> bool:
    """Whether an index was made from this log, as far as it goes: a log put back and gone on differently is another."""
    if state is None or state.log != log:
        return False
    if not state.through:
        return True
    found = session.leaf(state.through - 1)
    return found is not None and hash_of(found[0]) == state.last
