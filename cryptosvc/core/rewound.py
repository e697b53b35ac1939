"""Keys after a restore: what they promised may have gone back with the store, so each is held until that cannot matter.

A store that was put back from a backup has forgotten what was claimed since: counters, serial numbers, CRL numbers,
randoms. A key that promised any of it could be made to sign other bytes under a number that was used. So a restore
holds every such key (`held`), and a quorum ends that in one of two ways: the key is replaced, or it is advanced
(`key.advance`), past a number that nothing which was lost can be above. From then on it takes no number up to that one.

What a restore does to a key only takes power away: it is done by rule, and replay derives it again.

Source: Smart Energy Code G2.16; GBCS 4.3.1.2 (an originator counter is never used twice).
"""

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

from cryptosvc.core import lifecycle
from cryptosvc.core.content.base import Content, Once, Rising
from cryptosvc.core.errors import Conflict, Malformed, WrongState
from cryptosvc.core.life import Event, UnixSeconds
from cryptosvc.core.registry import KeyRecord, KeyState

REWOUND = "restore/rewound"
"""The rule by which a restore holds a key."""
DESTROYED_SINCE = "restore/destroyed"
"""The rule by which a key that was destroyed after the backup stays destroyed."""
CLAUSE = "G2.16"
_LARGEST = 2**160

_COUNTER, _MAC, _CERTIFICATES = ("gbcs-counter",), ("gbcs-mac",), ("certificate-serial", "crl-number")
SCOPES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "root-oca": _CERTIFICATES,
        "issuing-oca": _CERTIFICATES,
        "command-signing": _COUNTER,
        "recovery": _COUNTER,
        "contingency": _COUNTER,
        "xml-signing": ("duis-request-id",),
        "key-agreement": _MAC,
        "prepayment": _MAC,
        "tls": ("tls-random",),
        "storage-wrapping": ("dlms-invocation-counter",),
    }
)
"""Key class → scopes of what its keys promise; of an epoch those of the device keys under it.

A key that is not here promises nothing that a restore could rewind to anybody's harm, unless its uses are limited. The
log's own keys are not: what they sign of a log that was put back is what witnesses catch.
"""
_NO_NUMBER = frozenset({"tls-random"})
"""Scopes without an order: no number is above what was lost, so only another key will do."""
_OVER = frozenset({KeyState.ORDERED, KeyState.COMPROMISED, KeyState.DESTROYED})
_GIVES_POWER = frozenset({Event.ACTIVATE, Event.RESUME, Event.RECOMBINE})


def is_held(key: KeyRecord) -> bool:
    """Whether a restore holds a key as this record says it is."""
    if key.state in _OVER or (key.state is KeyState.DEACTIVATED and key.key_class != "storage-wrapping"):
        return False
    return key.key_class in SCOPES or key.life.usage_limit is not None


def held(key: KeyRecord, at: UnixSeconds, backup: str) -> KeyRecord:
    """The record of a key that the restore of this backup holds, one version on; suspended where it was active."""
    now = _now(key, at)
    life = replace(now.life, held=backup, activate_on=None)
    if now.state is KeyState.ACTIVE:
        return replace(now, state=KeyState.SUSPENDED, life=life.passed(Event.SUSPEND, at))
    return replace(now, life=life)


def destroyed_since(key: KeyRecord, on: UnixSeconds) -> KeyRecord:
    """The record of a key that was destroyed after the backup was made, one version on."""
    life = key.life.passed(Event.DESTROY, on)
    return replace(key, version=key.version + 1, state=KeyState.DESTROYED, life=life)


def derived(before: KeyRecord, after: KeyRecord, at: UnixSeconds, rule: str) -> KeyRecord | None:
    """What a rule of a restore makes of a record, given what was made of it: for replay.

    Args:
        before: the record before.
        after: the record as it was written.
        at: when it was written.
        rule: `REWOUND` or `DESTROYED_SINCE`; None is returned for any other.

    """
    if rule == REWOUND and after.life.held:
        # written a moment after it was decided, and by then a date may have come
        return held(before, after.life.when(Event.SUSPEND) or at, after.life.held)
    if rule == DESTROYED_SINCE and (on := after.life.when(Event.DESTROY)) is not None and on <= at:
        return destroyed_since(before, on)
    return None


def require_not_held(key: KeyRecord, event: Event) -> None:
    """Raise WrongState for an event that would put a held key to use."""
    if key.life.held and event in _GIVES_POWER:
        raise WrongState(
            f"key {key.key_id} is held: the store was put back from a backup, and what the key promised since then is "
            "forgotten. Replace it, or propose key.advance past what was lost",
            rule="restore/held",
            clause=CLAUSE,
            field="subject",
        )


def advanced(key: KeyRecord, given: str, lost_uses: int | None) -> KeyRecord:
    """Let go of a held key (its version and milestones are the act's business).

    Args:
        key: held.
        given: `SCOPE=NUMBER`, one for each scope of its class, commas between.
        lost_uses: of a key whose uses are limited: how many the restore may have forgotten, at most.

    Raises:
        WrongState: `restore/not-held`; `restore/rotate` where nothing but another key will do.
        Malformed: `restore/above`, `restore/lost-uses`.

    """
    if not key.life.held:
        raise WrongState(
            f"key {key.key_id} is not held by a restore",
            rule="restore/not-held",
            clause=CLAUSE,
            field="subject",
        )
    scopes = SCOPES.get(key.key_class, ())
    if hopeless := sorted(_NO_NUMBER.intersection(scopes)):
        raise WrongState(
            f"what a {key.key_class} key promised ({', '.join(hopeless)}) has no order, so no number is past what was "
            "lost; replace the key",
            rule="restore/rotate",
            clause=CLAUSE,
            field="subject",
        )
    limit = key.life.usage_limit
    if (limit is None) is not (lost_uses is None):
        raise Malformed(
            "of a key whose uses are limited, and of no other, the statement says how many may be forgotten",
            rule="restore/lost-uses",
            clause=CLAUSE,
            field="lost_uses",
        )
    above = _read(given, scopes, dict(key.life.above))
    left = None if limit is None else max(limit - (lost_uses or 0), 0)
    return replace(key, life=replace(key.life, held="", above=above, usage_limit=left))


def require_above(key: KeyRecord, content: Content) -> None:
    """Require that every number a content promises is above what the key was advanced past.

    Raises:
        Conflict: `restore/not-above`, with the scope.

    """
    marks = dict(key.life.above)
    for promise in content.promises:
        mark = marks.get(promise.scope)
        if mark is not None and _number(promise) <= mark:
            raise Conflict(
                f"the number {promise.scope} must be above {mark}: the store was put back once, and what was signed "
                "with this key up to there is not known any more",
                rule="restore/not-above",
                clause=CLAUSE,
                field="payload",
            )


def require_carries(old: KeyRecord, new: KeyRecord) -> None:
    """Require that an epoch which device keys are moved to asks of them at least what the one they leave does.

    Raises:
        WrongState: `restore/epoch`.

    """
    marks = dict(new.life.above)
    if any(marks.get(scope, -1) < number for scope, number in old.life.above):
        raise WrongState(
            f"device keys under {old.key_id} were advanced after a restore, and those under {new.key_id} are not",
            rule="restore/epoch",
            clause=CLAUSE,
            field="work",
        )


def _now(key: KeyRecord, at: UnixSeconds) -> KeyRecord:
    """The record with what has come by date written down, one version on."""
    _, rule = lifecycle.effective(key, at)
    return replace(lifecycle.materialised(key, at, rule) or key, version=key.version + 1)


def _number(promise: Once | Rising) -> int:
    """The number in a promise: of a GBCS counter or MAC the last part of its tuple, of a DUIS request the one of its id."""
    if isinstance(promise, Rising):
        return promise.number
    value = promise.value
    if promise.scope == "duis-request-id":
        value = value.rpartition(":")[0].rpartition(":")[2]
    return int(value.rpartition("/")[2])


def _read(given: str, scopes: tuple[str, ...], before: Mapping[str, int]) -> tuple[tuple[str, int], ...]:
    parts = [part.strip().partition("=") for part in given.split(",")] if given else []
    found = {
        scope: int(number) for scope, _, number in parts if number.isdecimal() and int(number) < _LARGEST
    }
    if len(found) != len(parts) or sorted(found) != sorted(scopes):
        wanted = ", ".join(f"{scope}=NUMBER" for scope in scopes) or "nothing"
        raise Malformed(
            f"what this key is advanced past is given as {wanted}",
            rule="restore/above",
            clause=CLAUSE,
            field="above",
        )
    return tuple(sorted((scope, max(number, before.get(scope, 0))) for scope, number in found.items()))
