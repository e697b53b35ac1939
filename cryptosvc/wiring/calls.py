"""The command line as a caller: answers of the client package as documents, its errors as those of core."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import orjson

from cryptosvc.cli.actions import Answer, Ask, Connection, Document
from cryptosvc.client import errors as client_errors
from cryptosvc.client.calls import Client, request
from cryptosvc.client.channels import Target
from cryptosvc.core import checkpoint as notes
from cryptosvc.core.canonical import JsonValue
from cryptosvc.core.errors import (
    AwaitingApproval,
    Busy,
    Conflict,
    Corrupt,
    CryptosvcError,
    Forbidden,
    Internal,
    Malformed,
    OutcomeUnknown,
    Unavailable,
    Unidentified,
    WrongState,
)
from cryptosvc.core.merkle import leaf_hash, verify_inclusion
from cryptosvc.pb.v1 import crypto_pb2, keys_pb2, types_pb2
from cryptosvc.wiring.profiles import read_octets

_CLASSES: Mapping[type[client_errors.CallError], type[CryptosvcError]] = {
    client_errors.InvalidRequest: Malformed,
    client_errors.Unidentified: Unidentified,
    client_errors.NotPermitted: Forbidden,
    client_errors.AwaitingApproval: AwaitingApproval,
    client_errors.WrongState: WrongState,
    client_errors.Conflict: Conflict,
    client_errors.Repeated: Conflict,
    client_errors.Busy: Busy,
    client_errors.Unavailable: Unavailable,
    client_errors.OutcomeUnknown: OutcomeUnknown,
    client_errors.Corrupt: Corrupt,
    client_errors.Fault: Internal,
    client_errors.Unreachable: Unavailable,
    client_errors.TimedOut: OutcomeUnknown,
}
_CONNECTIONS = 1
"""The command line makes a call or two; a pool is for programs."""


def sign(connection: Connection, ask: Ask) -> Answer:
    """Sign one thing."""
    with client_of(connection) as client:
        question = _question(ask)
        signed = client.sign(question)
    return Answer(
        artefact=signed.artefact,
        signature=signed.signature,
        clause=signed.clause,
        request_id=question.request_id,
        receipt=receipt_document(signed.receipt),
    )


def explain(connection: Connection, ask: Ask) -> Document:
    """Ask whether it would be signed."""
    with client_of(connection) as client:
        return explanation(client.explain(_question(ask)))


def explanation(found: crypto_pb2.ExplainResponse) -> Document:
    """An answer of Explain as commands print it."""
    document: dict[str, JsonValue] = {
        "permitted": found.permitted,
        "content_kind": found.content_kind,
        "facts": dict(sorted(found.facts.items())),
        "clause": found.clause,
        "policies": tuple(found.policies),
        "policy_digest": found.policy_digest,
    }
    if not found.permitted:
        refusal = client_errors.from_status(found.refusal)
        document["refusal"] = {"rule": refusal.rule, "field": refusal.field, "message": refusal.message}
    document["receipt"] = receipt_document(found.receipt)
    return document


def keys(connection: Connection) -> Sequence[Document]:
    """Every key the caller may use."""
    with client_of(connection) as client:
        return [_key(key) for key in client.list_keys()]


def key(connection: Connection, key_id: str) -> Document:
    """One of them."""
    with client_of(connection) as client:
        return _key(client.get_key(key_id))


def checkpoint(connection: Connection) -> Document:
    """The newest checkpoint."""
    with client_of(connection) as client:
        note = client.get_checkpoint()
    read = notes.parse(note).checkpoint
    return {"origin": read.origin, "size": read.size, "root": read.root.hex(), "note": note.decode()}


def entry(connection: Connection, leaf_index: int) -> Document:
    """One entry."""
    with client_of(connection) as client:
        found = client.get_entry(leaf_index)
    withheld = orjson.loads(found.withheld) if found.withheld else {}
    return {
        "leaf_index": found.leaf_index,
        "leaf_hash": leaf_hash(found.entry).hex(),
        "entry": orjson.loads(found.entry),
        "withheld": {name: value for name, (_, value) in withheld.items()},
    }


def prove(connection: Connection, leaf_index: int) -> Document:
    """Prove an entry against the newest checkpoint; the proof is verified here.

    Raises:
        Unavailable: no checkpoint covers the entry yet.
        Corrupt: the proof does not verify.

    """
    with client_of(connection) as client:
        read = notes.parse(client.get_checkpoint()).checkpoint
        if leaf_index >= read.size:
            raise Unavailable(
                f"the newest checkpoint signs {read.size} entries, so entry {leaf_index} is not covered yet; "
                "try again in a minute",
                rule="audit/not-covered",
            )
        proof = client.prove_inclusion(leaf_index, read.size)
    verify_inclusion(proof.leaf_hash, leaf_index, read.size, list(proof.hashes), read.root)
    return {
        "verified": True,
        "leaf_index": leaf_index,
        "leaf_hash": proof.leaf_hash.hex(),
        "tree_size": read.size,
        "root": read.root.hex(),
        "hashes": tuple(found.hex() for found in proof.hashes),
    }


@contextmanager
def client_of(connection: Connection) -> Iterator[Client]:
    """A client for a command; what its calls raise is said in our own classes."""
    target = Target(
        connection.target,
        read_octets(connection.ca, "--ca"),
        read_octets(connection.certificate, "--cert"),
        read_octets(connection.private_key, "--key"),
        connections=_CONNECTIONS,
    )
    try:
        with Client(target) as client:
            yield client
    except client_errors.CallError as error:
        raise _core(error, connection.target) from None


def _core(error: client_errors.CallError, target: str) -> CryptosvcError:
    message = error.message
    if isinstance(error, client_errors.Unreachable):
        message = f"{target} cannot be reached, or refused the TLS handshake: {message}"
    if isinstance(error, client_errors.Repeated) and error.first_use is not None:
        message += f" (first use: log entry {error.first_use.receipt.leaf_index})"
    return _CLASSES[type(error)](
        message,
        rule=error.rule or "call/" + type(error).__name__.lower(),
        clause=error.clause,
        field=error.field,
        policies=error.policies,
    )


def _question(ask: Ask) -> crypto_pb2.SignRequest:
    question = request(
        ask.key_id,
        request_id=ask.request_id,
        service_reference_variant=ask.statement.service_reference_variant,
        user_id=ask.statement.user_id,
        user_role=ask.statement.user_role,
        supply_sensitive_check=ask.supply_sensitive_check,
    )
    setattr(question, ask.form.value, ask.payload)
    return question


def receipt_document(receipt: types_pb2.Receipt) -> Document:
    """A receipt as commands print it."""
    return {
        "origin": receipt.origin,
        "leaf_index": receipt.leaf_index,
        "leaf_hash": receipt.leaf_hash.hex(),
        "recorded_at": receipt.recorded_at.ToJsonString(),
    }


def _key(found: keys_pb2.Key) -> Document:
    return {
        "key_id": found.key_id,
        "version": found.version,
        "key_class": found.key_class,
        "state": found.state,
        "role": f"{found.remote_party_role:02X}" if found.HasField("remote_party_role") else "",
        "eui64": found.eui64,
        "system": found.system,
        "environment": found.environment,
        "module": found.module,
        "origin": found.origin,
        "transferable": found.transferable,
        "may_sign": tuple(found.may_sign),
        "public_point": found.public_point.hex(),
        "certificate": found.certificate.hex(),
    }
