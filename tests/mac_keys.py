"""MAC keys of the published test parties, derived by pyca: the other software that MACs are held against."""

import base64
import re
from functools import cache
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.concatkdf import ConcatKDFHash

from cryptosvc.core.content.gbcs.agreement import Agreement
from cryptosvc.core.content.x509.identity import read_certificate


@cache
def private(folder: Path, entity: bytes, kind: str = "ka") -> ec.EllipticCurvePrivateKey:
    """The published private key of a party: `ka` key agreement, `pp-ka` prepayment."""
    pem = (folder / "keystore" / f"{entity.hex()}-{kind}.key").read_bytes()
    key = serialization.load_pem_private_key(pem, None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return key


@cache
def certificate(folder: Path, entity: bytes, kind: str = "ka") -> bytes:
    """The published certificate of a party, DER. Some have signatures that pyca refuses to load."""
    pem = (folder / "keystore" / f"{entity.hex()}-{kind}.pem").read_bytes()
    body = re.search(rb"-----BEGIN CERTIFICATE-----(.*?)-----END", pem, re.DOTALL)
    assert body is not None
    return base64.b64decode(body[1])


@cache
def point(folder: Path, entity: bytes, kind: str = "ka") -> bytes:
    """The public point in that certificate, 65 octets."""
    return read_certificate(certificate(folder, entity, kind)).public_point


def shared_secret(key: ec.EllipticCurvePrivateKey, peer: bytes) -> bytes:
    return key.exchange(ec.ECDH(), ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), peer))


def derived(secret: bytes, agreement: Agreement) -> bytes:
    return ConcatKDFHash(SHA256(), 16, agreement.other_info).derive(secret)


def tag(key: bytes, agreement: Agreement, additional: bytes) -> bytes:
    """GMAC, all 16 octets."""
    return AESGCM(key).encrypt(agreement.vector, b"", additional)


def decrypted(key: bytes, agreement: Agreement, additional: bytes, ciphertext: bytes, mac: bytes) -> bytes:
    """Plaintext of what has a tag of 12 octets; InvalidTag where it has another."""
    mode = modes.GCM(agreement.vector, mac, min_tag_length=12)
    decryptor = Cipher(algorithms.AES128(key), mode).decryptor()
    decryptor.authenticate_additional_data(additional)
    return decryptor.update(ciphertext) + decryptor.finalize()
