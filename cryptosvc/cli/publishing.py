"""`key export`, `key request`: what is given to others of a key: its public half and certificate, and what asks for one (G5.13(b))."""

import hashlib
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated

import typer
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from cryptosvc.cli import console
from cryptosvc.cli.actions import Document
from cryptosvc.cli.governance import OutOption, require_absent, write_file
from cryptosvc.cli.options import (
    CaOption,
    CertificateOption,
    JsonOption,
    PrivateKeyOption,
    TargetOption,
    actions_of,
    connection,
)
from cryptosvc.core import fingerprint
from cryptosvc.core.errors import Corrupt, WrongState


def export_key(
    context: typer.Context,
    key_id: Annotated[str, typer.Argument(metavar="KEY", help="Key id.")],
    *,
    target: TargetOption,
    ca: CaOption,
    certificate: CertificateOption,
    private_key: PrivateKeyOption,
    out: OutOption,
    as_json: JsonOption = False,
) -> None:
    """Write a key's public key, and its certificate where it has one, as PEM. For who may govern, and for auditors.

    Whoever receives the file compares the fingerprint with you, aloud. `distributed` says when the distribution was
    approved last (`propose key.distribute`); where it is empty, nobody has approved any.
    """
    require_absent(out)
    where = connection(target, ca, certificate, private_key)
    found = (one for one in actions_of(context).records(where, "key-record") if one["key_id"] == key_id)
    record = next(found, None)
    if record is None:
        raise typer.BadParameter(f"there is no key {key_id!r} in the registry")
    spki, bundle = public_bundle(record)
    digest = hashlib.sha256(spki).digest()
    console.print_document(
        {
            "key_id": key_id,
            "state": record["state"],
            "distributed": _distributed(record),
            "public_key_sha256": digest.hex(),
            "in_words": " ".join(fingerprint.words(digest)),
            "certificate": "yes" if record["certificate"] else "none",
            "written": write_file(out, bundle),
        },
        as_json=as_json,
    )


def export_request(
    context: typer.Context,
    key_id: Annotated[str, typer.Argument(metavar="KEY", help="Id of a key that derives.")],
    *,
    target: TargetOption,
    ca: CaOption,
    certificate: CertificateOption,
    private_key: PrivateKeyOption,
    out: OutOption,
    as_json: JsonOption = False,
) -> None:
    """Write the certification request that a key-agreement or prepayment key signed while it was made, as PEM.

    Such a key signs nothing ever after, so there is this one. It stands in the outcome of the key.generate proposal; for a key that signs,
    `sign KEY certification-request-info` makes one. For who may govern, and for auditors.
    """
    require_absent(out)
    where = connection(target, ca, certificate, private_key)
    key, made = (actions_of(context).records(where, kind) for kind in ("key-record", "proposal-record"))
    record = next((one for one in key if one["key_id"] == key_id), None)
    if record is None:
        raise typer.BadParameter(f"there is no key {key_id!r} in the registry")
    request = _request_of(record, made)
    console.print_document(
        {
            "key_id": key_id,
            "subject": request.subject.rfc4514_string(),
            "public_key_sha256": hashlib.sha256(
                request.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
            ).hexdigest(),
            "written": write_file(out, request.public_bytes(Encoding.PEM)),
        },
        as_json=as_json,
    )


def _request_of(key: Document, proposals: Sequence[Document]) -> x509.CertificateSigningRequest:
    """The request in the outcome of a key's generation, signed by that very key.

    Raises:
        WrongState: there is none: the key signs, or was not made by key.generate, or its module copies no keys.
        Corrupt: it is another key's, or its signature does not verify.

    """
    for proposal in proposals:
        statement, outcome = proposal["statement"], proposal["outcome"]
        if not isinstance(statement, Mapping) or not isinstance(outcome, Mapping):
            continue
        if (statement.get("act"), statement.get("subject")) != ("key.generate", key["key_id"]):
            continue
        if found := outcome.get("certification_request"):
            request = x509.load_der_x509_csr(bytes.fromhex(str(found)))
            point = ec.EllipticCurvePublicKey.from_encoded_point(
                ec.SECP256R1(), bytes.fromhex(str(key["public_point"]))
            )
            if request.public_key() != point or not request.is_signature_valid:
                raise Corrupt(
                    f"the certification request of {key['key_id']} is not signed by that key",
                    rule="key/request-other-key",
                )
            return request
    raise WrongState(
        f"{key['key_id']} has no certification request of its making: one is made by key.generate for a key-agreement or "
        "prepayment key with role and eui64, on a module that copies keys",
        rule="key/no-request",
        clause="G2.44(b)",
        field="key",
    )


def public_bundle(record: Document) -> tuple[bytes, bytes]:
    """SubjectPublicKeyInfo of a key record, and the PEM of it followed by that of the certificate.

    Raises:
        WrongState: there is no public key: it was ordered only, or it is a symmetric key.
        Corrupt: the certificate is over another key.

    """
    point, der = bytes.fromhex(str(record["public_point"])), bytes.fromhex(str(record["certificate"]))
    if not point:
        raise WrongState(
            f"{record['key_id']} has no public key", rule="key/no-public-key", clause="G5.13(b)", field="key"
        )
    public = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), point)
    bundle = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    if der:
        made = x509.load_der_x509_certificate(der)
        if made.public_key() != public:
            raise Corrupt(
                f"the certificate of {record['key_id']} is over another key", rule="key/certificate-other-key"
            )
        bundle += made.public_bytes(Encoding.PEM)
    return public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo), bundle


def add_to(keys: typer.Typer) -> None:
    """Join the commands on keys."""
    keys.command("export")(export_key)
    keys.command("request")(export_request)


def _distributed(record: Document) -> str:
    life = record["life"]
    milestones = life.get("milestones") if isinstance(life, Mapping) else None
    at = milestones.get("distribute") if isinstance(milestones, Mapping) else None
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if isinstance(at, int) else ""
