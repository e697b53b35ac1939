"""Import files of device keys, as a source makes them."""

import hashlib
import secrets
from collections.abc import Sequence
from pathlib import Path

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from cryptosvc.core import dsse
from cryptosvc.core.device_file import PAYLOAD_TYPE, Line, Manifest, line_octets, manifest_payload
from cryptosvc.core.names import KeyId
from cryptosvc.core.transfer.mechanism import OaepHash
from tests.device_rows import SYSTEM
from tests.device_sealing import Storage, arrived, wrapped_file_key


class Source:
    """Somebody who may send keys."""

    def __init__(self) -> None:
        self.private = ec.generate_private_key(ec.SECP256R1())
        self.key = self.private.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)

    def write(
        self,
        path: Path,
        storage: Storage,
        devices: Sequence[int],
        *,
        bad: dict[int, bytes] | None = None,
        lines: Sequence[Line] | None = None,
        file_key: bytes | None = None,
        **manifest: object,
    ) -> str:
        """Write a file for devices of these numbers; `bad` replaces lines. The SHA-256 of the manifest line, hex."""
        file_key = file_key or secrets.token_bytes(32)
        made = lines if lines is not None else [arrived(file_key, number) for number in devices]
        octets = [line_octets(line) for line in made]
        for place, line in (bad or {}).items():
            octets[place] = line
        body = b"".join(line + b"\n" for line in octets)
        found = Manifest(
            **{
                "system": SYSTEM,
                "environment": "test",
                "source": "maker",
                "keys": len(octets),
                "body_sha256": hashlib.sha256(body).hexdigest(),
                "transport": KeyId("transport-1"),
                "oaep": OaepHash.SHA_1,
                "file_key": wrapped_file_key(storage, file_key),
            }
            | manifest  # type: ignore[arg-type]  # a test's keywords
        )
        signers = {dsse.key_id(self.key): lambda octets: self.private.sign(octets, ec.ECDSA(hashes.SHA256()))}
        first = dsse.emit(dsse.sign(PAYLOAD_TYPE, manifest_payload(found), signers))
        path.write_bytes(first + b"\n" + body)
        return hashlib.sha256(first).hexdigest()
