"""A Device's key on its way to the Device: wrapped under its master key (RFC 3394), as key transfer of DLMS takes it.

The payload names the new key of the same Device: `KIND.VERSION`, without the Device, since its digest is in the log. The
key is in the device store already, made in the module (`device-work.rotate`) or imported, and is what the Device gets next
or has. RFC 3394 takes no counter; the same key under the same master key is always the same 24 octets.

Example:
    >>> parse(b"encryption.2").facts
    (('new_kind', 'encryption'), ('new_version', '2'))

Source: DLMS UA 1000-2 (Green Book) Ed. 8, 9.2.3.4.8; RFC 3394.
"""

from dataclasses import dataclass

from cryptosvc.core.content.base import Content, Statement
from cryptosvc.core.content.dlms.apdu import wrong
from cryptosvc.core.content.dlms.protection import (
    require_beside,
    require_device_key,
    require_nothing_stated,
)
from cryptosvc.core.device_keys import DeviceKeyName
from cryptosvc.core.errors import Corrupt, Forbidden, Internal, Malformed
from cryptosvc.core.names import ContentForm, ContentKind, Eui64, KeyId
from cryptosvc.core.registry import KeyRecord

CLAUSE = "G2.44(c), (e)"
WRAPPED_OCTETS = 24
_ANY_DEVICE = Eui64(bytes(8))
_FIELD = ContentForm.DLMS_KEY_CHANGE.value


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyChangeContent(Content):
    """A key that a Device is to get.

    Args:
        new_kind, new_version: which of the Device's keys it is.

    """

    new_kind: str
    new_version: int


def parse(payload: bytes) -> KeyChangeContent:
    """Read which key is new. Malformed where it is not `KIND.VERSION`."""
    try:
        name = DeviceKeyName.parse(KeyId(f"{_ANY_DEVICE}.{payload.decode('ascii')}"))
    except (UnicodeDecodeError, Malformed):
        name = None
    if name is None or name.version is None:
        raise wrong("the new key is named by kind and version, as encryption.2", "new-key", _FIELD)
    return KeyChangeContent(
        kind=ContentKind.DLMS_KEY_CHANGE,
        signed_bytes=payload,
        facts=(("new_kind", name.kind), ("new_version", str(name.version))),
        new_kind=name.kind,
        new_version=name.version,
    )


def bind(content: Content, key: KeyRecord, second: KeyRecord | None, statement: Statement) -> None:
    """Refuse unless the new key is another of the Device whose master key this is.

    Raises:
        Forbidden: no key of a Device, keys of two Devices, or a key wrapped under itself.
        Malformed: something is stated that such a request has not.

    """
    if not isinstance(content, KeyChangeContent):
        raise Internal("not the content of a key change", rule="dlms/content")
    sealed = require_device_key(key)
    require_nothing_stated(statement)
    new = require_beside(sealed, second, "", _FIELD)
    if (new.row.kind, new.row.version) != (
        content.new_kind,
        content.new_version,
    ) or new.row.name == sealed.row.name:
        raise Forbidden(
            "a key is wrapped under another key of its Device, never under itself",
            rule="dlms/new-key",
            clause=CLAUSE,
            field=_FIELD,
        )


def assemble(content: Content, made: bytes) -> bytes:
    """The wrapped key, 24 octets."""
    if not isinstance(content, KeyChangeContent):
        raise Internal("not the content of a key change", rule="dlms/content")
    if len(made) != WRAPPED_OCTETS:
        raise Corrupt("what the module made is not what was asked of it", rule="check/dlms")
    return made
