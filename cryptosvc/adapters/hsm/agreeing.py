"""ECDH, the key derivation of GBCS and AES-GCM with the derived key, on one session.

    C_DeriveKey(ECDH1, CKD_SHA256_KDF_SP800, OtherInfo)   the whole derivation inside the module
    C_DeriveKey(ECDH1, CKD_NULL)                          Z comes out; the service derives; environment `test` only

Whether a module has the KDF of SP 800-56A is a parameter of a mechanism and advertised nowhere, so it is tried: SoftHSM
2.6.1 and NSS softokn 3.87 refuse it, kryoptic 1.5 has it. A module that refuses it in `live` makes no MAC there: Z would
be outside of it (G2.44(b)).

Here is what both have in common, and what is not done for every message; what a session thread does is in `agreer`. Every object is
a session object with the one use it is for, and is destroyed before the call returns, whatever happened.

Example:
    >>> derives_itself(functions, session, handle)
    False
"""

import ctypes
from ctypes import byref, c_char_p, c_ulong, c_void_p, cast, sizeof
from enum import StrEnum
from typing import ClassVar

from cryptosvc.adapters.hsm.constants import Cka, Ckk, Ckm, Cko, Ckr
from cryptosvc.adapters.hsm.cryptoki import (
    FALSE,
    TRUE,
    Attribute,
    CryptokiError,
    Functions,
    Mechanism,
    TemplateItem,
    number,
    packed,
    require,
)
from cryptosvc.core.content.gbcs.agreement import KEY_OCTETS, SHARED_SECRET_OCTETS
from cryptosvc.core.errors import Corrupt

_GENERATOR = bytes.fromhex(
    "046b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296"
    "4fe342e2fe1a7f9b8ee7eb4a7c0f9e162bce33576b315ececbb6406837bf51f5"
)
"""The base point of P-256 (FIPS 186-4 D.1.2.3), with which the module's KDF is tried."""

CKD_NULL = 0x01
CKD_SHA256_KDF_SP800 = 0x10
"""The counter stands before Z. CKD_SHA256_KDF (0x06, X9.63) has it after Z and gives other keys."""

FULL_TAG_OCTETS = 16
_BITS = 8
_NO_SUCH_KDF = frozenset(
    (Ckr.MECHANISM_PARAM_INVALID, Ckr.ARGUMENTS_BAD, Ckr.MECHANISM_INVALID, Ckr.FUNCTION_NOT_SUPPORTED)
)


class Derivation(StrEnum):
    """Where the key is derived from the shared secret."""

    MODULE = "module"
    SERVICE = "service"


class EcdhParameters(ctypes.Structure):
    """CK_ECDH1_DERIVE_PARAMS."""

    _fields_: ClassVar = [
        ("kdf", c_ulong),
        ("shared_length", c_ulong),
        ("shared", c_char_p),
        ("public_length", c_ulong),
        ("public", c_char_p),
    ]


class GcmParameters(ctypes.Structure):
    """CK_GCM_PARAMS."""

    _fields_: ClassVar = [
        ("iv", c_char_p),
        ("iv_length", c_ulong),
        ("iv_bits", c_ulong),
        ("additional", c_char_p),
        ("additional_length", c_ulong),
        ("tag_bits", c_ulong),
    ]


def require_derives(functions: Functions, session: int, private: int, label: str) -> None:
    """Require that the key object is one that derives: NSS softokn derives with any, whatever its attributes say.

    Raises:
        Corrupt: it is not; the record names an object of another purpose.
        CryptokiError: the module failed.

    """
    if functions.attribute(session, private, Cka.DERIVE) != TRUE:
        raise Corrupt(
            f"the object {label!r} is not one that derives (CKA_DERIVE); a signing key never does",
            rule="hsm/not-for-derivation",
            clause="G2.44(b)",
        )


def derives_itself(functions: Functions, session: int, private: int) -> bool:
    """Whether the module has the KDF of SP 800-56A: tried with a point and other info of our own, and destroyed.

    Never tried with what a caller sent: whoever could make the trial fail would have keys derived outside of the module.

    Raises:
        CryptokiError: the module failed otherwise.

    """
    try:
        key = _derive(functions, session, private, _GENERATOR, CKD_SHA256_KDF_SP800, bytes(33), _SESSION_KEY)
    except CryptokiError as error:
        if error.code in _NO_SUCH_KDF:
            return False
        raise
    functions.C_DestroyObject(session, key)
    return True


def agreed_secret(functions: Functions, session: int, private: int, peer: bytes) -> bytearray:
    """Z of an agreement with a point whose private half is known to everybody, 32 octets: proof of possession, no key.

    Raises:
        CryptokiError: the module failed.

    """
    handle = _derive(functions, session, private, peer, CKD_NULL, b"", _SHARED_SECRET)
    try:
        return _read_secret(functions, session, handle)
    finally:
        functions.C_DestroyObject(session, handle)


def not_authentic(functions: Functions, session: int, code: int) -> bool:
    """Whether C_Decrypt said that a tag does not verify. CryptokiError: the module is gone."""
    if code == Ckr.GENERAL_ERROR:
        # SoftHSM says so of a tag that does not verify, others of a device that is gone: the session tells them apart
        functions.session_state(session)
        return True
    return code in _NOT_VERIFIED


def wipe(buffer: bytearray | ctypes.Array[ctypes.c_char]) -> None:
    """Overwrite a buffer with zeros, in place."""
    size = len(buffer)
    ctypes.memset((ctypes.c_char * size).from_buffer(buffer), 0, size)


_ENCRYPTED_DATA_INVALID = 0x40
_ENCRYPTED_DATA_LEN_RANGE = 0x41
_AEAD_DECRYPT_FAILED = 0x42
_NOT_VERIFIED = frozenset((_ENCRYPTED_DATA_INVALID, _ENCRYPTED_DATA_LEN_RANGE, _AEAD_DECRYPT_FAILED))


def _derive(
    functions: Functions,
    session: int,
    private: int,
    peer: bytes,
    kdf: int,
    shared: bytes,
    template: ctypes.Array[Attribute],
) -> int:
    parameters = EcdhParameters(kdf, len(shared), shared or None, len(peer), peer)
    mechanism = with_parameters(Ckm.ECDH1_DERIVE, parameters)
    handle = c_ulong()
    code = functions.C_DeriveKey(session, byref(mechanism), private, template, len(template), byref(handle))
    require("C_DeriveKey", code)
    return handle.value


def _read_secret(functions: Functions, session: int, handle: int) -> bytearray:
    secret = bytearray(SHARED_SECRET_OCTETS)
    room = (ctypes.c_char * SHARED_SECRET_OCTETS).from_buffer(secret)
    asked = (Attribute * 1)(Attribute(Cka.VALUE, cast(room, c_void_p), SHARED_SECRET_OCTETS))
    code = functions.C_GetAttributeValue(session, handle, asked, 1)
    if code == Ckr.OK and asked[0].length != SHARED_SECRET_OCTETS:
        code = Ckr.BUFFER_TOO_SMALL
    if code != Ckr.OK:
        wipe(secret)
    require("C_GetAttributeValue", code)
    return secret


_USES: list[TemplateItem] = [
    (Cka.CLASS, number(Cko.SECRET_KEY)),
    (Cka.KEY_TYPE, number(Ckk.AES)),
    (Cka.TOKEN, FALSE),
    (Cka.PRIVATE, TRUE),
    (Cka.SENSITIVE, TRUE),
    (Cka.EXTRACTABLE, FALSE),
    (Cka.ENCRYPT, TRUE),
    (Cka.DECRYPT, TRUE),
    (Cka.SIGN, FALSE),
    (Cka.VERIFY, FALSE),
    (Cka.WRAP, FALSE),
    (Cka.UNWRAP, FALSE),
    (Cka.DERIVE, FALSE),
]
"""The derived key: a session object that encrypts and decrypts, and that cannot be read."""
_SECRET: list[TemplateItem] = [
    (Cka.CLASS, number(Cko.SECRET_KEY)),
    (Cka.KEY_TYPE, number(Ckk.GENERIC_SECRET)),
    (Cka.TOKEN, FALSE),
    (Cka.PRIVATE, TRUE),
    (Cka.SENSITIVE, FALSE),
    (Cka.EXTRACTABLE, TRUE),
    (Cka.ENCRYPT, FALSE),
    (Cka.DECRYPT, FALSE),
    (Cka.SIGN, FALSE),
    (Cka.VERIFY, FALSE),
    (Cka.WRAP, FALSE),
    (Cka.UNWRAP, FALSE),
    (Cka.DERIVE, FALSE),
    (Cka.VALUE_LEN, number(SHARED_SECRET_OCTETS)),
]
"""Z, where the module does not derive by itself: a session object of the one use that it is read."""
# Packed once: a module only reads them.
_SESSION_KEY = packed([*_USES, (Cka.VALUE_LEN, number(KEY_OCTETS))])
_SHARED_SECRET = packed(_SECRET)


def session_key_template() -> list[TemplateItem]:
    """Attributes of a derived key, its length or value apart: a session object that cannot be read."""
    return list(_USES)


def shared_secret_template() -> list[TemplateItem]:
    """Attributes of Z as an object that is read and destroyed."""
    return list(_SECRET)


def with_parameters(kind: Ckm, parameters: ctypes.Structure) -> Mechanism:
    """Make a CK_MECHANISM; it holds on to the parameters it points at."""
    mechanism = Mechanism(kind, cast(ctypes.pointer(parameters), c_void_p), sizeof(parameters))
    vars(mechanism)["parameters"] = parameters
    return mechanism
