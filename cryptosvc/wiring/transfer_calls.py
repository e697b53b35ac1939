"""`transfer list | fetch`: what a running service says of transfers, over gRPC."""

from pathlib import Path

from cryptosvc.cli.actions import Connection, Document
from cryptosvc.client.errors import WrongState
from cryptosvc.client.transfers import Transfers
from cryptosvc.core.handover import checks
from cryptosvc.core.transfer import papers
from cryptosvc.pb.v1 import transfer_pb2 as pb
from cryptosvc.wiring.calls import client_of
from cryptosvc.wiring.transfer_papers import NAMES, write

_OF_DESTINATION = frozenset({papers.OFFER, papers.RECEIPT, papers.NOT_IMPORTED})


def transfers(connection: Connection) -> list[Document]:
    """Every transfer, and how far it is."""
    with client_of(connection) as client:
        return [_shown(one) for one in Transfers(client).transfers()]


def fetch(connection: Connection, transfer_id: str, folder: Path) -> Document:
    """Write what the service has to say of a transfer as it stands, and its part of the log, into the folder.

    Raises:
        CallError: as the service answers; that it has nothing to say is none.

    """
    written: list[str] = []
    with client_of(connection) as client:
        asked = Transfers(client)
        found = asked.transfer(transfer_id)
        try:
            said = asked.statement(transfer_id)
        except WrongState as nothing:
            statement, why = "", nothing.rule
        else:
            statement, why = said.type, ""
            written.append(write(folder / NAMES[said.type], said.envelope))
            mine = "destination.key" if said.type in _OF_DESTINATION else "source.key"
            written.append(write(folder / mine, said.service_key))
        evidence = asked.evidence(transfer_id)
        written.append(write(folder / f"{evidence.side}-log.json", evidence.bundle))
    key = {"service_key_sha256": checks.fingerprint(said.service_key)} if statement else {"not_said": why}
    return {**_shown(found), "statement": statement, **key, "written": written}


def _shown(found: pb.Transfer) -> Document:
    moving = found.device_keys
    return {
        "transfer": found.transfer_id,
        "side": found.side,
        "state": found.state,
        "version": found.version,
        "dispose_by": found.dispose_by.ToJsonString() if found.HasField("dispose_by") else "",
        "device_keys": f"{moving.work} {moving.state}: {moving.position} of {moving.keys}"
        if found.HasField("device_keys")
        else "",
    }
