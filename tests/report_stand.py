"""A log with something in it for every section of a report, with names that mean harm."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from cryptosvc.adapters.log_range import write_range
from cryptosvc.core.merkle import EMPTY, leaf_hash
from cryptosvc.core.names import ModuleName, UnixNanoseconds
from cryptosvc.core.record import Scope, registered_leaf, sealed
from tests.governance import MODULE
from tests.signed_logs import ORIGIN, SPKI, Entry, note

SECOND = 1_000_000_000
BEGAN = 1_793_000_000
"""2026-10-26T07:33:20Z."""
HOSTILE = '<script>document.title="taken"</script><img src=x onerror="document.title=1">'
HOSTILE_KEY = 'key\'; rm -rf "$HOME" <b>&amp;'


def entry(number: int, kind: str, withheld: dict[str, str] | None = None, /, **more: Any) -> Entry:
    fields: dict[str, Any] = {
        "v": 1,
        "kind": kind,
        "time": str((BEGAN + 600 * number) * SECOND),
        "time_quality": "synchronised" if number % 10 else "unsynchronised",
        "system": "dcc-live-1" if number % 5 else "other-system",
        "environment": "test",
        "worker": "w-0",
        "software": "0.1.0+abc",
        **more,
    }
    leaf = sealed(fields, withheld or {}, number.to_bytes(16))
    return leaf.entry, leaf.withheld


def use(number: int, **more: Any) -> Entry:
    fields: dict[str, Any] = {
        "operation": "sign",
        "key": f"key-{number % 3}",
        "key_class": ("command-signing", "xml-signing", "issuing-oca")[number % 3],
        "content_kind": "gbcs-pre-command",
        "clause": ("G2.56", "G3.29", "G2.61")[number % 3],
        "decision": "permit",
        "outcome": "signed",
        "module": "softhsm",
        "policy_digest": "ab" * 32,
        "facts": {"message_code": "0008"},
    }
    return entry(
        number, "use", {"principal": HOSTILE if number == 4 else f"head-end-{number % 2}"}, **fields | more
    )


def refusal(number: int, **more: Any) -> Entry:
    fields: dict[str, Any] = {
        "operation": "sign",
        "key": HOSTILE_KEY if number == 13 else "key-1",
        "reason": "FORBIDDEN",
        "rule": "ceiling/purpose",
        "clause": "G2.56",
        "decision": "refuse",
        "outcome": "refused",
    }
    return entry(number, "refusal", {"principal": "stranger"}, **fields | more)


def key_record(number: int, key: str, version: int, state: str) -> Entry:
    return entry(
        number,
        "key-record",
        {"document": "{}"},
        operation="register" if version == 1 else "change",
        key=key,
        key_class="command-signing",
        record_version=version,
        state=state,
        because={"proposal": f"p-{number}"},
        approvals=["aa", "bb"],
    )


def module_record(number: int) -> Entry:
    scope = Scope(system="dcc-live-1", environment="test", worker="w-0", software="0.1.0+abc")
    at = UnixNanoseconds((BEGAN + 600 * number) * SECOND)
    identity = {"manufacturer": "SoftHSM project", "model": "SoftHSM v2", "serial": "s-1", "firmware": "2.6"}
    record = replace(
        MODULE,
        module=ModuleName("softhsm"),
        identity=tuple(sorted(identity.items())),
        assurance="FIPS 140-2 level 3, certificate 1234",
    )
    leaf = registered_leaf(record, scope, at, "synchronised", number.to_bytes(16))
    return leaf.entry, leaf.withheld


def log() -> list[Entry]:
    """Sixty entries, ten minutes apart."""
    special = {
        0: entry(0, "genesis", operation="init"),
        1: module_record(1),
        2: key_record(2, "key-0", 1, "active"),
        3: key_record(3, "key-1", 1, "active"),
        13: refusal(13),
        14: refusal(14, rule="caller/not-granted"),
        20: key_record(20, "key-1", 2, "suspended"),
        21: entry(
            21, "transfer-record", {"document": "{}"}, operation="register", transfer="t-1", state="offered"
        ),
        22: use(22, facts={"type": "ceremony-seal", "subject": "c-1"}, content_kind="service-statement"),
        23: use(23, outcome="outcome_unknown", rule="claim/expired"),
        30: entry(
            30,
            "alarm",
            operation="alarm",
            facts={"severity": "critical", "rule": "alarm/first-use", "leaves": "7 22 9999", "count": "3"},
            clause="G2.29",
        ),
        31: entry(31, "reconciled", operation="unknown-object", facts={"module": "softhsm"}, severity="high"),
    }
    return [special.get(number) or use(number) for number in range(60)]


def ranged(folder: Path, entries: list[Entry] | None = None, start: int = 0) -> tuple[Path, Path]:
    """A range file and the log's public key beside it."""
    made = log() if entries is None else entries
    path, key = folder / "log.range", folder / "log.pub"
    frontier = EMPTY.extended([leaf_hash(octets) for octets, _ in made[:start]])
    write_range(path, ORIGIN, note(made[:start]) if start else b"", note(made), frontier, made[start:])
    key.write_bytes(SPKI)
    return path, key
