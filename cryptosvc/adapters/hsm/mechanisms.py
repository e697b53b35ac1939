"""Which mechanism gives which capability, on which vendor, and what is missing.

A capability is what the service needs; a mechanism is how a module gives it. The first advertised mechanism of a row
is the one used, always named explicitly.

Source: CK_MECHANISM_TYPE of OASIS PKCS #11 3.0; SoftHSM 2.6.1 and NSS softokn 3.87 as tried.
"""

from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum

from cryptosvc.adapters.hsm.constants import Ckm
from cryptosvc.core.errors import Unavailable


class Capability(StrEnum):
    """What the service needs of a module."""

    SIGN_P256 = "sign with P-256 over a digest"
    GENERATE_P256 = "generate P-256 key pairs"
    AUTHENTICATE_LOG = "HMAC-SHA256, for the head of the log"
    GENERATE_SECRET = "generate HMAC keys"  # noqa: S105 - the name of a capability
    AGREE_KEYS = "ECDH on P-256"
    GMAC = "AES-GCM, whose empty plaintext gives GMAC"
    CMAC = "AES-CMAC"
    WRAP_KEYS = "wrap private keys under an AES key (KWP, RFC 5649)"
    WRAP_FOR_TRANSFER = "wrap AES keys under an RSA public key (OAEP)"


@dataclass(frozen=True, slots=True)
class Row:
    """One capability.

    Args:
        capability: what.
        mechanisms: any of these gives it, best first.
        needed: the service cannot use a module without it.
        remark: what is known of vendors.

    """

    capability: Capability
    mechanisms: tuple[Ckm, ...]
    needed: bool
    remark: str = ""


ROWS = (
    Row(
        Capability.SIGN_P256,
        (Ckm.ECDSA,),
        needed=True,
        remark="the digest is made by the service; SoftHSM has no ECDSA_SHA256",
    ),
    Row(
        Capability.GENERATE_P256,
        (Ckm.EC_KEY_PAIR_GEN,),
        needed=False,
        remark="not needed where every key is adopted",
    ),
    Row(
        Capability.AUTHENTICATE_LOG,
        (Ckm.SHA256_HMAC,),
        needed=False,
        remark="needed on the module of the log's key",
    ),
    Row(
        Capability.GENERATE_SECRET,
        (Ckm.GENERIC_SECRET_KEY_GEN,),
        needed=False,
        remark="needed on the module of the log's key",
    ),
    Row(
        Capability.AGREE_KEYS,
        (Ckm.ECDH1_DERIVE,),
        needed=False,
        remark="the KDF of GBCS (CKD_SHA256_KDF_SP800) is a parameter, not advertised: SoftHSM and NSS lack it, "
        "kryoptic has it; in live a module without it makes no MAC",
    ),
    Row(Capability.GMAC, (Ckm.AES_GCM,), needed=False),
    Row(Capability.CMAC, (Ckm.AES_CMAC,), needed=False),
    Row(
        Capability.WRAP_KEYS,
        (Ckm.AES_KEY_WRAP_KWP, Ckm.AES_KEY_WRAP_PAD),
        needed=False,
        remark="SoftHSM does KWP under the name AES_KEY_WRAP_PAD; NSS refuses that name and has KWP",
    ),
    Row(
        Capability.WRAP_FOR_TRANSFER,
        (Ckm.RSA_PKCS_OAEP,),
        needed=False,
        remark="SoftHSM does OAEP with SHA-1 only",
    ),
)


@dataclass(frozen=True, slots=True)
class Finding:
    """What a module has for one capability.

    Args:
        row: the capability.
        mechanism: the one that is used, or None where the module lacks it.

    """

    row: Row
    mechanism: Ckm | None


def check(advertised: Collection[int]) -> tuple[Finding, ...]:
    """Hold the advertised mechanisms against every row."""
    return tuple(
        Finding(row, next((kind for kind in row.mechanisms if kind in advertised), None)) for row in ROWS
    )


def require(module: str, advertised: Collection[int]) -> None:
    """Raise Unavailable where a module lacks what every use of it needs."""
    for finding in check(advertised):
        if finding.row.needed and finding.mechanism is None:
            names = " or ".join(f"CKM_{kind.name}" for kind in finding.row.mechanisms)
            raise Unavailable(
                f"module {module} cannot {finding.row.capability}: it advertises no {names}",
                rule="hsm/mechanism-missing",
            )
