"""The papers that follow an approval: package, receipt, the notice that nothing was imported, that of disposition.

All are statements of the service that makes them. A package's manifest says everything of its blobs but their octets,
which travel beside it.

Source: Smart Energy Code G2.22G, G2.22H, G2.22I(b).
"""

from collections.abc import Mapping
from dataclasses import dataclass

from cryptosvc.core.canonical import JsonValue
from cryptosvc.core.documents import mapping, mappings, number, text, texts
from cryptosvc.core.errors import Malformed
from cryptosvc.core.life import UnixSeconds
from cryptosvc.core.registry import KeyRecord, key_document, key_from_document
from cryptosvc.core.transfer.mechanism import Trust
from cryptosvc.core.transfer.papers import (
    DISPOSITION,
    NOT_IMPORTED,
    PACKAGE,
    RECEIPT,
    VERSION,
    Party,
    Plan,
    party_from_document,
    plan_document,
    plan_from_document,
)
from cryptosvc.core.transfer.proof import Proof


@dataclass(frozen=True, slots=True, kw_only=True)
class PackedKey:
    """A key in a package.

    Args:
        record: at the source, as it was exported.
        blob: hex SHA-256 of the wrapped key.
        claims: hex SHA-256 of what its claims took there, as `claimed.emit` prints it.
        check: of a symmetric key, its check value (`proof.check_value`); else empty.

    """

    record: KeyRecord
    blob: str
    claims: str
    check: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Freight:
    """The device keys of a package, which travel beside it as they are stored: see `core/handover/chunks.py`.

    Args:
        rows: how many.
        chunks: in how many parts.
        last: hex SHA-256 of the last part, which names the one before, and so on.

    """

    rows: int
    chunks: int
    last: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Package:
    """Manifest of what was exported.

    Args:
        plan: what was planned, whole.
        approval: the SMKI PMA's DSSE envelope, as it was handed in.
        keys: sorted by id.
        carrier: hex SHA-256 of the wrapped carrier.
        trust: what the source's module was measured to hold the keys to.
        exported_at: when.
        freight: device keys under the storage keys that move; None where none do.

    """

    plan: Plan
    approval: str
    keys: tuple[PackedKey, ...]
    carrier: str
    trust: Trust
    exported_at: UnixSeconds
    freight: Freight | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """The destination has the keys, each has proved itself, and the transport key is destroyed.

    Args:
        transfer_id: which transfer.
        party: the destination.
        package: digest of the package it received.
        proofs: one for each key, sorted by id.
        imported_at: when.
        rows: device keys that it took in, every one of the package.

    """

    transfer_id: str
    party: Party
    package: str
    proofs: tuple[Proof, ...]
    imported_at: UnixSeconds
    rows: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class NotImported:
    """The destination has imported nothing under an offer and never can: the transport key is destroyed."""

    transfer_id: str
    party: Party
    offer: str
    declined_at: UnixSeconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Disposed:
    """What became of the source's copies: `destroy` or `deactivate`, of which keys, when."""

    transfer_id: str
    party: Party
    package: str
    disposition: str
    keys: tuple[str, ...]
    disposed_at: UnixSeconds


def package_document(package: Package) -> dict[str, JsonValue]:
    """Print a package's manifest."""
    return {
        **_heading(PACKAGE, package.plan.transfer_id, package.plan.source),
        "plan": plan_document(package.plan),
        "approval": package.approval,
        "keys": [
            {"record": key_document(one.record), "blob": one.blob, "claims": one.claims, "check": one.check}
            for one in package.keys
        ],
        "freight": _freight_document(package.freight),
        "carrier": package.carrier,
        "trust": package.trust.value,
        "exported_at": package.exported_at,
    }


def package_from_document(document: Mapping[str, JsonValue]) -> Package:
    """Read a package's manifest; Malformed where it is not what `package_document` prints."""
    try:
        found = Package(
            plan=plan_from_document(mapping(document, "plan")),
            approval=text(document, "approval"),
            keys=tuple(
                PackedKey(
                    record=key_from_document(mapping(one, "record")),
                    blob=text(one, "blob"),
                    claims=text(one, "claims"),
                    check=text(one, "check"),
                )
                for one in mappings(document, "keys")
            ),
            carrier=text(document, "carrier"),
            trust=Trust(text(document, "trust")),
            exported_at=UnixSeconds(number(document, "exported_at")),
            freight=_freight(document["freight"]),
        )
        same = package_document(found) == document
    except (KeyError, TypeError, ValueError, Malformed):
        same = False
    if not same:
        raise _malformed("package")
    return found


def receipt_document(receipt: Receipt) -> dict[str, JsonValue]:
    """Print a receipt."""
    return {
        **_heading(RECEIPT, receipt.transfer_id, receipt.party),
        "package": receipt.package,
        "proofs": [
            {"key_id": one.key_id, "challenge": one.challenge.hex(), "answer": one.answer.hex()}
            for one in receipt.proofs
        ],
        "imported_at": receipt.imported_at,
        "rows": receipt.rows,
    }


def receipt_from_document(document: Mapping[str, JsonValue]) -> Receipt:
    """Read a receipt; Malformed where it is not what `receipt_document` prints."""
    try:
        found = Receipt(
            transfer_id=text(document, "subject"),
            party=party_from_document(document),
            package=text(document, "package"),
            proofs=tuple(
                Proof(
                    text(one, "key_id"),
                    bytes.fromhex(text(one, "challenge")),
                    bytes.fromhex(text(one, "answer")),
                )
                for one in mappings(document, "proofs")
            ),
            imported_at=UnixSeconds(number(document, "imported_at")),
            rows=number(document, "rows"),
        )
        same = receipt_document(found) == document
    except (KeyError, TypeError, ValueError):
        same = False
    if not same:
        raise _malformed("receipt")
    return found


def not_imported_document(notice: NotImported) -> dict[str, JsonValue]:
    """Print the notice that nothing was imported."""
    return {
        **_heading(NOT_IMPORTED, notice.transfer_id, notice.party),
        "offer": notice.offer,
        "declined_at": notice.declined_at,
    }


def not_imported_from_document(document: Mapping[str, JsonValue]) -> NotImported:
    """Read it; Malformed where it is not what `not_imported_document` prints."""
    try:
        found = NotImported(
            transfer_id=text(document, "subject"),
            party=party_from_document(document),
            offer=text(document, "offer"),
            declined_at=UnixSeconds(number(document, "declined_at")),
        )
        same = not_imported_document(found) == document
    except (KeyError, TypeError, ValueError):
        same = False
    if not same:
        raise _malformed("notice that nothing was imported")
    return found


def disposed_document(notice: Disposed) -> dict[str, JsonValue]:
    """Print the notice of disposition."""
    return {
        **_heading(DISPOSITION, notice.transfer_id, notice.party),
        "package": notice.package,
        "disposition": notice.disposition,
        "keys": list(notice.keys),
        "disposed_at": notice.disposed_at,
    }


def disposed_from_document(document: Mapping[str, JsonValue]) -> Disposed:
    """Read it; Malformed where it is not what `disposed_document` prints."""
    try:
        found = Disposed(
            transfer_id=text(document, "subject"),
            party=party_from_document(document),
            package=text(document, "package"),
            disposition=text(document, "disposition"),
            keys=tuple(texts(document, "keys")),
            disposed_at=UnixSeconds(number(document, "disposed_at")),
        )
        same = disposed_document(found) == document
    except (KeyError, TypeError, ValueError):
        same = False
    if not same:
        raise _malformed("notice of disposition")
    return found


def _freight_document(freight: Freight | None) -> JsonValue:
    if freight is None:
        return None
    return {"rows": freight.rows, "chunks": freight.chunks, "last": freight.last}


def _freight(document: JsonValue) -> Freight | None:
    if document is None:
        return None
    if not isinstance(document, Mapping):
        raise TypeError
    return Freight(
        rows=number(document, "rows"), chunks=number(document, "chunks"), last=text(document, "last")
    )


def _heading(kind: str, transfer_id: str, party: Party) -> dict[str, JsonValue]:
    return {
        "v": VERSION,
        "type": kind,
        "subject": transfer_id,
        "system": party.system,
        "environment": party.environment.value,
        "origin": party.origin,
        "service_key": party.service_key,
    }


def _malformed(what: str) -> Malformed:
    return Malformed(
        f"this is no {what} of a transfer as this version prints it", rule="transfer/paper", clause="G2.22I"
    )
