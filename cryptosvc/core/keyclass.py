"""Key classes: one row each, what a key of the class may do at most, whatever any policy file says.

A class is in the table when it works end to end; one that does not yet work is not in the table. `core/judge.py`
applies the ceiling on every decision, before any cache; policies narrow it and can never widen it.

Example:
    >>> ceiling("root-oca").permits(Operation.SIGN, ContentKind.ORGANISATION_ARL)
    True
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

from cryptosvc.core.errors import Forbidden
from cryptosvc.core.names import ContentKind, Operation, RemotePartyRole


class Algorithm(StrEnum):
    """What the key is."""

    EC_P256 = "ec-p256"
    HMAC_SHA256 = "hmac-sha256"
    AES_128 = "aes-128"
    AES_256 = "aes-256"
    RSA_3072 = "rsa-3072"


class Usage(StrEnum):
    """PKCS#11 usage attributes, by their CKA name in lower case."""

    SIGN = "sign"
    VERIFY = "verify"
    ENCRYPT = "encrypt"
    DECRYPT = "decrypt"
    WRAP = "wrap"
    UNWRAP = "unwrap"
    DERIVE = "derive"


@dataclass(frozen=True, slots=True)
class Template:
    """Every attribute an object of the class is made with, and must be read back with.

    Attributes not listed in `usages` are asked for as FALSE, explicitly (hsm.md hazard 7).

    Args:
        algorithm: CKA_KEY_TYPE and CKA_EC_PARAMS or length.
        usages: the CKA_<USAGE> flags that are TRUE on the private or secret object.
        transferable: CKA_EXTRACTABLE together with CKA_WRAP_WITH_TRUSTED; fixed at generation (G2.22G).

    """

    algorithm: Algorithm
    usages: frozenset[Usage]
    transferable: bool


@dataclass(frozen=True, slots=True)
class KeyClass:
    """One row.

    Args:
        name: the class, as the registry, policies and records spell it.
        ceiling: (operation, content kind) → the clause that lets it.
        roles: Remote Party Roles a certificate of this key may carry; empty where the class has none.
        template: the PKCS#11 object.
        clause: where the class's purpose comes from.
        verified_before_release: the signature is verified in software before it leaves (always, for signatures).
        assurance_level: lowest FIPS 140-2 level of the module in environment `live`.
        crypto_period_days: longest time from activation in which the key may be used to sign.
        quorum: people who must approve a governed act on such a key.

    """

    name: str
    ceiling: Mapping[tuple[Operation, ContentKind], str]
    roles: frozenset[RemotePartyRole]
    template: Template
    clause: str
    verified_before_release: bool
    assurance_level: int
    crypto_period_days: int
    quorum: int

    def permits(self, operation: Operation, kind: ContentKind) -> bool:
        """Whether the row's ceiling has this cell."""
        return (operation, kind) in self.ceiling

    def clause_for(self, operation: Operation, kind: ContentKind) -> str:
        """Name the clause that lets this cell, or raise Forbidden naming the clause that limits the class."""
        try:
            return self.ceiling[(operation, kind)]
        except KeyError:
            cells = sorted(f"{does} {what}" for does, what in self.ceiling)
            raise Forbidden(
                f"a {self.name} key may not {operation} {kind}; it may: "
                + (", ".join(cells) or "do nothing a caller can ask for"),
                rule="ceiling/purpose",
                clause=self.clause,
                field="key_id",
            ) from None


def _signs(*cells: tuple[ContentKind, str]) -> Mapping[tuple[Operation, ContentKind], str]:
    return MappingProxyType({(Operation.SIGN, kind): clause for kind, clause in cells})


_SIGNING_KEY = Template(Algorithm.EC_P256, frozenset({Usage.SIGN}), transferable=False)
_TRANSFERABLE_SIGNING_KEY = Template(Algorithm.EC_P256, frozenset({Usage.SIGN}), transferable=True)
_DERIVING_KEY = Template(Algorithm.EC_P256, frozenset({Usage.DERIVE}), transferable=True)
_YEAR = 365

RECOVERY = "recovery"
CONTINGENCY = "contingency"
"""Its public half stands, wrapped, in the Root OCA Certificate (RFC 5934): it has no certificate and no request."""
SPLIT_CLASSES = {RECOVERY: "G2.44B(a)", CONTINGENCY: "G2.44B(b)"}
"""Classes whose keys may be split into parts → the clause that says so."""

# Crypto-periods: 50, 25 and 10 years are the certificate validities seen or recalled (the shared facts, section 2);
# the usable period of a signing key is never longer than its certificate.
_ROWS = (
    KeyClass(
        name="root-oca",
        ceiling=_signs(
            (ContentKind.OCA_CERTIFICATE, "G2.60(a)"),
            (ContentKind.CERTIFICATION_REQUEST, "G2.60(b)"),
            (ContentKind.ORGANISATION_ARL, "G2.60(c)"),
        ),
        roles=frozenset({RemotePartyRole.ROOT}),
        template=_TRANSFERABLE_SIGNING_KEY,
        clause="G2.60",
        verified_before_release=True,
        assurance_level=3,
        crypto_period_days=50 * _YEAR,
        quorum=3,
    ),
    KeyClass(
        name="issuing-oca",
        ceiling=_signs(
            (ContentKind.ORGANISATION_CERTIFICATE, "G2.61(a)"),
            (ContentKind.CERTIFICATION_REQUEST, "G2.61(b)"),
            (ContentKind.ORGANISATION_CRL, "G2.61(c)"),
        ),
        roles=frozenset({RemotePartyRole.ISSUING_AUTHORITY}),
        template=_TRANSFERABLE_SIGNING_KEY,
        clause="G2.61",
        verified_before_release=True,
        assurance_level=3,
        crypto_period_days=25 * _YEAR,
        quorum=2,
    ),
    KeyClass(
        name="command-signing",
        ceiling=_signs(
            (ContentKind.GBCS_PRE_COMMAND, "G2.56"),
            (ContentKind.CERTIFICATION_REQUEST, "G2.56"),
        ),
        roles=frozenset(
            {
                RemotePartyRole.SUPPLIER,
                RemotePartyRole.NETWORK_OPERATOR,
                RemotePartyRole.ACCESS_CONTROL_BROKER,
                RemotePartyRole.TRANSITIONAL_COS,
                RemotePartyRole.WAN_PROVIDER,
                RemotePartyRole.LOAD_CONTROLLER,
            }
        ),
        template=_TRANSFERABLE_SIGNING_KEY,
        clause="G2.56",
        verified_before_release=True,
        assurance_level=3,
        crypto_period_days=10 * _YEAR,
        quorum=2,
    ),
    KeyClass(
        name=RECOVERY,
        ceiling=_signs(
            (ContentKind.GBCS_PRE_COMMAND, "G2.56(a)"),
            (ContentKind.CERTIFICATION_REQUEST, "G2.56(b)"),
        ),
        roles=frozenset({RemotePartyRole.RECOVERY}),
        template=_TRANSFERABLE_SIGNING_KEY,
        clause="G2.56",
        verified_before_release=True,
        assurance_level=3,
        crypto_period_days=10 * _YEAR,
        quorum=2,
    ),
    KeyClass(
        name=CONTINGENCY,
        ceiling=_signs((ContentKind.GBCS_PRE_COMMAND, "G2.56(a)")),
        roles=frozenset(),
        template=_TRANSFERABLE_SIGNING_KEY,
        clause="G2.56",
        verified_before_release=True,
        assurance_level=3,
        crypto_period_days=50 * _YEAR,
        quorum=2,
    ),
    KeyClass(
        name="xml-signing",
        ceiling=_signs(
            (ContentKind.DUIS_DOCUMENT, "G3.29"),
            (ContentKind.CERTIFICATION_REQUEST, "G2.56"),
        ),
        roles=frozenset({RemotePartyRole.XML_SIGN, RemotePartyRole.DSP_XML_SIGN}),
        template=_TRANSFERABLE_SIGNING_KEY,
        clause="G3.29",
        verified_before_release=True,
        assurance_level=3,
        crypto_period_days=10 * _YEAR,
        quorum=2,
    ),
    KeyClass(
        name="key-agreement",
        # Whoever gets Responses verifies and decrypts with such a key; only the broker's gives MACs (`gbcs/command`).
        ceiling=MappingProxyType(
            {
                (Operation.MAC, ContentKind.GBCS_COMMAND): "G2.44(b)",
                (Operation.VERIFY, ContentKind.GBCS_ANSWER): "G2.45",
                (Operation.DECRYPT, ContentKind.ENCRYPTED_ATTRIBUTES): "G2.45",
            }
        ),
        roles=frozenset(
            {
                RemotePartyRole.ACCESS_CONTROL_BROKER,
                RemotePartyRole.SUPPLIER,
                RemotePartyRole.NETWORK_OPERATOR,
                RemotePartyRole.TRANSITIONAL_COS,
                RemotePartyRole.WAN_PROVIDER,
                RemotePartyRole.LOAD_CONTROLLER,
                RemotePartyRole.OTHER,
            }
        ),
        template=_DERIVING_KEY,
        clause="G2.44(b)",
        verified_before_release=False,
        assurance_level=3,
        crypto_period_days=10 * _YEAR,
        quorum=2,
    ),
    KeyClass(
        name="prepayment",
        ceiling=MappingProxyType({(Operation.MAC, ContentKind.TOP_UP): "G3.22"}),
        roles=frozenset({RemotePartyRole.SUPPLIER}),
        template=_DERIVING_KEY,
        clause="G3.22",
        verified_before_release=False,
        assurance_level=3,
        crypto_period_days=10 * _YEAR,
        quorum=2,
    ),
    KeyClass(
        name="tls",
        ceiling=_signs((ContentKind.TLS_HANDSHAKE, "G2.44(d)")),
        roles=frozenset(),
        template=_TRANSFERABLE_SIGNING_KEY,
        clause="G2.44(d)",
        verified_before_release=True,
        assurance_level=3,
        crypto_period_days=10 * _YEAR,
        quorum=2,
    ),
    KeyClass(
        name="audit-signing",
        ceiling=_signs((ContentKind.LOG_CHECKPOINT, "G2.27")),
        roles=frozenset(),
        template=_SIGNING_KEY,
        clause="G2.27",
        verified_before_release=True,
        assurance_level=3,
        crypto_period_days=10 * _YEAR,
        quorum=2,
    ),
    KeyClass(
        name="service-signing",
        ceiling=_signs((ContentKind.SERVICE_STATEMENT, "G2.27")),
        roles=frozenset(),
        template=_SIGNING_KEY,
        clause="G2.27",
        verified_before_release=True,
        assurance_level=3,
        crypto_period_days=10 * _YEAR,
        quorum=2,
    ),
    KeyClass(
        name="log-authentication",
        ceiling=MappingProxyType({}),
        roles=frozenset(),
        template=Template(Algorithm.HMAC_SHA256, frozenset({Usage.SIGN, Usage.VERIFY}), transferable=False),
        clause="G2.27",
        verified_before_release=False,
        assurance_level=3,
        crypto_period_days=10 * _YEAR,
        quorum=2,
    ),
)

_STORAGE_ROWS = tuple(
    KeyClass(
        name=name,
        ceiling=MappingProxyType({}),
        roles=frozenset(),
        template=Template(algorithm, frozenset(usages), transferable=moves),
        clause=clause,
        verified_before_release=False,
        assurance_level=3,
        crypto_period_days=years * _YEAR,
        quorum=2,
    )
    for name, algorithm, usages, clause, years, moves in (
        # AES keys of the device store: wrap and unwrap, nothing else. A new one begins an epoch (docs/adr/0013). Device keys
        # move to another system with these two (G2.22G).
        ("storage-wrapping", Algorithm.AES_256, (Usage.WRAP, Usage.UNWRAP), "G5.13(b)", 2, True),
        ("storage-binding", Algorithm.HMAC_SHA256, (Usage.SIGN, Usage.VERIFY), "G5.13(b)", 10, True),
        # Unwraps the file key of an import of device keys.
        ("device-transport", Algorithm.RSA_3072, (Usage.UNWRAP,), "G5.13(b)", 5, False),
    )
)

_DEVICE = (Operation.ACCOMPANY, ContentKind.DLMS_KEY_CHANGE)
"""A key that is changed is wrapped under the Device's master key."""

_DEVICE_ROWS = tuple(
    KeyClass(
        name=f"smets1-{kind}",
        ceiling=MappingProxyType(dict.fromkeys((*cells, _DEVICE) if years else cells, "G2.44(c), (e)")),
        roles=frozenset(),
        template=Template(Algorithm.AES_128, frozenset(usages), transferable=False),
        clause="G2.44(c), (e)",
        verified_before_release=False,
        assurance_level=3,
        crypto_period_days=years * _YEAR or 1,
        quorum=2,
    )
    for kind, years, usages, cells in (
        # DLMS security suite 0. These keys live wrapped in the device store, never as records of the registry.
        (
            "encryption",
            20,
            (Usage.ENCRYPT, Usage.DECRYPT),
            (
                (Operation.ENCRYPT, ContentKind.DLMS_CIPHERED),
                (Operation.MAC, ContentKind.DLMS_AUTHENTICATED),
                (Operation.MAC, ContentKind.DLMS_CHALLENGE),
                (Operation.DECRYPT, ContentKind.DLMS_ANSWER),
                (Operation.ENCRYPT, ContentKind.DLMS_ASSOCIATION),
            ),
        ),
        # Of one Application Association; in no row of the store (core/associations.py), and never sent under a master key.
        (
            "dedicated",
            0,
            (Usage.ENCRYPT, Usage.DECRYPT),
            (
                (Operation.ENCRYPT, ContentKind.DLMS_CIPHERED),
                (Operation.MAC, ContentKind.DLMS_AUTHENTICATED),
                (Operation.DECRYPT, ContentKind.DLMS_ANSWER),
            ),
        ),
        # Additional data of the encryption key's GCM, and nothing by itself.
        (
            "authentication",
            20,
            (),
            (
                (Operation.ACCOMPANY, ContentKind.DLMS_CIPHERED),
                (Operation.ACCOMPANY, ContentKind.DLMS_AUTHENTICATED),
                (Operation.ACCOMPANY, ContentKind.DLMS_CHALLENGE),
                (Operation.ACCOMPANY, ContentKind.DLMS_ANSWER),
                (Operation.ACCOMPANY, ContentKind.DLMS_ASSOCIATION),
            ),
        ),
        ("master", 20, (Usage.WRAP,), ((Operation.WRAP, ContentKind.DLMS_KEY_CHANGE),)),
        # What HLS 5 answers is made with the encryption key; of this one a new one can be sent.
        ("hls-secret", 20, (), ()),
    )
)

DEVICE_CLASSES = frozenset(row.name for row in _DEVICE_ROWS)
"""Classes of SMETS1 Device keys: the device store has them, and no key of the registry is of one."""

KEY_CLASSES: Mapping[str, KeyClass] = MappingProxyType(
    {row.name: row for row in (*_ROWS, *_STORAGE_ROWS, *_DEVICE_ROWS)}
)

AUTHORITY_CLASSES = frozenset(
    row.name for row in _ROWS if row.roles & {RemotePartyRole.ROOT, RemotePartyRole.ISSUING_AUTHORITY}
)
"""Classes whose keys have OCA Certificates."""


def ceiling(name: str) -> KeyClass:
    """Find the row of a class by name; an unknown name is Forbidden, never a default row."""
    try:
        return KEY_CLASSES[name]
    except KeyError:
        raise Forbidden(f"there is no key class {name!r}", rule="ceiling/unknown-class") from None
