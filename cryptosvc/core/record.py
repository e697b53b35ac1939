"""What goes into the log, and the values that travel between claim and reply.

An entry is canonical JSON (`core/canonical.py`), version 1. Fields that may later have to be withheld (principal,
device, User ID, person) are in the entry as salted commitments, `SHA-256(salt || 0x00 || name || 0x00 || value)`
in hex, with salt (16 octets, hex) and value kept beside the entry, so that redaction never breaks a proof.
No secret, no plaintext, no PIN is ever in an entry.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

from cryptosvc.core.associations import DedicatedKey
from cryptosvc.core.canonical import JsonValue, canonical
from cryptosvc.core.case import Principal, Request
from cryptosvc.core.commitments import ENTRY_VERSION, commitment
from cryptosvc.core.content.base import Content
from cryptosvc.core.described import PERSONAL_KINDS, described
from cryptosvc.core.device_keys import USED_KEY, SealedKeyRecord, is_device_key
from cryptosvc.core.errors import CryptosvcError, Refusal
from cryptosvc.core.judge import Authorised
from cryptosvc.core.names import UnixNanoseconds
from cryptosvc.core.registry import KeyRecord, Record, record_document, record_id, record_kind
from cryptosvc.core.values import quickly

WITHHELD_FACTS = frozenset({"target", "device_title", "duis_request_id", "duis_response_id"})
"""Facts of a content that name a device and therefore enter the log as commitments."""

SALT_OCTETS = 16


@dataclass(frozen=True, slots=True)
class Claim:
    """A durable promise to use a key once. Made only by the ledger (tests/arch holds it).

    Args:
        authorised: what was decided.
        claim_id: unique in the deployment.
        deadline: after this instant the claim is swept as outcome unknown.

    """

    authorised: Authorised
    claim_id: str
    deadline: UnixNanoseconds


@dataclass(frozen=True, slots=True)
class Produced:
    """What the module gave back for a claim: r‖s, 64 octets; under an agreed key what `agreed.taken` says, and where it was derived."""

    claim: Claim
    signature: bytes = field(repr=False)
    derivation: str = ""


@dataclass(frozen=True, slots=True)
class Failed:
    """A claim whose work is over without a result.

    Args:
        claim: the claim.
        error: Unavailable where it is known that the key was not used; OutcomeUnknown otherwise; Corrupt where the
            result did not pass the check; Forbidden where a MAC or tag that somebody claimed does not verify.

    """

    claim: Claim
    error: CryptosvcError


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """A refusal with all that was known when it fell.

    Args:
        error: why.
        operation: what was asked, by its text.
        at, time_quality: when.
        principal, request, content, key: as far as they were known.
        peer: transport address where there is no principal.

    """

    error: Refusal
    operation: str
    at: UnixNanoseconds
    time_quality: str
    principal: Principal | None = None
    request: Request | None = None
    content: Content | None = None
    key: KeyRecord | None = None
    peer: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """Something that happened and used no key: a read, a failed TLS handshake, a start, a policy load.

    Args:
        kind: entry kind, as `read`, `handshake-failed`, `service-start`.
        operation: what was asked or done.
        at, time_quality: when.
        principal: who, where known.
        facts: flat facts, printable ASCII.
        withheld: facts that enter as commitments.

    """

    kind: str
    operation: str
    at: UnixNanoseconds
    time_quality: str
    principal: Principal | None = None
    facts: Mapping[str, str] = field(default_factory=dict)
    withheld: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """What every entry of one worker carries.

    Args:
        system: owner of the deployment.
        environment: test or live.
        worker: name of the worker process.
        software: version and build digest.

    """

    system: str
    environment: str
    worker: str
    software: str


@dataclass(frozen=True, slots=True)
class Leaf:
    """An entry ready for the log.

    Args:
        entry: canonical JSON; the Merkle leaf data.
        withheld: canonical JSON of `{name: [salt hex, value]}`; empty bytes where nothing is withheld.

    """

    entry: bytes
    withheld: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """Proof material for one recorded entry. Made only by the ledger.

    Args:
        origin: the log's origin line.
        leaf_index: position in the log, from 0.
        leaf_hash: RFC 6962 leaf hash, 32 octets.
        recorded_at: when the record transaction committed.

    """

    origin: str
    leaf_index: int
    leaf_hash: bytes
    recorded_at: UnixNanoseconds


_leaf = quickly(Leaf)


def opening(authorised: Authorised, scope: Scope) -> dict[str, JsonValue]:
    """What is known of a use when it is claimed: the entry but for its outcome. Values to withhold are in `_withheld`."""
    case = authorised.case
    request = case.request
    entry: dict[str, JsonValue] = {
        "v": ENTRY_VERSION,
        "kind": "use",
        "time": str(case.at),
        "time_quality": case.time_quality,
        "request_id": request.request_id,
        "operation": case.facts.operation.value,
        "content_kind": case.content.kind.value,
        "payload_digest": hashlib.sha256(request.payload).hexdigest(),
        "key": case.key.key_id,
        "key_version": case.key.version,
        "key_class": case.key.key_class,
        "decision": "permit",
        "clause": authorised.clause,
        "policies": authorised.policies,
        "policy_digest": authorised.policy_digest,
        "approvals": (),
        "module": case.module.name,
        "system": scope.system,
        "environment": scope.environment,
        "worker": scope.worker,
        "software": scope.software,
    }
    entry["_withheld"] = withheld = _describe(entry, case.principal, request, case.content)
    if isinstance(case.key, SealedKeyRecord):
        # the name has the Device in it; what stands open is the record that vouches for the key
        entry["key"], entry["key_version"] = USED_KEY, case.key.store_version
        withheld["device_key"] = str(case.key.row.name)
        if isinstance(case.key.row, DedicatedKey):
            entry["association"] = case.key.row.association
        if case.second is not None:
            withheld["second_device_key"] = case.second.key.label
    return entry


def _describe(
    entry: dict[str, JsonValue], principal: Principal | None, request: Request | None, content: Content | None
) -> dict[str, str]:
    """Add the facts of content and statement to `entry`; return what must enter as commitments instead."""
    withheld: dict[str, str] = {}
    if principal is not None:
        withheld["principal"] = principal.caller.caller_id
        withheld["peer"] = principal.peer
    if request is not None:
        statement = request.statement
        if statement.service_reference_variant:
            entry["service_reference_variant"] = statement.service_reference_variant
        if statement.user_role:
            entry["user_role"] = statement.user_role
        if statement.user_id:
            withheld["user_id"] = statement.user_id
    if content is not None:
        facts: dict[str, JsonValue] = {}
        for name, value in content.facts:
            if name in WITHHELD_FACTS:
                withheld[name] = value
            else:
                facts[name] = value
        entry["facts"] = facts
    return withheld


def shown_key(key_id: str) -> tuple[str, dict[str, str]]:
    """What an entry may say of a key somebody asked about, and what it withholds: a device key's name has its Device in it."""
    return (USED_KEY, {"device_key": key_id}) if is_device_key(key_id) else (key_id, {})


def sealed(entry: dict[str, JsonValue], withheld: Mapping[str, str], salt: bytes) -> Leaf:
    """Turn an entry, which is given away, and what it withholds into a leaf; `salt` is 16 fresh random octets.

    Each withheld field gets its own salt, the next 16 octets of SHAKE128(salt), so that one field can be disclosed
    without the others.
    """
    if not withheld:
        return _leaf(canonical(entry), b"")
    commitments: dict[str, JsonValue] = {}
    beside: dict[str, JsonValue] = {}
    salts = hashlib.shake_128(salt).digest(SALT_OCTETS * len(withheld))
    for number, (name, value) in enumerate(withheld.items()):
        own = salts[SALT_OCTETS * number : SALT_OCTETS * (number + 1)]
        commitments[name] = commitment(own, name, value)
        beside[name] = (own.hex(), value)
    entry["commitments"] = commitments
    return _leaf(canonical(entry), canonical(beside))


def signed_leaf(
    start: Mapping[str, JsonValue],
    withheld: Mapping[str, str],
    result_digest: bytes,
    salt: bytes,
    derivation: str = "",
) -> Leaf:
    """The leaf of a use that ended with a checked result; of a MAC it says where the key was derived (G2.44(b))."""
    entry = dict(start)
    entry["outcome"] = "signed"
    entry["result_digest"] = result_digest.hex()
    if derivation:
        entry["derivation"] = derivation
    return sealed(entry, withheld, salt)


def failed_leaf(
    start: Mapping[str, JsonValue], withheld: Mapping[str, str], error: CryptosvcError, salt: bytes
) -> Leaf:
    """The leaf of a use that ended without a result: outcome is the error's reason in lower case."""
    return sealed({**start, "outcome": error.reason.value.lower(), "rule": error.rule}, withheld, salt)


def refused_leaf(refused: Refused, scope: Scope, salt: bytes) -> Leaf:
    """The leaf of a refusal."""
    error = refused.error
    entry: dict[str, JsonValue] = {
        "v": ENTRY_VERSION,
        "kind": "refusal",
        "time": str(refused.at),
        "time_quality": refused.time_quality,
        "operation": refused.operation,
        "decision": "refuse",
        "outcome": "refused",
        "reason": error.reason.value,
        "rule": error.rule,
        "clause": error.clause,
        "policies": error.policies,
        "system": scope.system,
        "environment": scope.environment,
        "worker": scope.worker,
        "software": scope.software,
    }
    if refused.request is not None:
        entry["request_id"] = refused.request.request_id
        entry["key"] = refused.request.key_id
        entry["form"] = refused.request.form.value
        entry["payload_digest"] = hashlib.sha256(refused.request.payload).hexdigest()
        if is_device_key(refused.request.key_id):
            entry["key"] = USED_KEY
    if refused.key is not None:
        entry["key_version"] = refused.key.version
        entry["key_class"] = refused.key.key_class
    if refused.content is not None:
        entry["content_kind"] = refused.content.kind.value
    withheld = _describe(entry, refused.principal, refused.request, refused.content)
    if entry.get("key") == USED_KEY and refused.request is not None:
        withheld["device_key"] = refused.request.key_id
        if refused.request.second_key:
            withheld["second_device_key"] = refused.request.second_key
    if refused.principal is None and refused.peer:
        withheld["peer"] = refused.peer
    return sealed(entry, withheld, salt)


def observed_leaf(observed: Observed, scope: Scope, salt: bytes) -> Leaf:
    """The leaf of something that used no key."""
    entry: dict[str, JsonValue] = {
        "v": ENTRY_VERSION,
        "kind": observed.kind,
        "time": str(observed.at),
        "time_quality": observed.time_quality,
        "operation": observed.operation,
        "facts": dict(observed.facts),
        "system": scope.system,
        "environment": scope.environment,
        "worker": scope.worker,
        "software": scope.software,
    }
    withheld = dict(observed.withheld) | _describe({}, observed.principal, None, None)
    return sealed(entry, withheld, salt)


@dataclass(frozen=True, slots=True)
class Because:
    """Why a record changed.

    Args:
        kind: `proposal` (approved under dual control), `rule` (an approved date or limit came), `genesis` (named in the
            signed genesis file), `init` (the shortcut of environment test).
        reference: proposal id, name of the rule, digest of the genesis file, or empty.
        approvals: key ids of the custodians whose approval counted, sorted.

    """

    kind: str
    reference: str = ""
    approvals: tuple[str, ...] = ()


INIT = Because("init")
"""The shortcut of environment test: no approval stands behind it, and the log says so."""


def registered_leaf(
    record: Record, scope: Scope, at: UnixNanoseconds, time_quality: str, salt: bytes, because: Because = INIT
) -> Leaf:
    """The leaf of a new version of a record; it commits to the record's document, which is kept beside it.

    Ids of people (callers, custodians) enter as commitments under the name of the record's kind; those of keys,
    proposals and modules stand open, and so does what is going to happen to a key by date: it says in which state a use
    found the key. With the documents beside, the log alone tells every version of every record.
    """
    entry: dict[str, JsonValue] = {
        "v": ENTRY_VERSION,
        "kind": record_kind(record),
        "time": str(at),
        "time_quality": time_quality,
        "operation": "register" if record.version == 1 else "change",
        "because": {because.kind: because.reference},
        "approvals": because.approvals,
        "system": scope.system,
        "environment": scope.environment,
        "worker": scope.worker,
        "software": scope.software,
    }
    withheld = {"document": canonical(record_document(record)).decode()}
    if record_kind(record) in PERSONAL_KINDS:
        withheld[record_kind(record).removesuffix("-record")] = record_id(record)
    return sealed(entry | described(record), withheld, salt)
