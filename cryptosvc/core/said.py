"""What an entry says, as (field, value) pairs: the words a query may ask in, and what the query index is made from.

One reading serves the index, the query and the replay that proves an answer complete, so they cannot disagree. Values
that are withheld are read from beside the entry; where they were redacted the entry says nothing of them, and
`silent_about` tells so.

Example:
    >>> sorted(said({"kind": "use", "key": "k", "operation": "sign"}, {"principal": "head-end"}))
    [('caller', 'head-end'), ('key', 'k'), ('kind', 'use'), ('operation', 'sign')]
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import orjson

from cryptosvc.core.canonical import JsonValue

Pair = tuple[str, str]
Entry = Mapping[str, JsonValue]


@dataclass(frozen=True, slots=True)
class Field:
    """Where a field of a query stands.

    Args:
        meaning: for whoever asks.
        entry: names of the entry's own fields; a list gives one value for each of its texts.
        facts: names inside `facts`.
        beside: names of withheld values.
        subject_of: statement types whose `subject` it is.
        indexed: found by the index; what is not is compared entry by entry.

    """

    meaning: str
    entry: tuple[str, ...] = ()
    facts: tuple[str, ...] = ()
    beside: tuple[str, ...] = ()
    subject_of: tuple[str, ...] = ()
    indexed: bool = True


_TRANSFER_STATEMENTS = (
    "transfer-offer",
    "transfer-package",
    "transfer-receipt",
    "transfer-not-imported",
    "transfer-disposition",
)

FIELDS: Mapping[str, Field] = MappingProxyType(
    {
        "key": Field("id of a key", entry=("key",), facts=("key",), subject_of=("destruction-certificate",)),
        "class": Field("key class", entry=("key_class",)),
        "caller": Field("id of the caller who asked, or whose record it is", beside=("principal", "caller")),
        "custodian": Field("id of the custodian whose record it is", beside=("custodian",)),
        "approver": Field("key id of a custodian whose approval counted", entry=("approvals",)),
        "user": Field("EUI-64 of the User it was for, or whose key it is", beside=("user_id",)),
        "target": Field("EUI-64 of the target device", beside=("target",)),
        "system": Field("a system", entry=("system", "key_system")),
        "kind": Field("kind of entry", entry=("kind",)),
        "operation": Field("what was asked", entry=("operation",)),
        "content": Field("what the payload was", entry=("content_kind",)),
        "message": Field("GBCS message code, four hex digits", facts=("message_code",)),
        "variant": Field("Service Reference Variant", entry=("service_reference_variant",)),
        "role": Field("User Role", entry=("user_role",)),
        "clause": Field("clause that permitted or refused", entry=("clause",), facts=("clause",)),
        "decision": Field("permit or refuse", entry=("decision",)),
        "outcome": Field("how it ended", entry=("outcome",)),
        "rule": Field("what did not hold", entry=("rule",), facts=("rule",)),
        "policy": Field("id of a policy that decided", entry=("policies",)),
        "policies": Field("digest of the policy set", entry=("policy_digest",), facts=("policy_digest",)),
        "module": Field("module", entry=("module",), facts=("module",)),
        "state": Field("state a record went to", entry=("state",)),
        "proposal": Field("id of a proposal", entry=("proposal",), facts=("proposal",)),
        "transfer": Field(
            "id of a transfer", entry=("transfer",), facts=("transfer",), subject_of=_TRANSFER_STATEMENTS
        ),
        "ceremony": Field("id of a ceremony", facts=("ceremony",), subject_of=("ceremony-seal",)),
        "work": Field("id of a work on device keys", entry=("device-work",)),
        "worker": Field("process that wrote it", entry=("worker",)),
        "request": Field("id the caller gave its request", entry=("request_id",), indexed=False),
    }
)
"""Every field a query may name."""

INDEXED = frozenset(name for name, field in FIELDS.items() if field.indexed)
_BECAUSE = {"proposal": "proposal", "device-work": "work"}
_WITHHELD_BY_FIELD = {name: field.beside for name, field in FIELDS.items() if field.beside}
_FROM_ENTRY = tuple((source, name) for name, field in FIELDS.items() for source in field.entry)
_FROM_FACTS = tuple((source, name) for name, field in FIELDS.items() for source in field.facts)
_FROM_BESIDE = tuple((source, name) for name, field in FIELDS.items() for source in field.beside)
_BY_SUBJECT = {kind: name for name, field in FIELDS.items() for kind in field.subject_of}


def said(entry: Entry, beside: Mapping[str, str]) -> set[Pair]:
    """Every pair an entry says.

    Args:
        entry: as parsed; fields of an unexpected type say nothing.
        beside: withheld values by name, as far as they are kept.

    """
    found: set[Pair] = set()
    for source, name in _FROM_ENTRY:
        value = entry.get(source)
        if isinstance(value, str):
            if value:
                found.add((name, value))
        elif isinstance(value, Sequence):
            found.update((name, one) for one in value if isinstance(one, str))
    facts = entry.get("facts")
    if isinstance(facts, Mapping):
        for source, name in _FROM_FACTS:
            value = facts.get(source)
            if isinstance(value, str) and value:
                found.add((name, value))
        subject, kind = facts.get("subject"), facts.get("type")
        if isinstance(subject, str) and isinstance(kind, str) and kind in _BY_SUBJECT:
            found.add((_BY_SUBJECT[kind], subject))
    because = entry.get("because")
    if isinstance(because, Mapping):
        for reason, reference in because.items():
            if reason in _BECAUSE and isinstance(reference, str):
                found.add((_BECAUSE[reason], reference))
    for source, name in _FROM_BESIDE:
        if source in beside:
            found.add((name, beside[source]))
    if "document" in beside:
        found.update(("user", one) for one in _users_of(beside["document"]))
    return found


def moment(entry: Entry) -> int:
    """Time of an entry, nanoseconds; 0 where it says none, and at most 2**63 - 2: inside a query without an end."""
    text = entry.get("time")
    return min(int(text), 2**63 - 2) if isinstance(text, str) and text.isdecimal() and len(text) <= 20 else 0


def silent_about(name: str, entry: Entry, beside: Mapping[str, str]) -> bool:
    """Whether the entry committed to a value of this field that is not kept any more, so that nobody can say."""
    commitments = entry.get("commitments")
    if not isinstance(commitments, Mapping):
        return False
    sources = _WITHHELD_BY_FIELD.get(name, ()) + (("document",) if name == "user" else ())
    return any(source in commitments and source not in beside for source in sources)


def _users_of(document: str) -> list[str]:
    """Users a key or caller record belongs to."""
    try:
        record = orjson.loads(document)
    except orjson.JSONDecodeError:
        return []
    if not isinstance(record, dict):
        return []
    eui64, user_ids = record.get("eui64"), record.get("user_ids")
    found = [eui64] if isinstance(eui64, str) and eui64 else []
    if isinstance(user_ids, list):
        found += [one for one in user_ids if isinstance(one, str)]
    return found
