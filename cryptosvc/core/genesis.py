"""The genesis of a deployment: its first custodians, callers and log keys, signed by every custodian it names.

A genesis is a DSSE envelope over canonical JSON. Its digest is in entry 0 of the log and the envelope is kept beside
that entry, so whoever replays the log knows who was there at the beginning, and that each of them signed it. Nothing
else ever comes into a register without a proposal.

First callers may hand in and read, and nothing more: what signs is granted under dual control like everything after.

Source: Smart Energy Code G2.20, G3.14 (one system per deployment), G4.1 to G4.8 (who its custodians may be), G5.13(b).
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace

import orjson

from cryptosvc.core import custody, dsse
from cryptosvc.core.canonical import JsonValue, canonical
from cryptosvc.core.custodian import (
    CustodianRecord,
    CustodianState,
    custodian_document,
    custodian_from_document,
)
from cryptosvc.core.documents import mappings, number, text
from cryptosvc.core.errors import Corrupt, CryptosvcError, Forbidden, Malformed
from cryptosvc.core.life import UnixSeconds
from cryptosvc.core.names import Environment, Operation, SystemName
from cryptosvc.core.registry import (
    CallerRecord,
    CallerState,
    KeyRecord,
    KeyState,
    Record,
    caller_document,
    caller_from_document,
    key_document,
    key_from_document,
    record_document,
    record_id,
    record_kind,
)

GENESIS_TYPE = "application/vnd.cryptosvc.genesis.v1+json"
VERSION = 1
FEWEST_PEOPLE = 3
"""A proposer and two who approve: fewer could never change anything again."""

LOG_KEY_CLASSES = frozenset({"log-authentication", "audit-signing", "service-signing"})
"""Classes of the keys a log begins with. Their public points are known only once they are generated."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Genesis:
    """How a deployment begins.

    Args:
        system, environment, origin: of the deployment and its log.
        policy_digest: of the policies in force, `governance.toml` among them, lower-case hex.
        made_at: when it was drawn up.
        custodians: the first custodians, each at version 1.
        callers: the first callers, the service itself among them.
        keys: the log's own keys, without public points.

    """

    system: SystemName
    environment: Environment
    origin: str
    policy_digest: str
    made_at: UnixSeconds
    custodians: tuple[CustodianRecord, ...]
    callers: tuple[CallerRecord, ...]
    keys: tuple[KeyRecord, ...]


def emit(genesis: Genesis) -> bytes:
    """The octets that are signed."""
    return canonical(
        {
            "v": VERSION,
            "system": genesis.system,
            "environment": genesis.environment.value,
            "origin": genesis.origin,
            "policy_digest": genesis.policy_digest,
            "made_at": genesis.made_at,
            "custodians": [custodian_document(one) for one in genesis.custodians],
            "callers": [caller_document(one) for one in genesis.callers],
            "keys": [key_document(one) for one in genesis.keys],
        }
    )


def parse(octets: bytes) -> Genesis:
    """Read a genesis document; Malformed unless `octets` is exactly what `emit` writes for it."""
    try:
        document: Mapping[str, JsonValue] = orjson.loads(octets)
        found = Genesis(
            system=SystemName(text(document, "system")),
            environment=Environment(text(document, "environment")),
            origin=text(document, "origin"),
            policy_digest=text(document, "policy_digest"),
            made_at=UnixSeconds(number(document, "made_at")),
            custodians=tuple(custodian_from_document(one) for one in mappings(document, "custodians")),
            callers=tuple(caller_from_document(one) for one in mappings(document, "callers")),
            keys=tuple(key_from_document(one) for one in mappings(document, "keys")),
        )
        same = emit(found) == octets
    except (KeyError, TypeError, ValueError, CryptosvcError):
        same = False
    if not same:
        raise Malformed("this is no genesis document as this version prints it", rule="genesis/form")
    return found


def digest(genesis: Genesis) -> str:
    """Lower-case hex SHA-256 of the octets that are signed; entry 0 of the log names it."""
    return hashlib.sha256(emit(genesis)).hexdigest()


def read_signed(envelope: bytes) -> Genesis:
    """Read a genesis that every custodian it names has signed, and nobody else.

    Raises:
        Malformed: no strict DSSE envelope of a genesis.
        Forbidden: `genesis/…`: a record does not belong; `genesis/signatures`: a custodian did not sign;
            `dsse/…`: a signature is somebody else's or does not verify.

    """
    found = dsse.parse(envelope)
    if found.payload_type != GENESIS_TYPE:
        raise Malformed("this envelope is over no genesis", rule="genesis/form")
    genesis = parse(found.payload)
    _require_sound(genesis)
    keys = {dsse.key_id(one.key): one.key for one in genesis.custodians}
    signed = set(dsse.verify(found, keys))
    missing = sorted(one.custodian_id for one in genesis.custodians if dsse.key_id(one.key) not in signed)
    if missing:
        raise Forbidden(
            f"every custodian a genesis names signs it; {', '.join(missing)} did not",
            rule="genesis/signatures",
            clause="G4.7",
        )
    return genesis


def require_people(genesis: Genesis, rules: custody.Rules) -> None:
    """Require that its custodians may be that, under the configured rules, when it was drawn up.

    Raises:
        Forbidden, Conflict: `custody/…`, as in `core/custody.py`.

    """
    for one in genesis.custodians:
        custody.require_may_be_registered(one, genesis.custodians, rules)
        custody.require_may_approve(one, genesis.system, rules, genesis.made_at)


def records(genesis: Genesis, points: Mapping[str, bytes]) -> tuple[Record, ...]:
    """Everything it registers, in order.

    Args:
        genesis: as read.
        points: key id → public point of the log keys that were generated; 65 octets, empty for a symmetric key.

    """
    made = tuple(replace(one, public_point=points[one.key_id]) for one in genesis.keys)
    return (*genesis.custodians, *genesis.callers, *made)


def documents(genesis: Genesis) -> dict[tuple[str, str], Mapping[str, JsonValue]]:
    """(kind, id) → document of everything it names; those of log keys without their public points."""
    named: tuple[Record, ...] = (*genesis.custodians, *genesis.callers, *genesis.keys)
    # through JSON, so that they compare with documents that were read
    return {
        (record_kind(one), record_id(one)): orjson.loads(canonical(record_document(one))) for one in named
    }


def begun_by(entry: Mapping[str, JsonValue], envelope: str) -> Genesis | None:
    """The signed genesis that entry 0 names; None where it names none.

    Args:
        entry: entry 0 of a log.
        envelope: the value kept beside it under `genesis`; empty where there is none.

    Raises:
        Corrupt: `genesis/entry`: the envelope is not there any more, is another one than the entry names, or is not
            signed by every custodian it names.

    """
    named = entry.get("genesis")
    if named is None:
        return None
    try:
        found = read_signed(envelope.encode())
    except (Malformed, Forbidden) as error:
        raise _not_begun(error.message) from None
    said = (entry.get("system"), entry.get("environment"), entry.get("origin"))
    if digest(found) != named or (found.system, found.environment.value, found.origin) != said:
        raise _not_begun("it is another one than entry 0 names")
    return found


def _not_begun(why: str) -> Corrupt:
    return Corrupt(
        f"the signed genesis beside entry 0 does not hold: {why}", rule="genesis/entry", clause="G2.27"
    )


def _require_sound(genesis: Genesis) -> None:
    people = {one.person for one in genesis.custodians}
    everyone: tuple[Record, ...] = (*genesis.custodians, *genesis.callers, *genesis.keys)
    ids = [(record_kind(one), record_id(one)) for one in everyone]
    may = {Operation.GOVERN.value}
    for holds, what in (
        (len(people) >= FEWEST_PEOPLE, f"names at least {FEWEST_PEOPLE} different people"),
        (len(people) == len(genesis.custodians), "names each person once"),
        (len(set(ids)) == len(ids), "names nothing twice"),
        (all(one.version == 1 for one in everyone), "names records at version 1"),
        (all(one.system == genesis.system for one in everyone), "names records of its own system"),
        (all(one.state is CustodianState.REGISTERED for one in genesis.custodians), "registers custodians"),
        (all(one.state is CallerState.REGISTERED for one in genesis.callers), "registers callers"),
        (
            all(one.key_class in LOG_KEY_CLASSES and not one.public_point for one in genesis.keys),
            "has the keys of the log and no others",
        ),
        (
            all(
                one.environment is genesis.environment and one.state is KeyState.ACTIVE
                for one in genesis.keys
            ),
            "has active keys of its environment",
        ),
        (
            all(one.asset.classification.strip() and one.asset.responsible.strip() for one in genesis.keys),
            "classifies each key and names who answers for it (G5.6, G5.21)",
        ),
        (
            all(
                grant.operation in may or _of_the_log(grant.key_ids, genesis)
                for one in genesis.callers
                for grant in one.grants
            ),
            "grants callers to hand in, and the service its own keys, and nothing else",
        ),
    ):
        if not holds:
            raise Forbidden(f"a genesis {what}", rule="genesis/records", clause="G5.13(b)")


def _of_the_log(key_ids: frozenset[str], genesis: Genesis) -> bool:
    """Whether a grant is for keys of the log, named one by one."""
    return bool(key_ids) and key_ids <= {str(one.key_id) for one in genesis.keys}
