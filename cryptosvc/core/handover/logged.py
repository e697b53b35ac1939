"""A transfer as one side's log has it: its record and the acts that led there, each with its proof to a checkpoint.

Nothing but the bundle and the log's public key is needed to verify one. The record holds plan, approval and what the
modules gave; each act holds who proposed and who approved it, with their signatures.

Source: RFC 6962 2.1.1; C2SP tlog-checkpoint; Smart Energy Code G2.22I, G2.27.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import orjson

from cryptosvc.core import checkpoint
from cryptosvc.core.canonical import JsonValue, canonical, digest
from cryptosvc.core.documents import mapping, mappings, number, text, texts
from cryptosvc.core.errors import Corrupt, CryptosvcError
from cryptosvc.core.merkle import leaf_hash, verify_inclusion
from cryptosvc.core.proposal import ProposalRecord, ProposalState
from cryptosvc.core.registry import Record, record_document, record_from_document, record_id, record_kind
from cryptosvc.core.transfer.record import TransferRecord

VERSION = 1
_ACT = "transfer."


@dataclass(frozen=True, slots=True)
class Proven:
    """A record, the entry of the log that commits to it, and the proof of that entry.

    Args:
        record: a transfer or a proposal.
        leaf_index: from 0.
        entry: canonical JSON.
        proof: RFC 6962 audit path in the tree the checkpoint signs.

    """

    record: Record
    leaf_index: int
    entry: bytes
    proof: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Logged:
    """What a bundle that verified says.

    Args:
        origin: of the log.
        size: entries that its checkpoint signs.
        transfer: the record.
        acts: on the transfer, carried out; in the order of the log.

    """

    origin: str
    size: int
    transfer: TransferRecord
    acts: tuple[ProposalRecord, ...]


def bundle(origin: str, note: bytes, records: Sequence[Proven]) -> bytes:
    """Write a bundle: canonical JSON."""
    listed: list[JsonValue] = [
        {
            "document": record_document(one.record),
            "entry": one.entry.decode(),
            "kind": record_kind(one.record),
            "leaf_index": one.leaf_index,
            "proof": [step.hex() for step in one.proof],
        }
        for one in records
    ]
    return canonical({"v": VERSION, "origin": origin, "checkpoint": note.decode(), "records": listed})


def verify(octets: bytes, log_key: bytes) -> Logged:
    """Verify a bundle under the log's public key (SubjectPublicKeyInfo DER).

    Raises:
        Corrupt: `transfer/log`, saying what does not hold.

    """
    try:
        document: Mapping[str, JsonValue] = orjson.loads(octets)
        if number(document, "v") != VERSION:
            raise _broken("it is of another version")
        origin = text(document, "origin")
        signed = checkpoint.verify(text(document, "checkpoint").encode(), origin, log_key)
        proven = [_proven(one) for one in mappings(document, "records")]
        for one in proven:
            _require_in_log(one, signed)
        if bundle(origin, text(document, "checkpoint").encode(), proven) != octets:
            raise _broken("it is not as it is printed")
    except Corrupt:
        raise
    except (CryptosvcError, orjson.JSONDecodeError, KeyError, TypeError, ValueError) as error:
        raise _broken(error.message if isinstance(error, CryptosvcError) else "a field is missing") from None
    return _sorted(origin, signed.size, [one.record for one in proven])


def _sorted(origin: str, size: int, records: Sequence[Record]) -> Logged:
    transfers = [one for one in records if isinstance(one, TransferRecord)]
    acts = [one for one in records if isinstance(one, ProposalRecord)]
    if len(transfers) != 1 or len(acts) + 1 != len(records):
        raise _broken("it is about one transfer and the acts on it")
    (transfer,) = transfers
    wanted = [f"{_ACT}{step.value}" for step, _ in transfer.steps]
    done = [one.statement.act for one in acts if one.state is ProposalState.DONE]
    about = {one.statement.subject for one in acts}
    if done != wanted or about != {transfer.transfer_id} or len(done) != len(acts):
        raise _broken("the acts are not those that its record took, in their order")
    return Logged(origin, size, transfer, tuple(acts))


def _proven(found: Mapping[str, JsonValue]) -> Proven:
    return Proven(
        record_from_document(text(found, "kind"), mapping(found, "document")),
        number(found, "leaf_index"),
        text(found, "entry").encode(),
        tuple(bytes.fromhex(one) for one in texts(found, "proof")),
    )


def _require_in_log(one: Proven, signed: checkpoint.Checkpoint) -> None:
    entry: Mapping[str, JsonValue] = orjson.loads(one.entry)
    kind = record_kind(one.record)
    said = (entry.get("kind"), entry.get(kind.removesuffix("-record")), entry.get("record_digest"))
    if said != (kind, record_id(one.record), digest(record_document(one.record)).hex()):
        raise _broken(f"entry {one.leaf_index} commits to something else")
    verify_inclusion(leaf_hash(one.entry), one.leaf_index, signed.size, one.proof, signed.root)


def _broken(what: str) -> Corrupt:
    return Corrupt(f"the log's part does not hold: {what}", rule="transfer/log", clause="G2.27")
