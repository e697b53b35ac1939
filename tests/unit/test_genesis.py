"""A signed genesis: everyone it names signed it, nobody else did, and it brings nothing but what a beginning needs."""

import hashlib
from dataclasses import replace

import orjson
import pytest

from cryptosvc.core import dsse, genesis
from cryptosvc.core.custody import Rules
from cryptosvc.core.errors import Corrupt, CryptosvcError, Forbidden, Malformed
from cryptosvc.core.founding import SHORTCUT, Founding, genesis_leaf
from cryptosvc.core.genesis import GENESIS_TYPE, Genesis
from cryptosvc.core.life import Asset
from cryptosvc.core.names import CallerId, Environment, UnixNanoseconds
from cryptosvc.core.record import Because, Scope
from cryptosvc.core.registry import Grant, KeyState
from cryptosvc.core.replay import replayed
from tests.claims import caller_record, key_record
from tests.fakes.ledger import FakeKeys, FakeLedger
from tests.govern_stand import change_of
from tests.governance import NOW, ORIGIN, POLICY_DIGEST, SYSTEM, Person, person
from tests.store_stand import SetClock

PEOPLE = [person(name) for name in ("ada", "ben", "cat", "dan")]
SCOPE = Scope(system=SYSTEM, environment="test", worker="w", software="s")


def begun(**changes: object) -> Genesis:
    keys = tuple(
        replace(
            key_record(label=name, key_class=key_class),
            system=SYSTEM,
            asset=Asset(label=name, classification="secret", responsible="Ada"),
        )
        for name, key_class in (("log-head", "log-authentication"), ("log-audit", "audit-signing"))
    )
    office = replace(
        caller_record(),
        caller_id=CallerId("office"),
        system=SYSTEM,
        grants=(Grant(operation="govern", key_class="*"),),
    )
    found = Genesis(
        system=SYSTEM,
        environment=Environment.TEST,
        origin=ORIGIN,
        policy_digest=POLICY_DIGEST,
        made_at=NOW,
        custodians=tuple(one.record for one in PEOPLE),
        callers=(office,),
        keys=keys,
    )
    return replace(found, **changes)  # type: ignore[arg-type]  # a test's keywords


def signed(made: Genesis, people: list[Person] = PEOPLE, octets: bytes = b"") -> bytes:
    payload = octets or genesis.emit(made)
    signatures = tuple(dsse.parse(one.sign(GENESIS_TYPE, payload)).signatures[0] for one in people)
    return dsse.emit(dsse.Envelope(GENESIS_TYPE, payload, signatures))


def test_what_everyone_signed_is_read_as_it_was_drawn_up():
    made = begun()
    assert genesis.read_signed(signed(made)) == made
    assert genesis.parse(genesis.emit(made)) == made
    assert genesis.digest(made) == hashlib.sha256(genesis.emit(made)).hexdigest()


@pytest.mark.parametrize("missing", range(4))
def test_each_signature_counts(missing: int):
    with pytest.raises(Forbidden) as refused:
        genesis.read_signed(signed(begun(), PEOPLE[:missing] + PEOPLE[missing + 1 :]))
    assert refused.value.rule == "genesis/signatures"
    assert PEOPLE[missing].record.custodian_id in refused.value.message


def test_a_strangers_signature_and_a_forged_one_spoil_it():
    with pytest.raises(Forbidden) as refused:
        genesis.read_signed(signed(begun(), [*PEOPLE, person("mallory")]))
    assert refused.value.rule == "dsse/unknown-key"
    impostor = Person(PEOPLE[0].record, person("mallory").key)
    with pytest.raises(Forbidden) as refused:
        genesis.read_signed(signed(begun(), [impostor, *PEOPLE[1:]]))
    assert refused.value.rule == "dsse/signature"


@pytest.mark.parametrize(
    "edit", [(b'"v":1', b'"v":2'), (b'"v":1', b'"v": 1'), (b'"callers":[', b'"caller":[')]
)
def test_a_document_in_another_form_is_none(edit: tuple[bytes, bytes]):
    octets = genesis.emit(begun()).replace(*edit)
    with pytest.raises(Malformed) as refused:
        genesis.read_signed(signed(begun(), octets=octets))
    assert refused.value.rule == "genesis/form"


def test_an_approval_is_no_genesis():
    envelope = PEOPLE[0].sign("application/vnd.cryptosvc.statement.v1+json", genesis.emit(begun()))
    with pytest.raises(Malformed):
        genesis.read_signed(envelope)


OFFICE = begun().callers[0]
KEY = begun().keys[0]
ADA = PEOPLE[0].record


@pytest.mark.parametrize(
    "changes",
    [
        {"custodians": tuple(one.record for one in PEOPLE[:2])},
        {"custodians": (ADA, replace(PEOPLE[1].record, person=ADA.person), *(p.record for p in PEOPLE[2:]))},
        {"custodians": tuple(replace(one.record, version=2) for one in PEOPLE)},
        {"custodians": tuple(replace(one.record, system="other") for one in PEOPLE)},
        {"callers": (replace(OFFICE, grants=(Grant(operation="sign", key_class="root-oca"),)),)},
        {
            "callers": (
                replace(
                    OFFICE,
                    grants=(Grant(operation="sign", key_class="root-oca", key_ids=frozenset({"root"})),),
                ),
            )
        },
        {"callers": (OFFICE, OFFICE)},
        {"keys": (replace(KEY, key_class="command-signing"),)},
        {"keys": (replace(KEY, public_point=b"\x04" * 65),)},
        {"keys": (replace(KEY, state=KeyState.SUSPENDED),)},
        {"keys": (replace(KEY, environment=Environment.LIVE),)},
        {"keys": (replace(KEY, asset=replace(KEY.asset, classification="")),)},
        {"keys": (replace(KEY, asset=replace(KEY.asset, responsible=" ")),)},
    ],
)
def test_a_beginning_brings_nothing_that_belongs_under_dual_control(changes: dict[str, object]):
    made = begun(**changes)
    people = [one for one in PEOPLE if one.record.key in {found.key for found in made.custodians}]
    with pytest.raises(Forbidden) as refused:
        genesis.read_signed(signed(made, people))
    assert refused.value.rule == "genesis/records"


def test_first_custodians_are_held_to_the_rules_like_any():
    genesis.require_people(begun(), Rules())
    unchecked = begun(custodians=(replace(ADA, security_check_on=None), *(one.record for one in PEOPLE[1:])))
    with pytest.raises(Forbidden) as refused:
        genesis.require_people(unchecked, Rules())
    assert refused.value.rule == "custody/security-check"
    genesis.require_people(unchecked, Rules(security_check=False))


def entry_0(founding: Founding, scope: Scope = SCOPE) -> tuple[dict[str, object], str]:
    leaf = genesis_leaf(ORIGIN, scope, UnixNanoseconds(5), "synchronised", founding, bytes(16))
    beside = orjson.loads(leaf.withheld)["genesis"][1] if leaf.withheld else ""
    return orjson.loads(leaf.entry), beside


def test_entry_0_names_the_genesis_and_keeps_it_beside():
    made = begun()
    entry, beside = entry_0(Founding(signed(made), genesis.digest(made), shortcut=False))
    assert (entry["genesis"], entry["shortcut"], entry["operation"]) == (genesis.digest(made), False, "found")
    assert genesis.begun_by(entry, beside) == made


def test_without_a_genesis_entry_0_says_so_and_in_live_it_is_no_shortcut():
    entry, beside = entry_0(SHORTCUT)
    assert (entry["shortcut"], "genesis" in entry) == (True, False)
    assert genesis.begun_by(entry, beside) is None
    live = replace(SCOPE, environment="live")
    assert entry_0(SHORTCUT, live)[0]["shortcut"] is False


@pytest.mark.parametrize("what", ["gone", "another", "unsigned", "other-log"])
def test_a_genesis_that_does_not_hold_is_found(what: str):
    made = begun()
    entry, beside = entry_0(Founding(signed(made), genesis.digest(made), shortcut=False))
    other = begun(made_at=NOW + 1)
    match what:
        case "gone":
            beside = ""
        case "another":
            beside = signed(other).decode()
        case "unsigned":
            beside = signed(made, PEOPLE[1:]).decode()
        case _:
            entry["origin"] = "example.test/other"
    with pytest.raises(Corrupt) as refused:
        genesis.begun_by(entry, beside)
    assert refused.value.rule == "genesis/entry"


async def test_the_log_derives_what_the_genesis_names_and_no_more():
    made = begun()
    ledger = FakeLedger(ORIGIN, SCOPE, SetClock(NOW * 1_000_000_000))
    keys = FakeKeys(ledger)
    because = Because("genesis", genesis.digest(made))
    points = {"log-head": b"", "log-audit": b"\x04" * 65}
    await keys.change(genesis.records(made, points), because)
    changes = [found for index, leaf in enumerate(ledger.leaves) if (found := change_of(index, leaf))]
    named = genesis.documents(made)
    assert replayed(changes, "live", named).records == ledger.records
    for forged in (
        replace(changes[0], document={**changes[0].document, "clearance": "none"}),
        replace(changes[-1], document={**changes[-1].document, "label": "another"}),
    ):
        with pytest.raises(CryptosvcError) as refused:
            replayed([forged], "live", named)
        assert refused.value.rule == "replay/genesis"
    with pytest.raises(Corrupt):
        replayed([*changes, changes[0]], "live", named)
