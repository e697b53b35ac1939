"""`key export`: what is given to others of a key, its public half and certificate (G5.13(b): distributed)."""

import hashlib
from collections.abc import Mapping
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


def _distributed(record: Document) -> str:
    life = record["life"]
    milestones = life.get("milestones") if isinstance(life, Mapping) else None
    at = milestones.get("distribute") if isinstance(milestones, Mapping) else None
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if isinstance(at, int) else ""
