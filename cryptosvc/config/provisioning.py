"""The provisioning file of `cryptosvc init`: which keys and callers a TEST deployment begins with.

[[keys]]
id = "supplier-1-signing"
class = "command-signing"
certificate = "supplier-1.pem"

[[callers]]
id = "supplier-1"
certificate = "supplier-1-tls.pem"
user_roles = ["IS"]
user_ids = ["90-B3-D5-1F-30-01-00-00"]

[[callers.grants]]
key_class = "command-signing"
"""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from cryptosvc.config.reading import Section, read_toml
from cryptosvc.config.settings import EuiText, FilePath, Name
from cryptosvc.core.keyclass import DEVICE_CLASSES, KEY_CLASSES
from cryptosvc.core.names import Operation, RemotePartyRole, UserRole
from cryptosvc.core.registry import KeyState


def _key_class(text: str) -> str:
    if text not in KEY_CLASSES:
        raise ValueError(f"there is no key class {text!r}; classes are {', '.join(KEY_CLASSES)}")
    return text


def _of_registry(text: str) -> str:
    if text in DEVICE_CLASSES:
        raise ValueError(f"keys of class {text!r} come into the device store by an import")
    return text


def _hex(text: str) -> str:
    try:
        octets = bytes.fromhex(text)
    except ValueError:
        raise ValueError("an object id is hex text") from None
    if not 1 <= len(octets) <= 32:
        raise ValueError("an object id has 1 to 32 octets")
    return octets.hex()


ClassName = Annotated[str, AfterValidator(_key_class)]


class KeyEntry(Section):
    """One key.

    Args:
        id: unique in the deployment.
        key_class: a row of `core/keyclass.py` (`class` in the file).
        module: a configured module; the first where none is named.
        adopt: find an object that is there instead of generating one; marked so for ever.
        label, object_id: CKA_LABEL and CKA_ID (hex); default: the id, and the first 16 octets of its SHA-256.
        certificate: PEM of the key's certificate, where it has one.
        state: lifecycle state to begin in.
        system: another system than the deployment's; environment test only ever allows it.
        role, eui64: for a key that has no certificate yet; the certificate must agree once there is one.
        signs_for_eligible_user: the key signs Pre-Commands of an Eligible User (G3.25).

    """

    id: Name
    key_class: Annotated[ClassName, AfterValidator(_of_registry), Field(alias="class")]
    module: Name | None = None
    adopt: bool = False
    label: str | None = None
    object_id: Annotated[str, AfterValidator(_hex)] | None = None
    certificate: FilePath | None = None
    state: KeyState = KeyState.ACTIVE
    system: Name | None = None
    role: RemotePartyRole | None = None
    eui64: EuiText | None = None
    signs_for_eligible_user: bool = False


class GrantEntry(Section):
    """What a caller may ask.

    Args:
        operation: on keys of a class in its own system, or `govern`: hand in proposals and approvals.
        key_class: which keys; left out, or `*`, for `govern` and for nothing else.
        keys: the keys meant; every key of the class where none is named.

    """

    operation: Operation = Operation.SIGN
    key_class: ClassName | Literal["*"] = "*"
    keys: frozenset[str] = frozenset()

    @model_validator(mode="after")
    def _class_fits(self) -> Self:
        governs = self.operation is Operation.GOVERN
        if governs and (self.key_class != "*" or self.keys):
            raise ValueError("a grant to govern is for no class and no key")
        if not governs and self.key_class == "*":
            raise ValueError(f"a grant names a key class; classes are {', '.join(KEY_CLASSES)}")
        return self


class CallerEntry(Section):
    """One caller.

    Args:
        id: unique in the deployment.
        certificate: PEM of its TLS client certificate.
        system: another system than the deployment's.
        user_roles, user_ids: what it acts as and for.
        auditor: may read the log.
        supply_sensitive_checker: PEM of the public key of its Supply Sensitive Check system.
        revoked: registered and at once revoked, to test refusals with.
        grants: what it may ask.

    """

    id: Name
    certificate: FilePath
    system: Name | None = None
    user_roles: frozenset[UserRole] = frozenset()
    user_ids: frozenset[EuiText] = frozenset()
    auditor: bool = False
    supply_sensitive_checker: FilePath | None = None
    revoked: bool = False
    grants: tuple[GrantEntry, ...] = ()


class Provisioning(Section):
    """The whole file.

    Args:
        genesis: signed genesis to begin the log with, as `genesis-sign` made it; without one the log says that it began
            by the shortcut, and nobody signed for it.
        keys, callers: what is registered without approval, since this is environment test.

    """

    genesis: FilePath | None = None
    keys: tuple[KeyEntry, ...] = ()
    callers: tuple[CallerEntry, ...] = ()

    @model_validator(mode="after")
    def _ids_differ(self) -> Self:
        for what, ids in (
            ("keys", [key.id for key in self.keys]),
            ("callers", [one.id for one in self.callers]),
        ):
            if twice := sorted({one for one in ids if ids.count(one) > 1}):
                raise ValueError(f"two {what} have the id {twice[0]}")
        return self


def read_provisioning(path: Path) -> Provisioning:
    """Read a provisioning file; Malformed as `read_toml`."""
    return read_toml(path, Provisioning)
