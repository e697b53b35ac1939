"""`propose`, `approve`, `withdraw`, `submit`, `execute` and the registers, behind the command line.

What is signed is made and signed on the custodian's own machine; only statements and envelopes travel.
"""

import secrets
from collections.abc import Mapping, Sequence

import orjson

from cryptosvc.adapters.clock import SystemClock
from cryptosvc.adapters.hsm import card
from cryptosvc.cli.actions import Connection, Document, Draft, Signed
from cryptosvc.client.governance import Governance
from cryptosvc.core import dsse
from cryptosvc.core import statement as statements
from cryptosvc.core.acts.base import require_parameters
from cryptosvc.core.acts.table import act as act_named
from cryptosvc.core.canonical import JsonValue
from cryptosvc.core.errors import Malformed
from cryptosvc.core.life import NANOSECONDS, UnixSeconds
from cryptosvc.core.names import Environment, SystemName
from cryptosvc.core.quorum import withdrawal_payload
from cryptosvc.core.statement import STATEMENT_TYPE, WITHDRAWAL_TYPE, Statement
from cryptosvc.pb.v1 import governance_pb2 as pb
from cryptosvc.wiring.calls import client_of, receipt_document

_NONCE_OCTETS = 16


def setting(connection: Connection) -> Document:
    """What a statement has to name to be accepted by the service."""
    with client_of(connection) as client:
        found = Governance(client).setting()
    return {
        "system": found.system,
        "environment": found.environment,
        "origin": found.origin,
        "policy_digest": found.policy_digest,
        "longest_open_seconds": found.longest_open_seconds,
    }


def draft(connection: Connection | None, asked: Draft) -> tuple[bytes, bytes, Document | None]:
    """Make a statement and sign it as its proposer: statement, envelope, and the subject's record where there is one.

    Raises:
        Malformed: act or parameters, as `require_parameters`; the setting lacks something; nobody is named as
            proposer and the key is no registered custodian's.

    """
    act = act_named(asked.act)
    with card.open_key(asked.key) as key:
        here = setting(connection) if connection is not None else asked.setting
        record, proposer = None, asked.proposer
        if connection is not None:
            record = None if act.alone else _record(connection, act.kind, asked.subject)
            proposer = proposer or _custodian(connection, dsse.key_id(key.spki))
        statement = _statement(asked, here, record, proposer)
        require_parameters(act, statement)
        octets = statements.emit(statement)
        statements.parse(octets)
        return octets, _envelope(key, STATEMENT_TYPE, octets), record


def _statement(asked: Draft, here: Document, record: Document | None, proposer: str) -> Statement:
    now = SystemClock().now().at // NANOSECONDS
    version = asked.version if record is None else record["version"]
    if not proposer:
        raise Malformed(
            "name the custodian who proposes: --as ID", rule="config/proposer", field="proposed_by"
        )
    try:
        return Statement(
            act=asked.act,
            subject=asked.subject,
            subject_version=version if isinstance(version, int) else 0,
            parameters=asked.parameters,
            clause=act_named(asked.act).clause,
            reason=asked.reason,
            system=SystemName(str(here["system"])),
            environment=Environment(str(here["environment"])),
            origin=str(here["origin"]),
            policy_digest=str(here["policy_digest"]),
            proposed_by=proposer,
            proposed_at=UnixSeconds(now),
            expires_at=UnixSeconds(now + asked.open_seconds),
            nonce=secrets.token_hex(_NONCE_OCTETS),
        )
    except (KeyError, ValueError):
        raise Malformed(
            "the setting has system, environment, origin and policy_digest; `cryptosvc proposal setting` prints it",
            rule="config/setting",
            field="setting",
        ) from None


def sign_statement(key: str, octets: bytes) -> Signed:
    """Sign a statement as it stands."""
    statements.parse(octets)
    with card.open_key(key) as opened:
        return Signed(dsse.key_id(opened.spki), _envelope(opened, STATEMENT_TYPE, octets))


def sign_withdrawal(key: str, proposal_id: str, reason: str) -> Signed:
    """Sign the withdrawal of a proposal."""
    with card.open_key(key) as opened:
        envelope = _envelope(opened, WITHDRAWAL_TYPE, withdrawal_payload(proposal_id, reason))
        return Signed(dsse.key_id(opened.spki), envelope)


def submit(connection: Connection, envelopes: Sequence[bytes]) -> list[Document]:
    """Hand envelopes in: proposals, approvals and withdrawals, each by what it is. In the order given."""
    found: list[Document] = []
    with client_of(connection) as client:
        calls = Governance(client)
        proposers = _proposers(calls)
        for octets in envelopes:
            envelope = dsse.parse(octets)
            if envelope.payload_type == WITHDRAWAL_TYPE:
                name, reason = _withdrawal(envelope.payload)
                answer = calls.withdraw(name, octets, reason)
            elif envelope.payload_type == STATEMENT_TYPE:
                statement = statements.parse(envelope.payload)
                name = statements.proposal_id(statement)
                mine = proposers.get(statement.proposed_by) == envelope.signatures[0].key_id
                answer = calls.propose(envelope.payload, octets) if mine else calls.approve(name, octets)
            else:
                raise Malformed(
                    "this envelope is over no statement and no withdrawal", rule="config/envelope"
                )
            found.append(_proposal(answer))
    return found


def execute(connection: Connection, proposal_id: str) -> Document:
    """Have an approved proposal carried out."""
    with client_of(connection) as client:
        done = Governance(client).execute(proposal_id)
    return {
        **_proposal(done.proposal),
        "records": tuple(orjson.loads(one.document) for one in done.records),
        "receipts": tuple(receipt_document(one) for one in done.receipts),
    }


def proposals(connection: Connection, state: str) -> list[Document]:
    """Every proposal, or those in one state."""
    with client_of(connection) as client:
        return [_proposal(one) for one in Governance(client).proposals(state)]


def proposal(connection: Connection, proposal_id: str) -> tuple[Document, bytes]:
    """One proposal, and its statement."""
    with client_of(connection) as client:
        found = Governance(client).proposal(proposal_id)
    return _proposal(found), found.statement


def records(connection: Connection, kind: str) -> list[Document]:
    """Every record of a kind."""
    with client_of(connection) as client:
        return [orjson.loads(one.document) for one in Governance(client).records(kind)]


def due(connection: Connection, days: int) -> list[Document]:
    """What happens to keys without anybody."""
    with client_of(connection) as client:
        return [
            {"at": one.at.ToJsonString(), "key_id": one.key_id, "event": one.event, "rule": one.rule}
            for one in Governance(client).due(days)
        ]


def _record(connection: Connection, kind: str, subject: str) -> Document | None:
    with client_of(connection) as client:
        found = Governance(client).record(kind, subject)
    return None if found is None else orjson.loads(found.document)


def _custodian(connection: Connection, key_id: str) -> str:
    for one in records(connection, "custodian-record"):
        if dsse.key_id(bytes.fromhex(str(one["key"]))) == key_id:
            return str(one["custodian_id"])
    return ""


def _proposers(calls: Governance) -> Mapping[str, str]:
    documents = [orjson.loads(one.document) for one in calls.records("custodian-record")]
    return {one["custodian_id"]: dsse.key_id(bytes.fromhex(one["key"])) for one in documents}


def _withdrawal(payload: bytes) -> tuple[str, str]:
    try:
        document = orjson.loads(payload)
        name, reason = document["proposal"], document["reason"]
        same = withdrawal_payload(name, reason) == payload
    except (orjson.JSONDecodeError, KeyError, TypeError):
        same = False
    if not same:
        raise Malformed("this is no withdrawal as this version prints it", rule="config/envelope")
    return str(name), str(reason)


def _envelope(key: card.SigningKey, payload_type: str, payload: bytes) -> bytes:
    return dsse.emit(dsse.sign(payload_type, payload, {dsse.key_id(key.spki): key.sign}))


def _proposal(found: pb.Proposal) -> dict[str, JsonValue]:
    statement = statements.parse(found.statement)
    return {
        "proposal_id": found.proposal_id,
        "state": found.state,
        "act": statement.act,
        "subject": statement.subject,
        "sentence": found.sentence,
        "proposed_by": statement.proposed_by,
        "approvals": f"{found.counted} of {found.needed}",
        "roles": tuple(found.roles),
        "signed_by": tuple(one.custodian_id for one in found.endorsements),
        "expires_at": found.expires_at.ToJsonString(),
        "outcome": dict(sorted(found.outcome.items())),
    }
