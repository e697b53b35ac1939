"""The manifest of a backup: what the service signed of it, and what a restore holds the octets against (G2.16).

A backup is a snapshot of the whole store, the log with it: tables of one moment, as a file. The manifest names the file's
digest, the head of the log in it, the newest checkpoint, and what software and policies were in force. It is a statement
of the service (`core/content/service_statement.py`), so whoever has the service's public key can tell what it is.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import orjson

from cryptosvc.core import dsse
from cryptosvc.core.canonical import JsonValue, canonical
from cryptosvc.core.content import service_statement
from cryptosvc.core.documents import mapping, number, octets, text
from cryptosvc.core.errors import Corrupt, CryptosvcError

TYPE = "backup-manifest"
CLAUSE = "G2.16"


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What a backup is.

    Args:
        origin, system, environment: whose it is.
        made_at: nanoseconds since 1970.
        size, root: entries of the log, and the root of their tree, 32 octets.
        checkpoint: newest signed note in it; empty where there is none.
        sha256, octets: of the snapshot file.
        rows: table → rows.
        software: digest of the software that made it, hex.
        policy_digest: of the policies then in force, hex.

    """

    origin: str
    system: str
    environment: str
    made_at: int
    size: int
    root: bytes
    checkpoint: str
    sha256: bytes
    octets: int
    rows: Mapping[str, int]
    software: str
    policy_digest: str


def payload(manifest: Manifest) -> bytes:
    """What the service-signing key signs: canonical JSON."""
    return canonical(_document(manifest))


def _document(manifest: Manifest) -> dict[str, JsonValue]:
    return {
        "v": service_statement.VERSION,
        "type": TYPE,
        "subject": manifest.sha256.hex(),
        "system": manifest.system,
        "environment": manifest.environment,
        "origin": manifest.origin,
        "made_at": str(manifest.made_at),
        "size": manifest.size,
        "root": manifest.root.hex(),
        "checkpoint": manifest.checkpoint,
        "octets": manifest.octets,
        "rows": dict(manifest.rows),
        "software": manifest.software,
        "policy_digest": manifest.policy_digest,
    }


def read(envelope: bytes) -> tuple[Manifest, str]:
    """Read a manifest that nobody has verified yet, and the id of its backup: SHA-256 of what was signed, hex.

    Raises:
        Corrupt: `backup/manifest`.

    """
    try:
        found = dsse.parse(envelope)
        document: Mapping[str, JsonValue] = orjson.loads(found.payload)
        rows = mapping(document, "rows")
        manifest = Manifest(
            origin=text(document, "origin"),
            system=text(document, "system"),
            environment=text(document, "environment"),
            made_at=int(text(document, "made_at")),
            size=number(document, "size"),
            root=octets(document, "root"),
            checkpoint=text(document, "checkpoint"),
            sha256=octets(document, "subject"),
            octets=number(document, "octets"),
            rows={name: number(rows, name) for name in rows},
            software=text(document, "software"),
            policy_digest=text(document, "policy_digest"),
        )
        if found.payload_type == service_statement.PAYLOAD_TYPE and payload(manifest) == found.payload:
            return manifest, hashlib.sha256(found.payload).hexdigest()
    except (CryptosvcError, orjson.JSONDecodeError, KeyError, TypeError, ValueError):
        pass
    raise Corrupt(
        "what stands behind the snapshot is no manifest of a backup; is this file one?",
        rule="backup/manifest",
        clause=CLAUSE,
    )


def verify(envelope: bytes, service_key: bytes) -> None:
    """Require that a manifest is signed by this service-signing key (SubjectPublicKeyInfo DER).

    Raises:
        Corrupt: `backup/signature`.

    """
    try:
        dsse.verify(dsse.parse(envelope), {dsse.key_id(service_key): service_key})
    except CryptosvcError:
        raise Corrupt(
            "the manifest is not signed by the service whose store is in the backup",
            rule="backup/signature",
            clause=CLAUSE,
        ) from None
