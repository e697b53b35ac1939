"""What is coming for a key: what happens to it by date, and what somebody has to do by one.

Source: Smart Energy Code G5.13(b) (activation, deactivation, crypto-period), G2.57 (replacement of a key that serves
other purposes too), G2.22I(b)(i) (disposition of what moved); RFC 5280 4.1.2.5 (the end of a certificate).
"""

from collections.abc import Iterable
from dataclasses import dataclass

from cryptosvc.core import lifecycle
from cryptosvc.core.content.x509.identity import read_certificate
from cryptosvc.core.errors import Malformed
from cryptosvc.core.life import DAY, NANOSECONDS, UnixSeconds
from cryptosvc.core.names import KeyId
from cryptosvc.core.registry import KeyRecord, KeyState, Record
from cryptosvc.core.transfer.record import TransferRecord
from cryptosvc.core.transfer.states import TransferState

REPLACE = "replace"
"""Somebody replaces the key by then (G2.57)."""
CERTIFICATE = "certificate"
"""The key's certificate is valid until then; nothing happens to the key by itself."""
DISPOSE = "dispose"
"""The copy of a key that moved to another system is disposed of by then, as the SMKI PMA approved (G2.22I(b)(i))."""
EVENTS = ("activate", "deactivate", REPLACE, CERTIFICATE, DISPOSE)

_OWING = frozenset({TransferState.EXPORTED, TransferState.RECEIPTED})
_OVER = frozenset({KeyState.DEACTIVATED, KeyState.COMPROMISED, KeyState.DESTROYED})


@dataclass(frozen=True, slots=True, order=True)
class Coming:
    """Something that is going to happen to a key without anybody, or that somebody has to do by a date.

    Args:
        at: when.
        key_id: which.
        event: one of `EVENTS`.
        rule: what stands behind it: `schedule/…` as in `core/lifecycle.py`, `certificate/ecos`, `certificate/validity`, `transfer/disposition`.

    """

    at: UnixSeconds
    key_id: KeyId
    event: str
    rule: str


def coming(key: KeyRecord) -> tuple[Coming, ...]:
    """Everything that is ahead of a key by what its record says, soonest first; nothing for one whose life is over."""
    if key.state in _OVER:
        return ()
    found = [Coming(one.at, key.key_id, one.event.value, one.rule) for one in lifecycle.schedule(key)]
    if key.life.replace_by is not None:
        found.append(Coming(key.life.replace_by, key.key_id, REPLACE, "certificate/ecos"))
    ends = _certificate_ends(key)
    if ends is not None:
        found.append(Coming(ends, key.key_id, CERTIFICATE, "certificate/validity"))
    return tuple(sorted(found))


def disposals(transfer: TransferRecord) -> tuple[Coming, ...]:
    """What a transfer still owes at its source: the disposition of each copy; nothing once it is over, or elsewhere."""
    if transfer.plan is None or transfer.dispose_by is None or transfer.state not in _OWING:
        return ()
    by = transfer.dispose_by
    return tuple(Coming(by, KeyId(one.key_id), DISPOSE, "transfer/disposition") for one in transfer.plan.keys)


def coming_of(record: Record) -> tuple[Coming, ...]:
    """Everything that is ahead by what a record says, soonest first; nothing for one of another kind."""
    if isinstance(record, KeyRecord):
        return coming(record)
    return disposals(record) if isinstance(record, TransferRecord) else ()


def within(found: Iterable[Coming], at: UnixSeconds, days: int) -> list[Coming]:
    """What of it comes within so many days after a moment, and what is overdue, soonest first."""
    ends = at + days * DAY
    return sorted(one for one in found if one.at <= ends)


def _certificate_ends(key: KeyRecord) -> UnixSeconds | None:
    if not key.certificate:
        return None
    try:
        return UnixSeconds(read_certificate(key.certificate).not_after // NANOSECONDS)
    except Malformed:
        return None  # one that cannot be read lets the key sign nothing, whenever it ends
