"""The life of a key as two tables: which event leads from which state to which, and what each state lets a key do.

A missing entry is illegal. `docs/lifecycle.md` draws both tables; `scripts/lifecycle_page.py` prints it.

Source: NIST SP 800-57 Part 1 Rev 5, section 7 (key states and transitions) and 5.3 (crypto-periods); Smart Energy
Code G5.13(b) and G5.24 (registered, ordered, generated, labelled, distributed, installed, superseded, renewed).

Some of it happens without anybody: a date that was approved comes, a crypto-period ends. `effective` says in which
state a key is at a moment, whether or not somebody has written that down yet, and under which rule.

Example:
    >>> after(KeyState.ACTIVE, Event.SUSPEND)
    <KeyState.SUSPENDED: 'suspended'>
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from types import MappingProxyType

from cryptosvc.core.errors import WrongState
from cryptosvc.core.keyclass import KEY_CLASSES
from cryptosvc.core.life import DAY, NANOSECONDS, Event, UnixSeconds
from cryptosvc.core.names import ContentKind, Operation, UnixNanoseconds
from cryptosvc.core.registry import KeyRecord, KeyState

_CODE = "G5.13(b)"
_FOR_EVER = 2**63


@dataclass(frozen=True, slots=True)
class Transition:
    """One entry of the event table.

    Args:
        to: the state afterwards; the same one for an event that changes no state.
        source: where it comes from.

    """

    to: KeyState
    source: str


def _rows() -> dict[tuple[KeyState | None, Event], Transition]:
    ordered, before, active = KeyState.ORDERED, KeyState.PRE_ACTIVATION, KeyState.ACTIVE
    suspended, over, compromised = KeyState.SUSPENDED, KeyState.DEACTIVATED, KeyState.COMPROMISED
    destroyed, moving, split = KeyState.DESTROYED, KeyState.IN_TRANSFER, KeyState.SPLIT
    table: dict[tuple[KeyState | None, Event], Transition] = {}

    def row(states: tuple[KeyState | None, ...], event: Event, to: KeyState | None, source: str) -> None:
        for state in states:
            stays = to if to is not None else state
            assert stays is not None
            table[state, event] = Transition(stays, source)

    row((None,), Event.ORDER, ordered, f"{_CODE} ordered")
    row((ordered,), Event.GENERATE, before, f"{_CODE} generated; SP 800-57 7.1")
    row((None,), Event.REGISTER, before, f"{_CODE} registered; SP 800-57 7.1")
    alive = (before, active, suspended)
    row((ordered, *alive, over, compromised), Event.LABEL, None, f"{_CODE} labelled")
    row((before, active), Event.CERTIFY, None, f"{_CODE} registered; SP 800-57 8.1.5.1.1")
    row((*alive, over), Event.DISTRIBUTE, None, f"{_CODE} distributed")
    row((before, active), Event.INSTALL, None, f"{_CODE} installed")
    row((*alive, over), Event.BACK_UP, None, "SP 800-57 8.2.2.1; G5.13(a)")
    row((before, suspended, over, moving, split), Event.ADVANCE, None, "G2.16")
    row((before,), Event.ACTIVATE, active, "SP 800-57 7.1 to 7.2")
    row((active,), Event.SUSPEND, suspended, "SP 800-57 7.2 to 7.3")
    row((suspended,), Event.RESUME, active, "SP 800-57 7.3 to 7.2")
    row((active, suspended), Event.SUPERSEDE, over, f"{_CODE} superseded; SP 800-57 7.4")
    row((active,), Event.RENEW, None, f"{_CODE} renewed; SP 800-57 8.2.3")
    row((active, suspended), Event.DEACTIVATE, over, "SP 800-57 7.2 and 7.3 to 7.4")
    row((*alive, over), Event.COMPROMISE, compromised, "SP 800-57 7.5")
    # found out later: what is destroyed stays destroyed, and its record says since when it was not to be trusted
    row((compromised, destroyed), Event.COMPROMISE, None, "SP 800-57 7.5, 7.6")
    row((ordered, before, over, compromised), Event.DESTROY, destroyed, "SP 800-57 7.6; G5.13(b)")
    # a key moves to another system: it stops here before its package is signed, and starts there when it is imported
    row((active,), Event.EXPORT, moving, "G2.22G")
    row((None,), Event.IMPORT, active, "G2.22G, G2.22H")
    row((moving,), Event.RETURN, suspended, "G2.22I(b)(i)")
    row((moving,), Event.RELINQUISH, over, "G2.22I(b)(i); SP 800-57 7.4")
    row((moving,), Event.COMPROMISE, compromised, "SP 800-57 7.5")
    # a key in parts is nowhere whole, and nobody can use it until enough of its holders come together
    row((active,), Event.SPLIT, split, "G2.44B")
    row((split,), Event.RECOMBINE, active, "G2.44B")
    row((split,), Event.DEACTIVATE, over, "SP 800-57 7.2 to 7.4")
    row((split,), Event.COMPROMISE, compromised, "SP 800-57 7.5")
    return table


TRANSITIONS: Mapping[tuple[KeyState | None, Event], Transition] = MappingProxyType(_rows())
"""(state, event) → transition; None is a key that has no record yet."""


class Use(StrEnum):
    """What a key is used for, as SP 800-57 divides it.

    APPLY protects something new: sign, encrypt, make a MAC, wrap. PROCESS deals with what was protected before:
    verify, decrypt, unwrap. OWN_REQUEST signs the key's own Certificate Signing Request. CARRIED is a key that is wrapped
    to be sent to the Device that will have it.
    """

    APPLY = "apply"
    PROCESS = "process"
    OWN_REQUEST = "own-request"
    CARRIED = "carried"


USES: Mapping[KeyState, Mapping[Use, str]] = MappingProxyType(
    {
        KeyState.ORDERED: {},
        KeyState.PRE_ACTIVATION: {
            Use.OWN_REQUEST: "SP 800-57 7.1 (proof of possession); G2.60(b), G2.56(b)",
            Use.CARRIED: "SP 800-57 7.1, 8.1.5.2; G5.13(b) distributed",
        },
        KeyState.ACTIVE: {
            Use.APPLY: "SP 800-57 7.2",
            Use.PROCESS: "SP 800-57 7.2",
            Use.OWN_REQUEST: "SP 800-57 7.2",
            Use.CARRIED: "SP 800-57 7.2",
        },
        KeyState.SUSPENDED: {Use.PROCESS: "SP 800-57 7.3"},
        KeyState.IN_TRANSFER: {},
        KeyState.SPLIT: {},
        KeyState.DEACTIVATED: {Use.PROCESS: "SP 800-57 7.4"},
        KeyState.COMPROMISED: {},
        KeyState.DESTROYED: {},
    }
)
"""State → uses it allows, each with its source. SP 800-57 7.5 would let a compromised key process under conditions
that somebody has to judge case by case; here it does not."""

_NO_OBJECT_USED = frozenset({Operation.EXPLAIN, Operation.READ_KEYS, Operation.READ_LOG, Operation.GOVERN})


def use_of(operation: Operation, kind: ContentKind) -> Use | None:
    """Which use an operation on a kind of content is; None for one that uses no key."""
    if operation in _NO_OBJECT_USED:
        return None
    if operation in (Operation.VERIFY, Operation.DECRYPT):
        return Use.PROCESS
    if operation is Operation.ACCOMPANY:
        return _ACCOMPANIES.get(kind, Use.APPLY)
    own = operation is Operation.SIGN and kind is ContentKind.CERTIFICATION_REQUEST
    return Use.OWN_REQUEST if own else Use.APPLY


_ACCOMPANIES: Mapping[ContentKind, Use] = MappingProxyType(
    {ContentKind.DLMS_ANSWER: Use.PROCESS, ContentKind.DLMS_KEY_CHANGE: Use.CARRIED}
)

ALLOWED: Mapping[KeyState, frozenset[tuple[Operation, ContentKind]]] = MappingProxyType(
    {
        state: frozenset(
            (operation, kind)
            for operation in Operation
            for kind in ContentKind
            if use_of(operation, kind) in uses
        )
        for state, uses in USES.items()
    }
)


def permits(state: KeyState, operation: Operation, kind: ContentKind) -> bool:
    """Whether a key in `state` may do this at all."""
    return (operation, kind) in ALLOWED[state]


def require(state: KeyState, operation: Operation, kind: ContentKind, rule: str = "") -> None:
    """Raise WrongState unless the table has the entry; the refusal names the `rule` of the schedule that led there."""
    if (operation, kind) not in ALLOWED[state]:
        since = f" by {rule}" if rule else ""
        raise WrongState(
            f"a key that is {state}{since} may not {operation} {kind}; ask a key custodian to activate or replace it",
            rule=rule or "lifecycle/state",
            clause=_CODE,
            field="key_id",
        )


def require_at(
    key: KeyRecord, state: KeyState, operation: Operation, kind: ContentKind, at: UnixNanoseconds
) -> None:
    """As `require`, of a key whose state at that moment is `state`, as `standing` said."""
    if (operation, kind) not in ALLOWED[state]:
        require(state, operation, kind, effective(key, UnixSeconds(at // NANOSECONDS))[1])


def after(state: KeyState | None, event: Event) -> KeyState:
    """State that an event leads to; WrongState where the table has no such entry. None: no record yet."""
    found = TRANSITIONS.get((state, event))
    if found is None:
        now = "does not exist" if state is None else f"is {state}"
        may = ", ".join(sorted(one.value for known, one in TRANSITIONS if known is state)) or "nothing"
        raise WrongState(
            f"a key that {now} has no event {event}; what may happen to it now: {may}",
            rule="lifecycle/event",
            clause=_CODE,
            field="act",
        )
    return found.to


ACTIVATION_DATE = "schedule/activation-date"
DEACTIVATION_DATE = "schedule/deactivation-date"
CRYPTO_PERIOD = "schedule/crypto-period"
USAGE_LIMIT = "schedule/usage-limit"

RULES: Mapping[str, tuple[Event, str]] = MappingProxyType(
    {
        ACTIVATION_DATE: (Event.ACTIVATE, "the date comes that was approved with the activation (`on`)"),
        DEACTIVATION_DATE: (Event.DEACTIVATE, "the date comes that was approved for its end (`until`)"),
        CRYPTO_PERIOD: (Event.DEACTIVATE, "the crypto-period of its class has passed since its activation"),
        USAGE_LIMIT: (Event.DEACTIVATE, "it was claimed as often as was approved (`usage_limit`)"),
    }
)
"""What happens to a key without anybody: rule → event, and when."""


@dataclass(frozen=True, slots=True)
class Due:
    """Something that happens to a key without anybody.

    Args:
        event: what.
        at: when.
        rule: the approved rule behind it, one of `RULES`: dates that were approved with the key, or the class table.

    """

    event: Event
    at: UnixSeconds
    rule: str


def schedule(key: KeyRecord) -> tuple[Due, ...]:
    """What is going to happen to the key without anybody, soonest first."""
    life = key.life
    due: list[Due] = []
    begins = life.when(Event.ACTIVATE)
    if key.state is KeyState.PRE_ACTIVATION and life.activate_on is not None:
        begins = life.activate_on
        due.append(Due(Event.ACTIVATE, begins, ACTIVATION_DATE))
    if key.state in (KeyState.ACTIVE, KeyState.SUSPENDED) or due:
        if life.deactivate_on is not None:
            due.append(Due(Event.DEACTIVATE, life.deactivate_on, DEACTIVATION_DATE))
        if begins is not None:
            ends = UnixSeconds(begins + KEY_CLASSES[key.key_class].crypto_period_days * DAY)
            due.append(Due(Event.DEACTIVATE, ends, CRYPTO_PERIOD))
    return tuple(sorted(due, key=lambda one: (one.at, one.event is not Event.ACTIVATE)))


def effective(key: KeyRecord, at: UnixSeconds) -> tuple[KeyState, str]:
    """State of the key at a moment, and the rule that led there since its record was written.

    The rule is empty where the record itself says the state. An event that the table does not have in the state
    then reached is passed over: a key that was deactivated by its date is not activated by a later one.
    """
    return come_about(key.state, schedule(key), at)


def come_about(state: KeyState, due: Iterable[Due], at: UnixSeconds) -> tuple[KeyState, str]:
    """State that what is due, soonest first, has led to by a moment, and the rule of the last of it; as `effective`."""
    rule = ""
    for one in due:
        found = TRANSITIONS.get((state, one.event))
        if one.at <= at and found is not None:
            state, rule = found.to, one.rule
    return state, rule


@dataclass(frozen=True, slots=True)
class Standing:
    """State of a key over a stretch of time, so that it need not be worked out for every use.

    Args:
        key: the record it is worked out from.
        state: the effective one.
        since, until: the stretch, from the first moment up to the second, which is no part of it.

    """

    key: KeyRecord
    state: KeyState
    since: UnixNanoseconds
    until: UnixNanoseconds


def standing(key: KeyRecord, at: UnixNanoseconds) -> Standing:
    """State of the key at a moment, and for how long on both sides it is that."""
    dates = [one.at * NANOSECONDS for one in schedule(key)]
    return Standing(
        key,
        effective(key, UnixSeconds(at // NANOSECONDS))[0],
        UnixNanoseconds(max((date for date in dates if date <= at), default=0)),
        UnixNanoseconds(min((date for date in dates if date > at), default=_FOR_EVER)),
    )


def as_at(key: KeyRecord, at: UnixNanoseconds) -> KeyRecord:
    """The record as it is shown at a moment: with the effective state. Never to be stored: its version is the same."""
    state, _ = effective(key, UnixSeconds(at // NANOSECONDS))
    return key if state is key.state else replace(key, state=state)


def materialised(key: KeyRecord, at: UnixSeconds, rule: str) -> KeyRecord | None:
    """The record with what has come about by `at` written down, where the last of it came by `rule`; else None.

    Each event is in the milestones with the moment it was due, not the one it was written.
    """
    state, found = effective(key, at)
    if not found or found != rule:
        return None
    life, now = key.life, key.state
    for one in schedule(key):
        following = TRANSITIONS.get((now, one.event))
        if one.at <= at and following is not None:
            now, life = following.to, life.passed(one.event, one.at)
    return replace(key, version=key.version + 1, state=state, life=life)


def spent(key: KeyRecord, at: UnixSeconds) -> KeyRecord | None:
    """The record of a key that was used as often as its limit allows, deactivated at that moment; None where it can't be.

    How often it was used is not in its record: the ledger counts, and whoever reads the log counts again.
    """
    now, _ = effective(key, at)
    if key.life.usage_limit is None or now is not key.state or (now, Event.DEACTIVATE) not in TRANSITIONS:
        return None
    state = after(now, Event.DEACTIVATE)
    return replace(key, version=key.version + 1, state=state, life=key.life.passed(Event.DEACTIVATE, at))
