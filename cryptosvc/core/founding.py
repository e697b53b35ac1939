"""Entry 0 of a log: which log this is, who owns it, and how it began (G2.20, G3.14)."""

from dataclasses import dataclass

from cryptosvc.core.canonical import JsonValue
from cryptosvc.core.commitments import ENTRY_VERSION
from cryptosvc.core.names import Environment, UnixNanoseconds
from cryptosvc.core.record import Leaf, Scope, sealed


@dataclass(frozen=True, slots=True)
class Founding:
    """How a log begins.

    Args:
        genesis: DSSE envelope of the signed genesis (`core/genesis.py`); empty where there is none.
        digest: lower-case hex SHA-256 of the genesis document; empty where there is none.
        shortcut: `init` may register without approval from here on; in environment test only.

    """

    genesis: bytes = b""
    digest: str = ""
    shortcut: bool = True


SHORTCUT = Founding()
"""How `init` begins a log of environment test: nobody signed for it, and the log says so."""


def genesis_leaf(
    origin: str,
    scope: Scope,
    at: UnixNanoseconds,
    time_quality: str,
    founding: Founding = SHORTCUT,
    salt: bytes = b"",
) -> Leaf:
    """The first leaf: which log this is, which system and environment own it (G2.20, G3.14), and how it began."""
    entry: dict[str, JsonValue] = {
        "v": ENTRY_VERSION,
        "kind": "genesis",
        "time": str(at),
        "time_quality": time_quality,
        "operation": "init" if founding.shortcut else "found",
        "origin": origin,
        "shortcut": founding.shortcut and scope.environment == Environment.TEST.value,
        "system": scope.system,
        "environment": scope.environment,
        "worker": scope.worker,
        "software": scope.software,
    }
    if not founding.genesis:
        return sealed(entry, {}, b"")
    entry["genesis"] = founding.digest
    return sealed(entry, {"genesis": founding.genesis.decode()}, salt)
