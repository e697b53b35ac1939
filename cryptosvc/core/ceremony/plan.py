"""A ceremony walked on paper: each act against what is there by then.

Names must be made before they are used and are never made twice; the lifecycle table decides what may happen to a
key, the class ceiling and the state what it may sign. What holds on paper is judged again when it is done: by the
corridor, the governance rules and the module.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from cryptosvc.core import lifecycle
from cryptosvc.core.ceremony.acts import Act
from cryptosvc.core.ceremony.fields import Setting
from cryptosvc.core.ceremony.rows import ActKind, Thing
from cryptosvc.core.errors import Forbidden, Malformed, Refusal
from cryptosvc.core.keyclass import SPLIT_CLASSES, Usage, ceiling
from cryptosvc.core.life import Event
from cryptosvc.core.names import ContentKind, Operation, RemotePartyRole
from cryptosvc.core.registry import KeyState

_NO_OBJECT = frozenset({KeyState.ORDERED, KeyState.DESTROYED})
_DCC, _USER = "G5.13", "G5.24"  # the same duties; G5.24 binds Users


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """Something a ceremony finds, or has made by now.

    Args:
        thing: what it is.
        name: its name in the ceremony; of a key, its id.
        key_class: of a key; empty otherwise.
        state: of a key; None otherwise.
        split: a key that is in parts.
        key: the key that a certificate or request is of; empty otherwise.
        fingerprint: SHA-256 of the public key or the object, lower-case hex; empty where the file does not say.
        revoked: a certificate that is revoked.

    """

    thing: Thing
    name: str
    key_class: str = ""
    state: KeyState | None = None
    split: bool = False
    key: str = ""
    fingerprint: str = ""
    revoked: bool = False


def planned(
    acts: tuple[Act, ...], given: tuple[Given, ...], clause: str, party: str, system: str
) -> tuple[Act, ...]:
    """Walk the acts and give them with their clauses and with the results that the tables imply.

    Args:
        acts: as read, in order.
        given: what is there before.
        clause: of the ceremony; for acts that have none of their own.
        party: `dcc` or `user`.
        system: whose ceremony it is.

    Raises:
        Malformed: `ceremony/name-twice`, `ceremony/not-there` (used before it was made), `ceremony/wrong-thing`,
            `ceremony/purpose` (a key of this class may not), `ceremony/state` (not in the state it has by then),
            `ceremony/split`, `ceremony/role`, `ceremony/expectation` (against the tables), `ceremony/left-over`
            (decommissioning with keys alive). `field` is the dotted path in the file.

    """
    there: dict[str, Given] = {}
    for at, one in enumerate(given):
        if one.name in there:
            raise _refused(f"given.{at}.name", f"{one.name!r} is named twice", "name-twice")
        there[one.name] = one
    for at, one in enumerate(given):
        if one.key and (there.get(one.key) is None or there[one.key].thing is not Thing.KEY):
            raise _refused(f"given.{at}.key", f"no key {one.key!r} is given", "not-there")
    return tuple(_walked(act, there, clause, party, system) for act in acts)


def _walked(act: Act, there: dict[str, Given], clause: str, party: str, system: str) -> Act:
    path = f"acts.{act.number - 1}"
    _require_names(act, there, path)
    try:
        found = _signing_clause(act, there, path) or _own_clause(act) or act.row.clause or clause
        implied = _done(act, there, path, system)
    except Refusal as error:
        if error.rule.startswith("ceremony/"):
            raise
        rule = "purpose" if isinstance(error, Forbidden) else "state"
        raise _refused(path, error.message, rule, error.clause) from None
    if party == "user":
        found = found.replace(_DCC, _USER)
    return replace(act, clause=found, expected=_expected(act, implied, path))


def _require_names(act: Act, there: Mapping[str, Given], path: str) -> None:
    for field, things in act.row.needs.items():
        one = there.get(act.text(field))
        if one is None:
            raise _refused(
                f"{path}.{field}",
                f"{act.text(field)!r} was not made by an earlier act and is not given",
                "not-there",
            )
        if one.thing not in things:
            wanted = " or ".join(sorted(thing.value for thing in things))
            raise _refused(f"{path}.{field}", f"{one.name!r} is a {one.thing}, not a {wanted}", "wrong-thing")
    made = [act.text(field) for field in act.row.makes]
    for field in act.row.makes:
        if act.text(field) in there or made.count(act.text(field)) > 1:
            raise _refused(
                f"{path}.{field}", f"{act.text(field)!r} is there already; nothing is replaced", "name-twice"
            )


def _signing_clause(act: Act, there: Mapping[str, Given], path: str) -> str:
    """Whether class and state let the key sign this, and under which clause; empty where nothing is signed."""
    if not act.row.signer:
        return ""
    key = there[act.text(act.row.signer)]
    kind = act.row.signs or ContentKind(act.text("profile"))
    if kind is ContentKind.CERTIFICATION_REQUEST and Usage.DERIVE in ceiling(key.key_class).template.usages:
        raise Forbidden(
            f"a {key.key_class} key signs its request while it is generated, and nothing ever after; leave this act out, take the "
            "request with `cryptosvc key request` when the key is made, and attach its certificate when it came",
            rule="ceiling/purpose",
            clause="G2.44(b)",
        )
    found = ceiling(key.key_class).clause_for(Operation.SIGN, kind)
    if key.split:
        raise _refused(
            f"{path}.{act.row.signer}", f"the key {key.name} is in parts and unusable", "split", "G2.44B"
        )
    if key.state is not None:
        lifecycle.require(key.state, Operation.SIGN, kind)
    return found


def _own_clause(act: Act) -> str:
    if act.kind is ActKind.SPLIT_KEY:
        return SPLIT_CLASSES[act.text("purpose")]
    if act.kind is ActKind.RECOMBINE_KEY:
        return "G2.44B"
    return act.text("clause") if act.has("clause") else ""


def _done(act: Act, there: dict[str, Given], path: str, system: str) -> dict[str, Setting]:
    """Note what the act leaves behind; the results it cannot but have."""
    for field, thing in act.row.makes.items():
        of = (
            act.text("subject" if act.has("subject") else "key")
            if act.has("key") or act.has("subject")
            else ""
        )
        there[act.text(field)] = Given(
            thing=thing, name=act.text(field), key=of if thing is not Thing.KEY else ""
        )
    match act.kind:
        case ActKind.GENERATE_KEY:
            return _generated(act, there, path)
        case ActKind.SPLIT_KEY | ActKind.RECOMBINE_KEY:
            return _split(act, there, path)
        case ActKind.SIGN_CERTIFICATE:
            if there[act.text("request")].key != act.text("subject"):
                raise _refused(f"{path}.request", "this request is of another key", "wrong-thing")
            lifecycle.after(there[act.text("subject")].state, Event.CERTIFY)
            return {"validity_days": act.number_of("days")}
        case ActKind.SELF_SIGN_CERTIFICATE | ActKind.SIGN_ARL | ActKind.SIGN_CRL:
            return {"validity_days": act.number_of("days")}
        case ActKind.REVOKE:
            certificate = there[act.text("certificate")]
            if certificate.revoked:
                raise _refused(f"{path}.certificate", f"{certificate.name} is revoked already", "state")
            there[certificate.name] = replace(certificate, revoked=True)
            return {"revoked": True}
        case ActKind.BACK_UP:
            key = there[act.text("key")]
            if key.split or key.state in _NO_OBJECT:
                raise _refused(
                    f"{path}.key", f"there is no whole key {key.name} by then", "state", "G5.13(b)"
                )
            return _happened(act, Event.BACK_UP, there, path)
        case ActKind.DECOMMISSION_SYSTEM:
            return _decommissioned(act, there, path, system)
        case _:
            return {} if act.row.event is None else _happened(act, act.row.event, there, path)


def _generated(act: Act, there: dict[str, Given], path: str) -> dict[str, Setting]:
    row = ceiling(act.text("class"))
    if act.has("role") and RemotePartyRole(act.number_of("role")) not in row.roles:
        raise _refused(f"{path}.role", f"a {row.name} key has no such Remote Party Role", "role", row.clause)
    state = lifecycle.after(lifecycle.after(None, Event.ORDER), Event.GENERATE)
    name = act.text("key")
    there[name] = replace(there[name], key_class=row.name, state=state)
    return {"state": state.value, "transferable": row.template.transferable}


def _happened(act: Act, event: Event, there: dict[str, Given], path: str) -> dict[str, Setting]:
    key = there[act.text("key")]
    if key.state is KeyState.SPLIT and (key.state, event) not in lifecycle.TRANSITIONS:
        raise _refused(f"{path}.key", f"the key {key.name} is in parts", "split", "G2.44B")
    if act.kind is ActKind.SUPERSEDE:
        _require_successor(key, there[act.text("by")], path)
    if act.kind is ActKind.RENEW:
        certificate = there[act.text("certificate")]
        if certificate.key != key.name or certificate.revoked:
            raise _refused(f"{path}.certificate", "this is no standing certificate of the key", "wrong-thing")
    state = lifecycle.after(key.state, event)
    there[key.name] = replace(key, state=state, split=key.split and state is not KeyState.DESTROYED)
    left: dict[str, Setting] = {"objects_left": 0, "copies_left": 0} if event is Event.DESTROY else {}
    return {"state": state.value, **left}


def _require_successor(key: Given, by: Given, path: str) -> None:
    if by.name == key.name or by.key_class != key.key_class:
        raise _refused(f"{path}.by", "a key is superseded by another key of its class", "wrong-thing")
    if by.state is not KeyState.ACTIVE or by.split:
        raise _refused(f"{path}.by", f"the key {by.name} is not active by then", "state", "G5.13(b)")


def _split(act: Act, there: dict[str, Given], path: str) -> dict[str, Setting]:
    key = there[act.text("key")]
    splits = act.kind is ActKind.SPLIT_KEY
    if key.split is splits or key.state in _NO_OBJECT:
        why = f"the key {key.name} is {'' if key.split else 'not '}in parts, or does not exist"
        raise _refused(f"{path}.key", why, "split", "G2.44B")
    if splits and key.key_class != act.text("purpose"):
        raise _refused(
            f"{path}.purpose", f"{key.name} is a {key.key_class or 'nameless'} key", "split", "G2.44B"
        )
    state = lifecycle.after(key.state, act.row.event or Event.SPLIT)
    there[key.name] = replace(key, split=splits, state=state)
    threshold = act.number_of("threshold")
    if not splits:
        return {"threshold": threshold, "usable": True}
    parts = act.number_of("parts")
    if not 2 <= threshold <= parts:
        raise _refused(
            f"{path}.threshold",
            "at least two parts are needed, and not more than there are",
            "split",
            "G2.44B",
        )
    return {"threshold": threshold, "parts": parts, "usable": False}


def _decommissioned(act: Act, there: Mapping[str, Given], path: str, system: str) -> dict[str, Setting]:
    if act.text("system") != system:
        raise _refused(f"{path}.system", "a ceremony decommissions the system it is held for", "wrong-thing")
    left = [
        one.name
        for one in there.values()
        if (one.thing is Thing.KEY and one.state is not KeyState.DESTROYED)
        or (one.thing is Thing.CERTIFICATE and not one.revoked)
    ]
    if left:
        raise _refused(
            path, f"not destroyed or not revoked by then: {', '.join(left)}", "left-over", act.row.clause
        )
    return {"keys_left": 0, "certificates_left": 0}


def _expected(act: Act, implied: Mapping[str, Setting], path: str) -> tuple[tuple[str, Setting], ...]:
    written = dict(act.expected)
    for name, value in implied.items():
        if name in act.row.results and written.setdefault(name, value) != value:
            raise _refused(f"{path}.expect.{name}", f"the tables say {value}", "expectation")
    return tuple(sorted(written.items()))


def _refused(path: str, why: str, rule: str, clause: str = "") -> Malformed:
    return Malformed(f"{path}: {why}", rule=f"ceremony/{rule}", clause=clause, field=path)
