"""Key and caller records: what the service believes about a key or a caller, because the log proves it.

A record's `canonical` form is what its leaf commits to (SHA-256 of it is the leaf's `record` field); a worker
refuses a record whose hash is not the one in the leaf it names (G2.27).
"""

from dataclasses import dataclass
from enum import StrEnum

from cryptosvc.core.names import CallerId, Environment, Eui64, KeyId, ModuleName, RemotePartyRole, SystemName, UserRole


class KeyState(StrEnum):
    """Key states. Source: NIST SP 800-57 Part 1 Rev 5, section 7."""

    PRE_ACTIVATION = "pre-activation"
    ACTIVE = "active"
    SUSPENDED = "suspended"
    DEACTIVATED = "deactivated"
    COMPROMISED = "compromised"
    DESTROYED = "destroyed"


class Origin(StrEnum):
    """Where the key material was made. An adopted key says so for ever; policy keeps it out of `live`."""

    GENERATED = "generated"
    ADOPTED = "adopted"


class CallerState(StrEnum):
    """Whether a caller may call."""

    REGISTERED = "registered"
    REVOKED = "revoked"


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyRecord:
    """One key.

    Args:
        key_id: unique in the deployment; letters, digits, `.`, `_`, `-`; at most 64 characters.
        version: counts changes of this record, from 1.
        key_class: a name in `core/keyclass.py`.
        state: lifecycle state.
        system: the system that owns the key (G2.20, G3.14).
        environment: test or live.
        module: the configured module that holds the object.
        label: CKA_LABEL of the object; with `object_id` the exact template it is found by.
        object_id: CKA_ID of the object.
        public_point: uncompressed P-256 point, 65 octets; empty for a symmetric key.
        certificate: DER of the key's own certificate; empty where it has none yet.
        eui64: the entity the key belongs to, from its certificate; None where it has none (OCA keys, log keys).
        role: Remote Party Role from the certificate's OU; None where it has none.
        origin: generated on the module, or adopted.
        transferable: extractable under trusted wrapping, as fixed at generation.
        signs_for_eligible_user: signs Pre-Commands of an Eligible User: UK modules only (G3.25).

    """

    key_id: KeyId
    version: int
    key_class: str
    state: KeyState
    system: SystemName
    environment: Environment
    module: ModuleName
    label: str
    object_id: bytes
    public_point: bytes
    certificate: bytes
    eui64: Eui64 | None
    role: RemotePartyRole | None
    origin: Origin
    transferable: bool
    signs_for_eligible_user: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """A caller may ask `operation` of keys of one class in its own system.

    Args:
        operation: an `Operation`, by its text.
        key_class: a class name.
        key_ids: the keys meant; empty means every key of that class in the caller's system.

    """

    operation: str
    key_class: str
    key_ids: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class CallerRecord:
    """One registered caller: a TLS client certificate and what it may do.

    Args:
        caller_id: unique; same alphabet as key ids.
        version: counts changes of this record, from 1.
        state: registered, or revoked for good.
        certificate_sha256: SHA-256 of the DER client certificate, 32 octets.
        system: the system the caller belongs to.
        user_roles: SEC User Roles it acts in (G1.5, G1.7).
        user_ids: EUI-64s it acts for; empty for a caller that acts for none.
        grants: what it may ask.
        auditor: may read the log.
        supply_sensitive_checker_key: SubjectPublicKeyInfo DER whose DSSE statements count as this caller's Supply
            Sensitive Check (G3.23); empty where it has none.

    """

    caller_id: CallerId
    version: int
    state: CallerState
    certificate_sha256: bytes
    system: SystemName
    user_roles: frozenset[UserRole]
    user_ids: frozenset[Eui64]
    grants: tuple[Grant, ...]
    auditor: bool = False
    supply_sensitive_checker_key: bytes = b""
