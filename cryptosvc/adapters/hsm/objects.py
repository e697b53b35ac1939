"""Find and read objects of a token. By exact template only; two matches is an error, never the first one taken."""

import sys
from dataclasses import dataclass

from cryptosvc.adapters.hsm.constants import Cka, Ckk, Cko
from cryptosvc.adapters.hsm.cryptoki import TRUE, Functions, TemplateItem, number
from cryptosvc.core.errors import Corrupt, Unavailable
from cryptosvc.core.keyclass import Algorithm, ceiling
from cryptosvc.core.registry import KeyRecord

POINT_OCTETS = 65
_POINT_PREFIX = b"\x04\x41"
"""DER OCTET STRING of 65 octets, in which CKA_EC_POINT holds the uncompressed point."""
_MOST_OBJECTS = 100_000
_WITHOUT_POINT = {
    Algorithm.EC_P256: (Cko.SECRET_KEY, Ckk.GENERIC_SECRET),  # it has no object yet
    Algorithm.HMAC_SHA256: (Cko.SECRET_KEY, Ckk.GENERIC_SECRET),
    Algorithm.AES_128: (Cko.SECRET_KEY, Ckk.AES),
    Algorithm.AES_256: (Cko.SECRET_KEY, Ckk.AES),
    Algorithm.RSA_3072: (Cko.PRIVATE_KEY, Ckk.RSA),
}
"""Class and type of the object of a key whose record has no public point."""


@dataclass(frozen=True, slots=True)
class Locator:
    """The exact template an object is found by.

    Args:
        object_class: private or secret key.
        key_type: EC, or generic secret.
        label: CKA_LABEL.
        object_id: CKA_ID.
        public_point: what the public half must be, 65 octets; empty for a secret key.

    """

    object_class: Cko
    key_type: Ckk
    label: str
    object_id: bytes
    public_point: bytes

    @classmethod
    def of(cls, key: KeyRecord) -> "Locator":
        """The private key of a record with a public point; of one without, what its class says."""
        if key.public_point:
            return cls(Cko.PRIVATE_KEY, Ckk.EC, key.label, key.object_id, key.public_point)
        object_class, key_type = _WITHOUT_POINT[ceiling(key.key_class).template.algorithm]
        return cls(object_class, key_type, key.label, key.object_id, b"")

    def template(self) -> list[TemplateItem]:
        """Attributes the object must have, all of them."""
        return _template(self.object_class, self.key_type, self.label, self.object_id)


@dataclass(frozen=True, slots=True)
class Seen:
    """An object as it lies in the token.

    Args:
        object_class, key_type: by their numbers; key_type is None for what is no key.
        label: CKA_LABEL; octets that are no UTF-8 are replaced.
        object_id: CKA_ID.
        public_point: for an EC public key, 65 octets; else empty.

    """

    object_class: int
    key_type: int | None
    label: str
    object_id: bytes
    public_point: bytes


def find(functions: Functions, session: int, locator: Locator) -> int:
    """Handle of the object, once its public half was compared.

    Raises:
        Unavailable: the token has no such object now.
        Corrupt: two objects match, or the public half is not the recorded one.
        CryptokiError: the module failed.

    """
    handle = _only(functions, session, locator.template(), locator)
    if locator.public_point:
        found = public_point(functions, session, locator.label, locator.object_id)
        if found != locator.public_point:
            raise Corrupt(
                f"the public key of object {locator.label!r} is not the recorded one; the object was replaced, or the "
                "record belongs to another token",
                rule="hsm/public-point",
            )
    return handle


def public_point(functions: Functions, session: int, label: str, object_id: bytes) -> bytes:
    """Uncompressed P-256 point of the public key object with this label and id.

    Raises:
        Unavailable: no such object.
        Corrupt: two match, or what it holds is no P-256 point.
        CryptokiError: the module failed.

    """
    locator = Locator(Cko.PUBLIC_KEY, Ckk.EC, label, object_id, b"")
    return point_of(functions, session, _only(functions, session, locator.template(), locator))


def point_of(functions: Functions, session: int, handle: int) -> bytes:
    """Uncompressed P-256 point of a public key object, 65 octets; Corrupt where it holds none."""
    point = _unwrapped(functions.attribute(session, handle, Cka.EC_POINT) or b"")
    if not point:
        raise Corrupt("a public key object holds no uncompressed P-256 point", rule="hsm/public-point")
    return point


def everything(functions: Functions, session: int) -> list[Seen]:
    """Every object the session can see, in the token's order."""
    seen: list[Seen] = []
    for handle in functions.find(session, [(Cka.TOKEN, TRUE)], _MOST_OBJECTS):
        object_class = _number(functions.attribute(session, handle, Cka.CLASS))
        key_type = _number(functions.attribute(session, handle, Cka.KEY_TYPE))
        is_public_ec = object_class == Cko.PUBLIC_KEY and key_type == Ckk.EC
        point = functions.attribute(session, handle, Cka.EC_POINT) if is_public_ec else None
        seen.append(
            Seen(
                -1 if object_class is None else object_class,
                key_type,
                (functions.attribute(session, handle, Cka.LABEL) or b"").decode("utf-8", "replace"),
                functions.attribute(session, handle, Cka.ID) or b"",
                _unwrapped(point or b""),
            )
        )
    return seen


def matching(functions: Functions, session: int, label: str, object_id: bytes) -> list[int]:
    """Handles of every object, of any class, with this label and id."""
    template = [(Cka.LABEL, label.encode()), (Cka.ID, object_id), (Cka.TOKEN, TRUE)]
    return functions.find(session, template, _MOST_OBJECTS)


def _only(functions: Functions, session: int, template: list[TemplateItem], locator: Locator) -> int:
    what = f"{locator.object_class.name.lower().replace('_', ' ')} {locator.label!r} with id {locator.object_id.hex()}"
    match functions.find(session, template, 2):
        case []:
            raise Unavailable(f"the token has no {what} now; no key was used", rule="hsm/object-missing")
        case [handle]:
            return handle
        case _:
            raise Corrupt(
                f"the token has two objects that are {what}; neither is used until one is removed",
                rule="hsm/object-ambiguous",
            )


def _template(object_class: Cko, key_type: Ckk, label: str, object_id: bytes) -> list[TemplateItem]:
    return [
        (Cka.CLASS, number(object_class)),
        (Cka.KEY_TYPE, number(key_type)),
        (Cka.TOKEN, TRUE),
        (Cka.LABEL, label.encode()),
        (Cka.ID, object_id),
    ]


def _unwrapped(value: bytes) -> bytes:
    """The point out of CKA_EC_POINT: a DER OCTET STRING, which some modules leave out; empty where it is neither."""
    if len(value) == len(_POINT_PREFIX) + POINT_OCTETS and value.startswith(_POINT_PREFIX):
        value = value[len(_POINT_PREFIX) :]
    return value if len(value) == POINT_OCTETS and value[0] == 0x04 else b""


def _number(value: bytes | None) -> int | None:
    """CK_ULONG out of attribute bytes; None where there are none."""
    return int.from_bytes(value, sys.byteorder) if value else None
