"""docs/log-format.md names every field of every kind of entry, every withheld name and every rule, and no other."""

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from cryptosvc.adapters.store.recording import Preparer, expired_leaf
from cryptosvc.core import associations, commitments, founding, record
from cryptosvc.core.canonical import canonical
from cryptosvc.core.case import Case, Request, Second
from cryptosvc.core.content import forms
from cryptosvc.core.content.base import Statement
from cryptosvc.core.device_keys import sealed_record
from cryptosvc.core.errors import Corrupt, Malformed, OutcomeUnknown, Unavailable
from cryptosvc.core.judge import Authorised, judge
from cryptosvc.core.names import KeyId, Operation, UnixNanoseconds
from cryptosvc.core.opening import opened
from cryptosvc.core.policy_set import WITHHELD
from cryptosvc.core.record import Claim, Failed, Leaf, Observed, Refused, Scope
from cryptosvc.core.registry import RECORD_KINDS
from tests import transfers
from tests.claims import caller_record
from tests.corridor import ALLOWED, SUPPLIER_KEY, Corridor, duis_request, pre_command_request
from tests.governance import CUSTODIAN, DEVICE_SOURCE, DEVICE_STORE, DEVICE_WORK, MODULE, PROPOSAL
from tests.unit.test_device_key_names import ROW as DEVICE_ROW

REPOSITORY = Path(__file__).resolve().parents[2]
PAGE = (REPOSITORY / "docs/log-format.md").read_text()
SCOPE = Scope(system="test-system", environment="test", worker="w0", software="1")
SALT = bytes(range(16))
AT = UnixNanoseconds(2**60)
EVENTS = {
    "explain",
    "read",
    "handshake-failed",
    "overloaded",
    "service-start",
    "policy-set",
    "governed",
    "reconciled",
    "witness",
    "watch",
    "alarm",
    "backup",
    "sealed",
    "archived",
    "returned",
    "retired",
    "restored",
    "review",
    "incident",
    "outside",
    "clock",
}
KINDS = {"genesis", "use", "refusal"} | RECORD_KINDS


def rows(heading: str) -> Iterator[list[str]]:
    """Cells of the table whose first heading cell this is."""
    (table,) = re.findall(rf"^\| {heading} \|.*\n\|[-|]+\n((?:\|.*\n)+)", PAGE, re.MULTILINE)
    for line in table.splitlines():
        yield [cell.strip() for cell in line.strip("|").split("|")]


def named(cell: str) -> set[str]:
    return set(re.findall(r"`([^`]+)`", cell))


def fields_of(kind: str) -> tuple[set[str], set[str]]:
    """Fields that an entry of this kind always has, and that it may have, as the page says."""
    word = "events" if kind in EVENTS else kind
    always: set[str] = set()
    known: set[str] = set()
    for cells in rows("field"):
        columns = [set(re.split(", ?", cell)) for cell in cells[1:3]]
        always |= named(cells[0]) if columns[0] & {word, "all"} else set()
        known |= named(cells[0]) if word in columns[1] else set()
    return always, known


async def authorised(request: Request) -> tuple[Authorised, Corridor]:
    corridor = Corridor()
    content = forms.parse(request.form, request.payload, corridor.profiles)
    (case,) = await corridor.gatherer.gather(corridor.principal, Operation.SIGN, [(request, content)])
    assert isinstance(case, Case)
    return judge(case, ALLOWED, corridor.profiles), corridor


async def every_leaf() -> list[Leaf]:
    """Entries of each kind, with as much and as little in them as there can be."""
    found: list[Leaf] = []
    for asked, states in ((pre_command_request(), True), (duis_request(), True), (duis_request(), False)):
        verdict, corridor = await authorised(asked)
        request = asked if states else replace(asked, statement=Statement())
        if not states:  # as the service's own requests, which belong to no service request
            verdict = replace(verdict, case=replace(verdict.case, request=request))
        case = verdict.case
        claim = Claim(verdict, "1.0", AT)
        entry = record.opening(verdict, SCOPE)
        withheld = entry.pop("_withheld")
        assert isinstance(withheld, dict)
        found.append(record.signed_leaf(entry, withheld, bytes(32), SALT))
        errors = (Unavailable("-", rule="a/b"), OutcomeUnknown("-", rule="a/b"), Corrupt("-", rule="a/b"))
        preparer = Preparer(SCOPE)
        for error in errors:
            (prepared,) = preparer.prepare([Failed(claim, error)], {}, SALT)
            found.append(prepared.leaf)
            preparer.mark_late(prepared, 7, SALT)
            found.append(prepared.leaf)
        opening, _ = opened(verdict, SCOPE, SALT)
        found += [opening.signed(bytes(32)), opening.signed(bytes(32), "module"), expired_leaf(opening)]
        assert opening.signed(bytes(32), "module").entry == canonical(
            json.loads(opening.signed(bytes(32)).entry) | {"derivation": "module"}
        )
        refusal = Malformed("-", rule="a/b")
        known = {"request": request, "principal": case.principal, "content": case.content, "key": case.key}
        for more in (known, {"request": request}, {"peer": "ipv4:192.0.2.1:9"}, {}):
            refused = Refused(error=refusal, operation="sign", at=AT, time_quality="synchronised", **more)  # type: ignore[arg-type]  # a test's table of keywords
            found.append(record.refused_leaf(refused, SCOPE, SALT))
        for kind in sorted(EVENTS):
            observed = Observed(kind=kind, operation="it", at=AT, time_quality="synchronised")
            found.append(record.observed_leaf(observed, SCOPE, SALT))
            observed = replace(observed, principal=corridor.principal, facts={"a": "b"})
            found.append(record.observed_leaf(observed, SCOPE, SALT))
        for kind, name in (
            ("read", "query"),
            ("policy-set", WITHHELD),
            ("review", "review"),
            ("incident", "incident"),
        ):
            observed = Observed(
                kind=kind, operation="it", at=AT, time_quality="synchronised", withheld={name: "{}"}
            )
            found.append(record.observed_leaf(observed, SCOPE, SALT))
        key = corridor.keys.records[SUPPLIER_KEY]
        limited = replace(key, life=replace(key.life, usage_limit=7))
        registered = (key, limited, caller_record(), CUSTODIAN, PROPOSAL, MODULE)
        registered += (DEVICE_STORE, DEVICE_SOURCE, DEVICE_WORK, await transfers.specimen())
        found += [record.registered_leaf(one, SCOPE, AT, "synchronised", SALT) for one in registered]
        device_key = sealed_record(DEVICE_ROW, KeyId(str(DEVICE_ROW.name)), 4, key, key)
        content = replace(case.content, facts=(("device_title", "00" * 8), *case.content.facts))
        both = replace(case, key=device_key, content=content, second=Second(key=device_key, facts=case.facts))
        of_device = replace(verdict, case=both)
        found.append(opened(of_device, SCOPE, SALT)[0].signed(bytes(32)))
        dedicated = associations.to_be_made(device_key, "caller", "request", AT, 900)
        within = sealed_record(dedicated, KeyId(f"{DEVICE_ROW.device}.dedicated"), 4, key, key)
        of_association = replace(verdict, case=replace(both, key=within))
        found.append(opened(of_association, SCOPE, SALT)[0].signed(bytes(32)))
        asked_for = replace(request, key_id=device_key.key_id, second_key=device_key.key_id)
        refused = Refused(
            error=refusal, operation="sign", at=AT, time_quality="synchronised", request=asked_for
        )
        found.append(record.refused_leaf(refused, SCOPE, SALT))
        assert str(DEVICE_ROW.device).encode() not in found[-1].entry + found[-2].entry
    found.append(founding.genesis_leaf("a/log", SCOPE, AT, "synchronised"))
    signed = founding.Founding(b"{}", "ab" * 32, shortcut=False)
    found.append(founding.genesis_leaf("a/log", SCOPE, AT, "synchronised", signed, SALT))
    return found


@pytest.mark.parametrize("kind", sorted(KINDS | EVENTS))
async def test_the_fields_of_a_kind_are_those_of_the_page(kind: str) -> None:
    always, known = fields_of(kind)
    entries = [entry for leaf in await every_leaf() if (entry := json.loads(leaf.entry))["kind"] == kind]
    assert entries
    assert set.intersection(*(set(entry) for entry in entries)) == always
    assert set.union(*(set(entry) for entry in entries)) == always | known


def test_the_kinds_are_those_the_service_writes() -> None:
    described = {kind for cells in rows("kind") for kind in named(cells[0])}
    assert described == KINDS | EVENTS
    written = set()
    for path in (REPOSITORY / "cryptosvc").rglob("*.py"):
        text = path.read_text()
        written |= set(re.findall(r'Observed\(\s*kind="([\w-]+)"', text))
        written |= set(
            re.findall(
                r'(?:Tally\(application\.observer, |happened\(|_say_leaves\(floor, \()"([\w-]+)"', text
            )
        )
    assert written == EVENTS


async def test_what_is_withheld_is_on_the_page() -> None:
    described = {name for cells in rows("name") for name in named(cells[0])}
    assert described == record.WITHHELD_FACTS | {
        "principal",
        "peer",
        "user_id",
        "caller",
        "custodian",
        "document",
        "genesis",
        "query",
        "policy_files",
        "device_key",
        "second_device_key",
        "review",
        "incident",
    }
    leaves = await every_leaf()
    seen = {name for leaf in leaves if leaf.withheld for name in json.loads(leaf.withheld)}
    assert described - {"duis_response_id"} == seen


async def test_outcomes_and_how_a_salt_is_made_are_as_the_page_says() -> None:
    outcomes = {
        entry["outcome"] for leaf in await every_leaf() if "outcome" in (entry := json.loads(leaf.entry))
    }
    (said,) = [cells[3] for cells in rows("field") if cells[0] == "`outcome`"]
    assert named(said) == outcomes
    assert f'`"v":{commitments.ENTRY_VERSION}`' in PAGE
    assert "the next 16 of SHAKE128(S)" in " ".join(PAGE.split())


def test_the_rules_of_verification_are_on_the_page() -> None:
    described = {rule for cells in rows("rule") for rule in named(cells[0])}
    raised = set()
    for file in (
        "core/evidence.py",
        "core/entries.py",
        "core/history.py",
        "core/checkpoint.py",
        "adapters/export.py",
        "adapters/export_chunks.py",
        "core/erased.py",
    ):
        text = (REPOSITORY / "cryptosvc" / file).read_text()
        raised |= set(re.findall(r'rule="([a-z/-]+)"', text))
    assert described == raised - {"registry/document"}  # caught, and told as export/record-leaf


def test_the_rules_of_bundles_are_on_the_page() -> None:
    described = {rule for cells in rows("bundle rule") for rule in named(cells[0])}
    raised = set()
    for file in (
        "core/bundle.py",
        "core/bundle_judge.py",
        "adapters/evidence_bundle.py",
        "wiring/bundling.py",
    ):
        text = (REPOSITORY / "cryptosvc" / file).read_text()
        raised |= set(re.findall(r'rule="(bundle/[a-z/-]+)"', text))
    raised.remove("bundle/maker")  # of whoever makes one
    assert {rule for rule in described if rule.startswith("bundle/")} == raised
    script = set(re.findall(r'"([a-z]+/[a-z-]+)"', (REPOSITORY / "scripts" / "verify_log.py").read_text()))
    checkpoints = {"checkpoint/form", "checkpoint/origin", "checkpoint/unsigned", "checkpoint/signature"}
    assert script <= described | {rule for cells in rows("rule") for rule in named(cells[0])} | checkpoints
