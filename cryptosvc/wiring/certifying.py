"""A key gets its certificate at `init`: only one that this very key, of this class, will be able to sign under.

What signing would refuse later (`core/content/x509/signer.py`) is refused here by the same code, while the file that
names the certificate is still at hand.
"""

from dataclasses import replace

from cryptosvc.config.provisioning import KeyEntry
from cryptosvc.core.content.x509.identity import read_certificate
from cryptosvc.core.content.x509.signer import require_own_certificate
from cryptosvc.core.errors import Malformed, Refusal
from cryptosvc.core.keyclass import ceiling
from cryptosvc.core.registry import KeyRecord
from cryptosvc.wiring import profiles


def certificate_named(entry: KeyEntry) -> bytes:
    """Read the certificate an entry names, DER; empty where it names none. Malformed: the file does not hold one."""
    if entry.certificate is None:
        return b""
    return profiles.read_certificate(entry.certificate, f"keys.{entry.id}")


def certified(entry: KeyEntry, record: KeyRecord, certificate: bytes) -> KeyRecord:
    """Give a record its certificate, and what the certificate says of entity and role.

    Raises:
        Malformed: rule `provisioning/certificate`: it cannot be read, is of another key or another party, carries a
            role that is not the file's or not the class's, or is for another use than the class's: an OCA key has an
            OCA Certificate, every other key an Organisation Certificate for digital signatures alone.

    """
    try:
        facts = read_certificate(certificate)
    except Malformed as error:
        raise _refused(entry, f"cannot be used: {error.message}") from None
    roles = ceiling(record.key_class).roles
    for what, holds in (
        ("is for another key", facts.public_point == record.public_point),
        ("names another party than the file's eui64", entry.eui64 is None or str(facts.eui64) == entry.eui64),
        ("carries another role than the file's", entry.role is None or facts.role == entry.role),
        (f"carries a role that no {record.key_class} key has", facts.role in roles),
    ):
        if not holds:
            raise _refused(entry, what)
    made = replace(record, certificate=certificate, eui64=facts.eui64, role=facts.role)
    try:
        require_own_certificate(made)
    except Refusal as refusal:
        raise _refused(entry, f"is not one for a {record.key_class} key: {refusal.message}") from None
    return made


def _refused(entry: KeyEntry, what: str) -> Malformed:
    return Malformed(
        f"key {entry.id}: its certificate {what}",
        rule="provisioning/certificate",
        field=f"keys.{entry.id}",
    )
