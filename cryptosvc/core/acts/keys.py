"""What each act on a key does to its record, from order to destruction; `key_table.py` has their rows.

Source: Smart Energy Code G5.13(b), G5.24; NIST SP 800-57 Part 1 Rev 5, sections 7 and 8.
"""

import hashlib
from dataclasses import replace

from cryptosvc.core import lifecycle, rewound
from cryptosvc.core.acts import certificates
from cryptosvc.core.acts.base import Turn, date_of, require_classified, text_of
from cryptosvc.core.canonical import JsonValue
from cryptosvc.core.copies import require_accounted
from cryptosvc.core.device_records import DEVICE_STORE, DeviceStoreRecord
from cryptosvc.core.errors import Forbidden, Malformed, WrongState
from cryptosvc.core.keyclass import DEVICE_CLASSES, SPLIT_CLASSES, KeyClass, ceiling
from cryptosvc.core.life import DAY, Asset, Event, UnixSeconds
from cryptosvc.core.names import Environment, Eui64, KeyId, ModuleName, RemotePartyRole
from cryptosvc.core.parts import require_shares
from cryptosvc.core.registry import KeyRecord, KeyState, Origin, Record
from cryptosvc.core.statement import Statement

_CLAUSE = "G5.13(b)"
OBJECT_ID_OCTETS = 16


def object_id(key_id: str) -> bytes:
    """CKA_ID of the object of a key: the first 16 octets of the SHA-256 of its id."""
    return hashlib.sha256(key_id.encode()).digest()[:OBJECT_ID_OCTETS]


def _key(turn: Turn, event: Event) -> KeyRecord:
    """The key, one version on, in the state the event leads to and with its milestone."""
    found = turn.subject("key-record")
    if not isinstance(found, KeyRecord):
        raise Malformed(
            f"there is no key {turn.statement.subject}", rule="statement/subject", field="subject"
        )
    rewound.require_not_held(found, event)
    # a date may have come that nobody has written down yet: the event happens to the key as it really is, and what
    # came by date keeps its milestone, since the crypto-period runs from it
    _, rule = lifecycle.effective(found, turn.at)
    now = lifecycle.materialised(found, turn.at, rule) or found
    return replace(
        now,
        version=found.version + 1,
        state=lifecycle.after(now.state, event),
        life=now.life.passed(event, turn.at),
    )


def _new(turn: Turn, event: Event, origin: Origin) -> KeyRecord:
    statement = turn.statement
    found = turn.subject("key-record")
    before = found.state if isinstance(found, KeyRecord) else None
    row = ceiling(text_of(statement, "class"))
    if row.name in DEVICE_CLASSES:
        raise Forbidden(
            "keys of SMETS1 Devices come into the device store by device-work.import, never one by one into the registry",
            rule="device-key/not-in-registry",
            clause="G5.13(b)",
            field="class",
        )
    role, eui64 = statement.parameters.get("role"), text_of(statement, "eui64")
    return KeyRecord(
        key_id=KeyId(statement.subject),
        version=1,
        key_class=row.name,
        state=lifecycle.after(before, event),
        system=statement.system,
        environment=statement.environment,
        module=ModuleName(text_of(statement, "module")),
        label=text_of(statement, "object_label", statement.subject),
        object_id=bytes.fromhex(text_of(statement, "object_id")) or object_id(statement.subject),
        public_point=b"",
        certificate=b"",
        eui64=Eui64.parse(eui64) if eui64 else None,
        role=_role(row, role),
        origin=origin,
        transferable=row.template.transferable and origin is Origin.GENERATED,
        signs_for_eligible_user=statement.parameters.get("signs_for_eligible_user") is True,
        asset=_asset(statement, Asset()),
    )


def _role(row: KeyClass, role: JsonValue) -> RemotePartyRole | None:
    if role is None:
        return None
    try:
        found = RemotePartyRole(role) if isinstance(role, int) else None
    except ValueError:
        found = None
    if found is None or found not in row.roles:
        may = ", ".join(str(int(one)) for one in sorted(row.roles)) or "none"
        raise Forbidden(
            f"a {row.name} key has one of the Remote Party Roles {may}",
            rule="statement/role",
            clause=row.clause,
            field="role",
        )
    return found


def _asset(statement: Statement, before: Asset) -> Asset:
    asset = Asset(
        label=text_of(statement, "label", before.label),
        classification=text_of(statement, "classification", before.classification),
        responsible=text_of(statement, "responsible", before.responsible),
    )
    require_classified(asset)
    return asset


def order(turn: Turn) -> tuple[Record, ...]:
    """A record without an object."""
    made = _new(turn, Event.ORDER, Origin.GENERATED)
    return (replace(made, life=made.life.passed(Event.ORDER, turn.at)),)


def generate(turn: Turn) -> tuple[Record, ...]:
    """The object was made: the record gets its public point."""
    key = _key(turn, Event.GENERATE)
    return (replace(key, public_point=turn.given().public_point),)


def register(turn: Turn) -> tuple[Record, ...]:
    """An object that was there is adopted, and its record says so for ever."""
    made = _new(turn, Event.REGISTER, Origin.ADOPTED)
    life = made.life.passed(Event.REGISTER, turn.at)
    found = replace(made, public_point=turn.given().public_point, life=life)
    _require_nobody_elses(turn, found)
    return (found,)


def _require_nobody_elses(turn: Turn, found: KeyRecord) -> None:
    """One private key is one key of one class: under two records it would serve the purposes of both."""
    for other in turn.records.values():
        if not isinstance(other, KeyRecord) or other.key_id == found.key_id:
            continue
        places = ((one.module, one.label, one.object_id) for one in (other, found))
        # of a destroyed key without a public half nobody can tell whether this is not the very object, put back
        taken = other.state is not KeyState.DESTROYED or not other.public_point
        same_place = len(set(places)) == 1 and taken
        if same_place or (found.public_point and found.public_point == other.public_point):
            raise Forbidden(
                f"this object is that of key {other.key_id}; a private key is registered once, for the purposes of one class",
                rule="key/registered-already",
                clause="G5.13(b)",
                field="object_label",
            )


def label(turn: Turn) -> tuple[Record, ...]:
    """The line of the asset register changes."""
    key = _key(turn, Event.LABEL)
    return (replace(key, asset=_asset(turn.statement, key.asset)),)


def certify(turn: Turn) -> tuple[Record, ...]:
    """The key gets its certificate."""
    return (certificates.certified(turn, _key(turn, Event.CERTIFY)),)


def distribute(turn: Turn) -> tuple[Record, ...]:
    """The public half was given to somebody."""
    return (_key(turn, Event.DISTRIBUTE),)


def install(turn: Turn) -> tuple[Record, ...]:
    """The key was put to use somewhere."""
    return (_key(turn, Event.INSTALL),)


def activate(turn: Turn) -> tuple[Record, ...]:
    """Now, or on a date: then the record says the date, and the key is active from it on."""
    statement = turn.statement
    key = _key(turn, Event.ACTIVATE)
    on, until = date_of(statement, "on"), date_of(statement, "until")
    limit = statement.parameters.get("usage_limit")
    begins = turn.at if on is None or on <= turn.at else on
    _require_period(key, begins, until)
    life = replace(key.life, deactivate_on=until, usage_limit=limit if isinstance(limit, int) else None)
    if begins > turn.at:
        before = turn.subject("key-record")
        assert isinstance(before, KeyRecord)
        return (
            replace(
                key,
                state=before.state,
                life=replace(life, milestones=before.life.milestones, activate_on=begins),
            ),
        )
    return (replace(key, life=life),)


def _require_period(key: KeyRecord, begins: UnixSeconds, until: UnixSeconds | None) -> None:
    longest = begins + ceiling(key.key_class).crypto_period_days * DAY
    if until is not None and not begins < until <= longest:
        raise Forbidden(
            f"a {key.key_class} key is deactivated after it is activated and within its crypto-period of "
            f"{ceiling(key.key_class).crypto_period_days} days",
            rule="lifecycle/crypto-period",
            clause=_CLAUSE,
            field="until",
        )


def suspend(turn: Turn) -> tuple[Record, ...]:
    """Nothing is signed until it is resumed."""
    return (_key(turn, Event.SUSPEND),)


def resume(turn: Turn) -> tuple[Record, ...]:
    """It signs again."""
    return (_key(turn, Event.RESUME),)


def supersede(turn: Turn) -> tuple[Record, ...]:
    """The old key is deactivated, and each says which the other is."""
    old = _key(turn, Event.SUPERSEDE)
    name = text_of(turn.statement, "by")
    new = turn.records.get(("key-record", name))
    same = isinstance(new, KeyRecord) and (new.key_class, new.system) == (old.key_class, old.system)
    ready = (
        isinstance(new, KeyRecord)
        and new.key_id != old.key_id
        and lifecycle.effective(new, turn.at)[0] is KeyState.ACTIVE
    )
    if not isinstance(new, KeyRecord) or not same or not ready or new.life.supersedes:
        raise Forbidden(
            f"{name} cannot take the place of {old.key_id}: it must be an active key of the same class and system "
            "that supersedes no other",
            rule="lifecycle/successor",
            clause=_CLAUSE,
            field="by",
        )
    follows = replace(new, version=new.version + 1, life=replace(new.life, supersedes=str(old.key_id)))
    return (replace(old, life=replace(old.life, superseded_by=name)), follows)


def renew(turn: Turn) -> tuple[Record, ...]:
    """The same key, a new certificate, and a new end within the class's crypto-period."""
    key = _key(turn, Event.RENEW)
    until = date_of(turn.statement, "until")
    begins = key.life.when(Event.ACTIVATE)
    _require_period(key, turn.at if begins is None else begins, until)
    renewed = certificates.certified(turn, key)
    return (replace(renewed, life=replace(renewed.life, deactivate_on=until)),)


def deactivate(turn: Turn) -> tuple[Record, ...]:
    """It signs nothing any more."""
    return (_key(turn, Event.DEACTIVATE),)


def compromise(turn: Turn) -> tuple[Record, ...]:
    """Nothing it made since a date is to be trusted; of two dates the earlier stands."""
    since = date_of(turn.statement, "since")
    if since is None or since > turn.at:
        raise Malformed(
            "a compromise began before now", rule="statement/parameters", clause=_CLAUSE, field="since"
        )
    key = _key(turn, Event.COMPROMISE)
    earlier = key.life.compromised_since
    worst = since if earlier is None else min(since, earlier)
    return (replace(key, life=replace(key.life, compromised_since=UnixSeconds(worst))),)


def destroy(turn: Turn) -> tuple[Record, ...]:
    """Its objects are gone, as the module said when it was asked again. A key that device keys need stays."""
    turn.given()
    store = turn.records.get(("device-store-record", DEVICE_STORE))
    needed = dict(store.needed) if isinstance(store, DeviceStoreRecord) else {}
    if count := needed.get(turn.statement.subject):
        raise WrongState(
            f"{count} device keys are still wrapped or bound by {turn.statement.subject} and would be lost with it; "
            "wrap them anew first (device-work.re-wrap)",
            rule="device-key/epoch-in-use",
            clause=_CLAUSE,
            field="subject",
        )
    key = _key(turn, Event.DESTROY)
    if key.life.in_parts is not bool(text_of(turn.statement, "parts_destroyed")):
        raise Forbidden(
            "of a key that is in parts the statement says who saw every part destroyed; of any other it says nothing of parts",
            rule="split/parts-destroyed",
            clause="G2.44B",
            field="parts_destroyed",
        )
    require_accounted(key.life.backups, text_of(turn.statement, "backups_destroyed"))
    return (key,)


def back_up(turn: Turn) -> tuple[Record, ...]:
    """A copy was made by the module's own procedure, under a name; whoever destroys the key accounts for it."""
    key, copy = _key(turn, Event.BACK_UP), text_of(turn.statement, "copy")
    if copy in key.life.backups:
        raise Forbidden(
            f"there is a copy {copy} of {key.key_id} already; each has a name of its own",
            rule="key/copy-name",
            clause="G5.13(a)",
            field="copy",
        )
    return (replace(key, life=replace(key.life, backups=tuple(sorted((*key.life.backups, copy))))),)


def advance(turn: Turn) -> tuple[Record, ...]:
    """A key that a restore holds is let go: nothing up to the numbers named is signed with it any more."""
    lost = turn.statement.parameters.get("lost_uses")
    lost_uses = lost if isinstance(lost, int) else None
    return (rewound.advanced(_key(turn, Event.ADVANCE), text_of(turn.statement, "above"), lost_uses),)


def split(turn: Turn) -> tuple[Record, ...]:
    """It exists in parts from now on, and nobody can use it until enough of their holders come together."""
    turn.given()
    key = _key(turn, Event.SPLIT)
    _require_may_be_split(turn, key)
    numbers = [turn.statement.parameters[name] for name in ("threshold", "parts")]
    threshold, parts = (one if isinstance(one, int) else 0 for one in numbers)
    require_shares(threshold, parts)
    return (key,)


def recombine(turn: Turn) -> tuple[Record, ...]:
    """It is whole again, on its module, and the same key as before."""
    made = turn.given()
    key = _key(turn, Event.RECOMBINE)
    _require_may_be_split(turn, key)
    if made.public_point not in (b"", key.public_point):
        raise Forbidden(
            f"what was put together is another key than {key.key_id}",
            rule="split/other-key",
            clause=SPLIT_CLASSES[key.key_class],
            field="subject",
        )
    return (key,)


def _require_may_be_split(turn: Turn, key: KeyRecord) -> None:
    """Recovery and contingency keys alone; in live by the module's own quorum, which leaves evidence."""
    if key.key_class not in SPLIT_CLASSES:
        raise Forbidden(
            f"a {key.key_class} key is not split; {' and '.join(SPLIT_CLASSES)} keys may be",
            rule="split/class",
            clause="G2.44B",
            field="subject",
        )
    by_vendor = bool(text_of(turn.statement, "evidence"))
    if by_vendor is not (key.environment is Environment.LIVE):
        raise Forbidden(
            "in live a key is split and put together by the quorum of its module, and the statement names the SHA-256 of "
            "the evidence; in test the service does it, and there is none",
            rule="split/evidence",
            clause=SPLIT_CLASSES[key.key_class],
            field="evidence",
        )
