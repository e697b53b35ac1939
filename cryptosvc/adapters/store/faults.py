"""What a database error means: one table, applied at every call.

Before COMMIT is sent an error means that nothing was done. An error of COMMIT itself may mean either: `Uncertain` is
raised, and the ledger looks whether the rows are there before it says anything.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from psycopg import errors

from cryptosvc.core.errors import Corrupt, CryptosvcError, Unavailable


class Moved(Exception):  # not an error: another writer was first, and the transaction is tried again
    """Another node changed what this transaction was built on; nothing was done, and it is built again."""


class Uncertain(Exception):  # likewise: what happened is looked up
    """The connection was lost while COMMIT was under way."""


_MOVED = (
    errors.DivisionByZero,  # the head's compare-and-swap in postgres.py
    errors.UniqueViolation,
    errors.SerializationFailure,
    errors.DeadlockDetected,
)
_FULL = "the store's disk is full; free space, the service goes on by itself"
_GONE = "the store is out of reach; the service goes on by itself once it answers"


@contextmanager
def translated() -> Iterator[None]:
    """Turn the drivers' exceptions into ours."""
    try:
        yield
    except sqlite3.Error as error:
        raise _sqlite(error) from None
    except _MOVED as error:
        raise Moved from error
    except psycopg.Error as error:
        raise _postgres(error) from None


def _sqlite(error: sqlite3.Error) -> CryptosvcError:
    match getattr(error, "sqlite_errorname", ""):
        case "SQLITE_FULL":
            return Unavailable(_FULL, rule="store/full")
        case "SQLITE_CORRUPT" | "SQLITE_NOTADB":
            return Corrupt("the store's file is damaged; restore it from a backup", rule="store/damaged")
        case "SQLITE_CONSTRAINT_PRIMARYKEY" | "SQLITE_CONSTRAINT_UNIQUE":
            return Corrupt(
                "the store holds rows beyond the authenticated head: it was changed by another program",
                rule="store/foreign-rows",
            )
        case _:
            if "no such table" in str(error) or "no such column" in str(error):
                return Unavailable(
                    "the store has not the tables this version needs; run cryptosvc init", rule="store/schema"
                )
            return Unavailable(_GONE, rule="store/unreachable")


def _postgres(error: psycopg.Error) -> CryptosvcError:
    match error:
        case errors.DiskFull():
            return Unavailable(_FULL, rule="store/full")
        case errors.DataCorrupted() | errors.IndexCorrupted():
            return Corrupt("the store is damaged; restore it from a backup", rule="store/damaged")
        case errors.UndefinedTable() | errors.UndefinedColumn():
            return Unavailable(
                "the store has not the tables this version needs; run cryptosvc init", rule="store/schema"
            )
        case _:
            return Unavailable(_GONE, rule="store/unreachable")
