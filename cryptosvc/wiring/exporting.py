"""`audit export` and `audit verify`."""

from pathlib import Path

from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_der_public_key,
    load_pem_public_key,
)

from cryptosvc.adapters.export import verify_export
from cryptosvc.cli.actions import Progress
from cryptosvc.core.errors import Malformed
from cryptosvc.core.evidence import Verdict
from cryptosvc.wiring.profiles import read_octets


def verify(export: Path, key: Path, origin: str, processes: int, progress: Progress) -> Verdict:
    """Verify an export with the log's public key (PEM or DER). Raises as `adapters.export.verify_export`."""
    return verify_export(
        export,
        public_key_der(key),
        origin=origin or None,
        processes=processes or None,
        progress=lambda done, size: progress("verifying", done, size),
    )


def public_key_der(path: Path) -> bytes:
    """Read a public key file as SubjectPublicKeyInfo DER; Malformed where it is none."""
    octets = read_octets(path, "--key")
    load = load_pem_public_key if octets.startswith(b"-----") else load_der_public_key
    try:
        return load(octets).public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    except ValueError:
        raise Malformed(
            f"{path} is not a public key (PEM or DER)", rule="config/public-key", field="--key"
        ) from None
