"""An evidence bundle as a file: written once, signed by whoever made it, verified anywhere off-line.

Layout, one item a line, UTF-8, `\\n` line ends; docs/log-format.md is exact:

    {"absent":[…],"certificates":[…],"checkpoint":…,…,"version":1}
    {"answer":true,"hashes":…,"leaf_index":I} TAB ENTRY TAB WITHHELD      in the order of the log
    {"signature":HEX}
"""

import hashlib
import os
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from itertools import chain, pairwise
from pathlib import Path

import orjson
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from cryptosvc.core import bundle, bundle_judge
from cryptosvc.core.bundle import Head, Item
from cryptosvc.core.bundle_judge import BundleVerdict
from cryptosvc.core.canonical import canonical
from cryptosvc.core.errors import Corrupt, Internal, Malformed

_LAST = re.compile(rb'\{"signature":"([0-9a-f]+)"\}\n')


def is_bundle(path: Path) -> bool:
    """Whether a file is meant to be a bundle: its first line is a canonical JSON object with a `query`."""
    with path.open("rb") as file:
        line = file.readline()
    try:
        found = orjson.loads(line)
        return isinstance(found, dict) and canonical(found) + b"\n" == line and "query" in found
    except (orjson.JSONDecodeError, Internal):
        return False


def write_bundle(
    path: Path, head: Head, items: Iterable[Item], certificate_pem: bytes, private_key_pem: bytes
) -> None:
    """Write and sign a bundle; the file appears when it is complete and on disk.

    Args:
        path: the file.
        head: its first line; `entries` is how many items there are, `made_by` is taken from the certificate.
        items: in the order of the log.
        certificate_pem: of whoever makes it; further certificates are not looked at.
        private_key_pem: the key of that certificate, ECDSA P-256.

    Raises:
        Malformed: `bundle/maker`: certificate and key are not a P-256 pair.

    """
    certificate, private_key = _maker(certificate_pem, private_key_pem)
    made_by = certificate.public_bytes(serialization.Encoding.DER).hex()
    digest = hashlib.sha256()
    partial = path.with_name(path.name + ".partial")
    try:
        with partial.open("wb") as file:
            lines: Iterable[Head | Item] = chain([replace(head, made_by=made_by)], items)
            for line in lines:
                octets = line.emit() + b"\n"
                digest.update(octets)
                file.write(octets)
            signature = private_key.sign(digest.digest(), ec.ECDSA(hashes.SHA256()))
            file.write(canonical({"signature": signature.hex()}) + b"\n")
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def verify_bundle(
    path: Path,
    public_key_der: bytes,
    *,
    origin: str = "",
    kept: bytes = b"",
    progress: Callable[[int, int], None] = lambda _done, _size: None,
) -> tuple[BundleVerdict, str]:
    """Verify a bundle off-line.

    Args:
        path: the bundle.
        public_key_der: SubjectPublicKeyInfo of the log's key.
        origin: the origin expected; empty takes the checkpoint's own.
        kept: signed note the verifier kept; empty for none.
        progress: called with (entries verified, entries there are).

    Returns:
        What it holds, and SHA-256 of the certificate of whoever made it, hex.

    Raises:
        Malformed: not a bundle.
        Corrupt: whatever does not hold, by name (`core/bundle_judge.py`).

    """
    digest = hashlib.sha256()
    with path.open("rb") as file:
        line = file.readline()
        digest.update(line)
        head = bundle.parse_head(line[:-1])
        judge = bundle_judge.begin(head, public_key_der, origin=origin, kept=kept)
        for number in range(head.entries):
            line = file.readline()
            if not line.endswith(b"\n"):
                raise _truncated()
            digest.update(line)
            judge.take(bundle.parse_item(line[:-1]))
            if number % 1024 == 0:
                progress(number, head.entries)
        made_by = _require_made(head, file.readline(), file.read(1), digest.digest())
    _require_chain(head, public_key_der)
    progress(head.entries, head.entries)
    return judge.conclude(), made_by


def _require_made(head: Head, line: bytes, more: bytes, digest: bytes) -> str:
    """Verify the last line; SHA-256 of the certificate of whoever signed it, hex."""
    made = _LAST.fullmatch(line)
    if made is None or more:
        raise _truncated()
    try:
        der, signature = bytes.fromhex(head.made_by), bytes.fromhex(made[1].decode())
        public_key = x509.load_der_x509_certificate(der).public_key()
    except (ValueError, TypeError):
        raise bundle.malformed() from None
    if not isinstance(public_key, ec.EllipticCurvePublicKey):
        raise bundle.malformed()
    bundle_judge.require_made(digest, public_key, signature)
    return hashlib.sha256(der).hexdigest()


def _require_chain(head: Head, public_key_der: bytes) -> None:
    """The certificates begin with that of the log's key, and each is issued by the next; Corrupt (`bundle/chain`)."""
    try:
        certificates = [x509.load_der_x509_certificate(bytes.fromhex(one)) for one in head.certificates]
        for one, issuer in pairwise(certificates):
            one.verify_directly_issued_by(issuer)
        same = not certificates or _spki(certificates[0].public_key()) == public_key_der
    except (ValueError, TypeError, InvalidSignature):
        same = False
    if not same:
        raise Corrupt("the certificates do not lead from the log's key to their last", rule="bundle/chain")


def certificates_of(pem: bytes) -> Sequence[bytes]:
    """DER of every certificate of a PEM file; Malformed (`bundle/chain`) where it has none."""
    try:
        return [one.public_bytes(serialization.Encoding.DER) for one in x509.load_pem_x509_certificates(pem)]
    except ValueError:
        raise Malformed("this is no PEM file of certificates", rule="bundle/chain", field="--chain") from None


def _maker(
    certificate_pem: bytes, private_key_pem: bytes
) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    try:
        certificate = x509.load_pem_x509_certificate(certificate_pem)
        private_key = serialization.load_pem_private_key(private_key_pem, None)
    except (ValueError, TypeError):
        raise _no_maker() from None
    if not isinstance(private_key, ec.EllipticCurvePrivateKey) or _spki(private_key.public_key()) != _spki(
        certificate.public_key()
    ):
        raise _no_maker()
    return certificate, private_key


def _spki(public_key: object) -> bytes:
    if not isinstance(public_key, ec.EllipticCurvePublicKey):
        return b""
    return public_key.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def _no_maker() -> Malformed:
    return Malformed(
        "a bundle is signed with your client key, which has to be an unencrypted EC key in PEM, and the one of your "
        "certificate",
        rule="bundle/maker",
        field="--key",
    )


def _truncated() -> Corrupt:
    return Corrupt("the bundle ends before its last line", rule="bundle/truncated")
