"""What the steps of a transfer have in common, on either side: their statement read, their record moved on.

Source: Smart Energy Code G2.22F to G2.22I.
"""

from collections.abc import Collection, Mapping
from dataclasses import replace

import orjson

from cryptosvc.core import lifecycle
from cryptosvc.core.acts.base import Turn, text_of
from cryptosvc.core.canonical import JsonValue, canonical
from cryptosvc.core.custodian import CustodianRecord
from cryptosvc.core.errors import Corrupt, Forbidden, Malformed
from cryptosvc.core.handover import checks
from cryptosvc.core.life import Event, UnixSeconds
from cryptosvc.core.proposal import ProposalRecord
from cryptosvc.core.registry import KeyRecord
from cryptosvc.core.statement import Statement
from cryptosvc.core.transfer import papers, states
from cryptosvc.core.transfer.mechanism import Trust
from cryptosvc.core.transfer.papers import Conditions, Offer, Party, Plan
from cryptosvc.core.transfer.record import TransferRecord
from cryptosvc.core.transfer.states import Side, Step

CLAUSE = "G2.22I"
TRUSTS = (Trust.NONE, Trust.KEPT, Trust.ENFORCED)
"""From what holds a key least to what holds it most."""


def key_names(statement: Statement) -> tuple[tuple[str, str], ...]:
    """Records a step looks at: the keys and the SMKI PMA's approvers that its scope names, or those of its plan."""
    if "plan" in statement.parameters:
        return tuple(("key-record", one.key_id) for one in plan_of(statement).keys)
    scope = scope_of(statement)
    return (
        *(("key-record", one) for one in scope["keys"]),
        *(("custodian-record", one) for one in scope["approved_by"]),
    )


def record(turn: Turn, step: Step) -> TransferRecord | None:
    """The transfer as it stands; WrongState where the step does not follow from that."""
    found = turn.subject("transfer-record")
    before = found if isinstance(found, TransferRecord) else None
    states.after(None if before is None else before.state, step)
    return before


def stepped(turn: Turn, step: Step) -> TransferRecord:
    """The transfer one step on."""
    before = record(turn, step)
    assert before is not None  # every other step than the first of a side has a state to come from
    return before.stepped(step, turn.at)


def begun(statement: Statement, side: Side, step: Step, offered: Offer, at: UnixSeconds) -> TransferRecord:
    """The first version of a transfer on its side."""
    return TransferRecord(
        transfer_id=statement.subject,
        version=1,
        side=side,
        state=states.after(None, step),
        system=statement.system,
        offer=offered,
        steps=((step, at),),
    )


def here(statement: Statement, service_key: str) -> Party:
    """The deployment a statement is for."""
    return Party(statement.system, statement.environment, statement.origin, service_key)


def octets_of(statement: Statement, name: str) -> bytes:
    """A parameter in hex as octets."""
    return bytes.fromhex(text_of(statement, name))


def plan_of(statement: Statement) -> Plan:
    """The plan in a statement; Malformed where it is none."""
    try:
        octets = octets_of(statement, "plan")
        document: Mapping[str, JsonValue] = orjson.loads(octets)
        same = isinstance(document, dict) and canonical(document) == octets
    except ValueError:
        same = False
    if not same:
        raise Malformed(
            "a plan is canonical JSON, in hex", rule="transfer/paper", clause=CLAUSE, field="plan"
        )
    return papers.plan_from_document(document)


def scope_of(statement: Statement) -> Mapping[str, list[str]]:
    """Keys and approvers that a statement names; Malformed where it has no such lists."""
    given = statement.parameters.get("scope")
    found: dict[str, list[str]] = {}
    for name in ("keys", "approved_by"):
        value = given.get(name) if isinstance(given, Mapping) else None
        if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
            raise Malformed(
                "scope has `keys` and `approved_by`, each a list of ids",
                rule="statement/parameters",
                clause=CLAUSE,
                field="scope",
            )
        found[name] = value
    return found


def require_scope(turn: Turn, keys: Collection[str], approved_by: Collection[str] | None) -> None:
    """Require that what the signers saw as keys and approvers is what plan and approval name."""
    scope = scope_of(turn.statement)
    wrong_people = approved_by is not None and scope["approved_by"] != sorted(approved_by)
    if scope["keys"] != sorted(keys) or wrong_people:
        raise refused("the statement names other keys or other approvers than the transfer has", "mixed")


def keys_of(turn: Turn) -> Mapping[str, KeyRecord]:
    """Key records the act may look at, by id."""
    return {one.key_id: one for one in turn.records.values() if isinstance(one, KeyRecord)}


def custodians_of(turn: Turn) -> list[CustodianRecord]:
    """Custodian records the act may look at."""
    return [one for one in turn.records.values() if isinstance(one, CustodianRecord)]


def require_attended(turn: Turn, conditions: Conditions, at_least: int) -> None:
    """Require who the approval asks to be there; refusals as `checks.require_attended`."""
    statement = turn.statement
    mine = next(
        (
            one
            for one in turn.records.values()
            if isinstance(one, ProposalRecord) and one.statement == statement
        ),
        None,
    )
    # while it is only being proposed nobody can have approved it yet
    people = at_least if mine is None else len({one.custodian_id for one in mine.endorsements[1:]})
    attended = statement.parameters.get("attended")
    document = attended if isinstance(attended, Mapping) else {}
    witnesses, attested = document.get("witnesses", []), document.get("attested", {})
    if not isinstance(witnesses, list) or not isinstance(attested, Mapping):
        raise Malformed(
            "attended has `witnesses`, a list of names, and `attested`, condition to name",
            rule="statement/parameters",
            clause=CLAUSE,
            field="attended",
        )
    names = [str(one) for one in witnesses]
    said = {name: str(value) for name, value in attested.items()}
    checks.require_attended(conditions, people, at_least, names, said)


def require_destroyed(made: Mapping[str, str]) -> None:
    """Require that the module destroyed the transport key and was asked again."""
    if made.get("transport_left") != "0":
        raise Corrupt(
            "the transport key was not destroyed, or the module was not asked again",
            rule="transfer/not-destroyed",
            clause=CLAUSE,
        )


def kept(made: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """What of the module's facts the record keeps; who had to approve stands in the proposal."""
    return tuple(sorted((name, value) for name, value in made.items() if not name.startswith("needed_")))


def from_destination(turn: Turn, found: TransferRecord, name: str, kind: str) -> Mapping[str, JsonValue]:
    """A statement of the destination's service, by the key that signed its offer."""
    key = octets_of(turn.statement, "destination_key")
    if checks.fingerprint(key) != found.offer.party.service_key:
        raise refused("it is signed by another key than the offer was", "other-signer")
    return checks.read_statement(octets_of(turn.statement, name), key, kind)


def refused(what: str, rule: str, clause: str = CLAUSE) -> Forbidden:
    """Forbidden, with a rule of transfers."""
    return Forbidden(what, rule=f"transfer/{rule}", clause=clause)


def key_after(key: KeyRecord, event: Event, at: UnixSeconds) -> KeyRecord:
    """A key one version on, after an event."""
    _, rule = lifecycle.effective(key, at)
    now = lifecycle.materialised(key, at, rule) or key
    return replace(
        now, version=key.version + 1, state=lifecycle.after(now.state, event), life=now.life.passed(event, at)
    )
