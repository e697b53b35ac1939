"""`transfer approval | sign-approval | verify`: what the SMKI PMA and whoever looks later do off-line, with the papers alone."""

import hashlib
from pathlib import Path

from cryptosvc.adapters.hsm import card
from cryptosvc.cli.actions import Document
from cryptosvc.config.transfer import read_conditions
from cryptosvc.core import dsse
from cryptosvc.core.canonical import canonical, digest
from cryptosvc.core.handover import checks, dossier
from cryptosvc.core.handover.beside import Blob
from cryptosvc.core.transfer import papers
from cryptosvc.core.transfer.papers import APPROVAL_TYPE, Approval
from cryptosvc.wiring.exporting import public_key_der as read_public_key
from cryptosvc.wiring.profiles import read_octets
from cryptosvc.wiring.transfer_papers import (
    APPROVAL,
    APPROVED,
    NAMES,
    PLAN,
    object_of,
    offer_in,
    plan_in,
    write,
)

_HEADING_OCTETS = 1024


def approval(conditions_file: Path, folder: Path) -> Document:
    """Draw up the SMKI PMA's approval of the plan and offer in the folder. Off-line."""
    offer, planned = offer_in(folder), plan_in(folder)
    made = Approval(
        transfer_id=planned.transfer_id,
        plan=checks.plan_digest(planned),
        offer=checks.offer_digest(offer),
        mechanism=planned.mechanism,
        committee_view=planned.committee_view,
        disposition=planned.disposition,
        disposition_seconds=planned.disposition_seconds,
        conditions=read_conditions(conditions_file).conditions(checks.fingerprint(offer.transport)),
    )
    checks.require_approval(made, planned, offer)
    document = papers.approval_document(made)
    return {
        "transfer": made.transfer_id,
        "approval_sha256": digest(document).hex(),
        "written": write(folder / APPROVAL, canonical(document)),
    }


def sign_approval(key: str, folder: Path) -> Document:
    """Add one signature of the SMKI PMA to the approval in the folder. Off-line."""
    payload = read_octets(folder / APPROVAL, APPROVAL)
    papers.approval_from_document(object_of(payload, APPROVAL))
    path = folder / APPROVED
    before = dsse.parse(path.read_bytes()).signatures if path.exists() else ()
    with card.open_key(key) as opened:
        mine = dsse.sign(APPROVAL_TYPE, payload, {dsse.key_id(opened.spki): opened.sign})
    envelope = dsse.Envelope(APPROVAL_TYPE, payload, (*before, *mine.signatures))
    octets = dsse.emit(envelope)
    dsse.parse(octets)
    return {
        "signatures": len(envelope.signatures),
        "key_id": mine.signatures[0].key_id,
        "written": write(path, octets),
    }


def verify(folder: Path, pma: Path, source_log: Path | None, destination_log: Path | None) -> Document:
    """Verify every paper in a folder off-line.

    Args:
        folder: the papers.
        pma: folder of the SMKI PMA's public keys, one PEM file each.
        source_log: public key of the source's log; its part is verified where it is given.
        destination_log: the same of the destination's.

    """
    keys = {path.stem: read_public_key(path) for path in sorted(pma.glob("*.pem"))}
    logs = [b"" if path is None else read_public_key(path) for path in (source_log, destination_log)]
    found = dossier.verify(_papers(folder, *logs), keys)
    return {"holds": True, "transfer": found.transfer_id, "page": found.page}


def _papers(folder: Path, source_log_key: bytes, destination_log_key: bytes) -> dossier.Papers:
    def there(name: str) -> bytes:
        path = folder / name
        return path.read_bytes() if path.exists() else b""

    return dossier.Papers(
        offer=there(NAMES[papers.OFFER]),
        plan=there(PLAN),
        approval=there(APPROVED),
        package=there(NAMES[papers.PACKAGE]),
        receipt=there(NAMES[papers.RECEIPT]),
        disposition=there(NAMES[papers.DISPOSITION]),
        not_imported=there(NAMES[papers.NOT_IMPORTED]),
        source_key=there("source.key"),
        destination_key=there("destination.key"),
        source_log=there("source-log.json"),
        destination_log=there("destination-log.json"),
        source_log_key=source_log_key,
        destination_log_key=destination_log_key,
        blobs={path.stem: _blob(path) for path in sorted(folder.glob("*.blob"))},
    )


def _blob(path: Path) -> Blob:
    with path.open("rb") as file:
        heading = file.readline(_HEADING_OCTETS)
        file.seek(0)
        return Blob(hashlib.file_digest(file, "sha256").hexdigest(), heading)
