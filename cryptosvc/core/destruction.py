"""Destruction certificates: proof for anybody that a key was destroyed, when, where, and who approved it (G5.13(b)).

A certificate carries two entries of the log whole: the one that says the key's record is destroyed, and the one that
says the proposal was carried out, with the documents both commit to and the evidence the module gave. A signed
checkpoint and two inclusion proofs tie them to the log; a service-signing key signs the lot.

Nothing but the certificate, the service's public key and the log's public key is needed to verify one.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import orjson

from cryptosvc.core import checkpoint, dsse
from cryptosvc.core.canonical import JsonValue, canonical, digest
from cryptosvc.core.content import service_statement
from cryptosvc.core.copies import FIELD, accounts
from cryptosvc.core.documents import mapping, number, text, texts
from cryptosvc.core.errors import Corrupt, CryptosvcError
from cryptosvc.core.merkle import leaf_hash, verify_inclusion
from cryptosvc.core.proposal import ProposalRecord, ProposalState, proposal_document, proposal_from_document
from cryptosvc.core.registry import KeyRecord, KeyState, key_document, key_from_document
from cryptosvc.core.statement import Statement

TYPE = "destruction-certificate"
ACT = "key.destroy"


@dataclass(frozen=True, slots=True)
class ProvenEntry:
    """An entry of the log with its place and its proof.

    Args:
        leaf_index: from 0.
        entry: canonical JSON.
        proof: RFC 6962 audit path in the tree the checkpoint signs.

    """

    leaf_index: int
    entry: bytes
    proof: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Destroyed:
    """What a certificate that verified says.

    Args:
        key: the key's record as it ended.
        proposal: the act, with everyone who signed it.
        size: number of entries of the log the checkpoint signs.

    """

    key: KeyRecord
    proposal: ProposalRecord
    size: int


def payload(
    key: KeyRecord,
    key_entry: ProvenEntry,
    proposal: ProposalRecord,
    act_entry: ProvenEntry,
    note: bytes,
    origin: str,
) -> bytes:
    """What the service-signing key signs: canonical JSON."""
    statement = proposal.statement
    return canonical(
        {
            "v": service_statement.VERSION,
            "type": TYPE,
            "subject": key.key_id,
            "system": key.system,
            "environment": key.environment.value,
            "origin": origin,
            "clause": statement.clause,
            "reason": statement.reason,
            "destroyed_on": proposal.ended_on,
            "public_key_sha256": hashlib.sha256(key.public_point).hexdigest(),
            "evidence": dict(proposal.outcome),
            "key": key_document(key),
            "proposal": proposal_document(proposal),
            "checkpoint": note.decode(),
            "key_entry": entry_document(key_entry),
            "act_entry": entry_document(act_entry),
        }
    )


def verify(envelope: bytes, service_key: bytes, log_key: bytes) -> Destroyed:
    """Verify a certificate.

    Args:
        envelope: DSSE envelope as it was given out.
        service_key: SubjectPublicKeyInfo DER of the service-signing key.
        log_key: SubjectPublicKeyInfo DER of the log's audit-signing key.

    Raises:
        Corrupt: rule `destruction/…`, naming what does not hold.

    """
    try:
        found = dsse.parse(envelope)
        dsse.verify(found, {dsse.key_id(service_key): service_key})
        document: Mapping[str, JsonValue] = orjson.loads(found.payload)
        if found.payload_type != service_statement.PAYLOAD_TYPE or text(document, "type") != TYPE:
            raise _broken("it is another kind of statement", "type")
        origin = text(document, "origin")
        signed = checkpoint.verify(text(document, "checkpoint").encode(), origin, log_key)
        key = key_from_document(mapping(document, "key"))
        proposal = proposal_from_document(mapping(document, "proposal"))
        key_entry, act_entry = entry_of(document, "key_entry"), entry_of(document, "act_entry")
        require_proven(key_entry, "key-record", key.key_id, key_document(key), signed)
        require_proven(
            act_entry, "proposal-record", proposal.proposal_id, proposal_document(proposal), signed
        )
        note = text(document, "checkpoint").encode()
        if payload(key, key_entry, proposal, act_entry, note, origin) != found.payload:
            raise _broken("it says something that its entries do not", "facts")
    except Corrupt:
        raise
    except (CryptosvcError, orjson.JSONDecodeError, KeyError, TypeError, ValueError) as error:
        what = error.message if isinstance(error, CryptosvcError) else "a field is missing or of another type"
        raise _broken(what, "form") from None
    _require_destroyed(key, proposal, orjson.loads(key_entry.entry).get("because"), origin)
    return Destroyed(key, proposal, signed.size)


def _require_destroyed(key: KeyRecord, proposal: ProposalRecord, because: JsonValue, origin: str) -> None:
    statement = proposal.statement
    evidence = dict(proposal.outcome)
    for what, holds in (
        ("the key's record does not say destroyed", key.state is KeyState.DESTROYED),
        ("its subject is another key", key.key_id == statement.subject),
        ("the record did not change because of this act", because == {"proposal": proposal.proposal_id}),
        (
            "those who signed meant another deployment",
            (statement.system, statement.environment, statement.origin)
            == (key.system, key.environment, origin),
        ),
        ("the act is another", statement.act == ACT and proposal.state is ProposalState.DONE),
        ("the record is not the one the act led to", key.version == statement.subject_version + 1),
        ("the module was not asked again, or still had an object", evidence.get("objects_left") == "0"),
        ("a copy of the key is not accounted for", _is_accounted(key, statement)),
    ):
        if not holds:
            raise _broken(what, "facts")


def _is_accounted(key: KeyRecord, statement: Statement) -> bool:
    """Whether those who approved said of every copy what became of it."""
    said = statement.parameters.get(FIELD, "")
    return set(accounts(said if isinstance(said, str) else "")) == set(key.life.backups)


def require_proven(
    found: ProvenEntry,
    kind: str,
    record_id: str,
    record: Mapping[str, JsonValue],
    signed: checkpoint.Checkpoint,
) -> None:
    """The entry commits to the record, and is in the log the checkpoint signs."""
    entry: Mapping[str, JsonValue] = orjson.loads(found.entry)
    name = kind.removesuffix("-record")
    if (entry.get("kind"), entry.get(name), entry.get("record_digest")) != (
        kind,
        record_id,
        digest(record).hex(),
    ):
        raise _broken(f"the entry of the {kind} commits to something else", "entry")
    verify_inclusion(leaf_hash(found.entry), found.leaf_index, signed.size, found.proof, signed.root)


def entry_of(document: Mapping[str, JsonValue], name: str) -> ProvenEntry:
    """Read a proven entry; KeyError, TypeError, ValueError where it is none."""
    found = mapping(document, name)
    proof = tuple(bytes.fromhex(one) for one in texts(found, "proof"))
    return ProvenEntry(number(found, "leaf_index"), text(found, "entry").encode(), proof)


def entry_document(found: ProvenEntry) -> dict[str, JsonValue]:
    """Print a proven entry."""
    proof: Sequence[str] = [one.hex() for one in found.proof]
    return {"leaf_index": found.leaf_index, "entry": found.entry.decode(), "proof": proof}


def _broken(what: str, rule: str) -> Corrupt:
    return Corrupt(
        f"the destruction certificate does not hold: {what}", rule=f"destruction/{rule}", clause="G5.13(b)"
    )
