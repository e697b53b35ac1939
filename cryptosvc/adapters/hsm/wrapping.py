"""Wrapping and unwrapping on one session, with every attribute and parameter of it named.

A carrier, an AES-256 key, wraps keys by RFC 5649; RSA-OAEP wraps the carrier. SoftHSM 2.6.1 does RFC 5649 under the name
CKM_AES_KEY_WRAP_PAD and OAEP with SHA-1 alone; NSS softokn 3.87 and kryoptic 1.5 have CKM_AES_KEY_WRAP_KWP and both
hashes. NSS wants the public point of an EC key it unwraps, in CKA_NSS_DB. What was measured stands in
docs/adr/0012-transfer-wrapping.md and is measured again by tests/contract/test_wrapping_contract.py.

Source: OASIS PKCS #11 3.0, C_WrapKey, C_UnwrapKey, CK_RSA_PKCS_OAEP_PARAMS; RFC 5649; RFC 8017.
"""

import ctypes
from collections.abc import Collection, Sequence
from ctypes import byref, c_ulong, c_void_p, cast, sizeof
from typing import ClassVar

from cryptosvc.adapters.hsm.constants import Cka, Ckk, Ckm, Cko, Ckr
from cryptosvc.adapters.hsm.cryptoki import (
    FALSE,
    TRUE,
    CryptokiError,
    Functions,
    Mechanism,
    TemplateItem,
    boolean,
    number,
    packed,
    require,
)
from cryptosvc.core.transfer.mechanism import OaepHash

TRANSPORT_BITS = 3072
"""As strong as P-256 and AES-128 (NIST SP 800-57 Part 1, Table 2)."""
PUBLIC_EXPONENT = b"\x01\x00\x01"
CARRIER_OCTETS = 32
_LARGEST_BLOB_OCTETS = 8192
_SIGNATURE_OCTETS = 64
_DATA_SPECIFIED = 1
"""CKZ_DATA_SPECIFIED: the label of OAEP is given; here it is empty."""
_HASHES = {OaepHash.SHA_256: (Ckm.SHA256, 2), OaepHash.SHA_1: (Ckm.SHA_1, 1)}
"""CK_MECHANISM_TYPE of the hash, CK_RSA_PKCS_MGF_TYPE of the mask generation."""
_NOT_DONE_SO = frozenset((Ckr.ARGUMENTS_BAD, Ckr.MECHANISM_PARAM_INVALID, Ckr.MECHANISM_INVALID))


class OaepParameters(ctypes.Structure):
    """CK_RSA_PKCS_OAEP_PARAMS."""

    _fields_: ClassVar = [
        ("hash", c_ulong),
        ("mask", c_ulong),
        ("source", c_ulong),
        ("label", c_void_p),
        ("label_length", c_ulong),
    ]


def wrap_by_oaep(functions: Functions, session: int, wrapping: int, key: int, oaep_hash: OaepHash) -> bytes:
    """Wrap a secret key under an RSA public key. CryptokiError: the module does not."""
    parameters = _oaep(oaep_hash)
    return _wrap(functions, session, _with(parameters), wrapping, key)


def unwrap_by_oaep(
    functions: Functions,
    session: int,
    unwrapping: int,
    blob: bytes,
    template: Sequence[TemplateItem],
    oaep_hash: OaepHash,
) -> int:
    """Handle of the secret key in a blob, unwrapped with an RSA private key. CryptokiError: the module does not."""
    parameters = _oaep(oaep_hash)
    return _unwrap(functions, session, _with(parameters), unwrapping, blob, template)


def wrap_by_carrier(
    functions: Functions, session: int, advertised: Collection[int], carrier: int, key: int
) -> bytes:
    """Wrap a key under an AES key, RFC 5649. CryptokiError: the module does not."""
    return _wrap(functions, session, Mechanism(padding_mechanism(advertised)), carrier, key)


def unwrap_by_carrier(
    functions: Functions,
    session: int,
    advertised: Collection[int],
    carrier: int,
    blob: bytes,
    template: Sequence[TemplateItem],
    public_point: bytes,
) -> int:
    """Handle of the EC private key in a blob, unwrapped with an AES key.

    Args:
        functions: of the module.
        session: opened for writing.
        advertised: mechanisms of the module.
        carrier: handle of the AES key.
        blob: RFC 5649 over the PKCS #8 of the key.
        template: every attribute the key gets.
        public_point: 65 octets; NSS softokn wants it beside the template, where others refuse it.

    """
    mechanism = Mechanism(padding_mechanism(advertised))
    # SoftHSM sets one attribute after the other: what follows CKA_MODIFIABLE false is refused as read-only
    template = sorted(template, key=lambda item: item[0] == Cka.MODIFIABLE)
    try:
        return _unwrap(functions, session, mechanism, carrier, blob, template)
    except CryptokiError as error:
        if error.code != Ckr.TEMPLATE_INCOMPLETE:
            raise
        with_point = [*template, (Cka.NSS_DB, public_point)]
        return _unwrap(functions, session, mechanism, carrier, blob, with_point)


def sign_digest(functions: Functions, session: int, key: int, digest: bytes) -> bytes:
    """ECDSA over a digest of 32 octets: r‖s, 64 octets; CryptokiError: the module failed.

    For proofs of possession alone: signatures for callers go through the corridor.
    """
    mechanism = Mechanism(Ckm.ECDSA)
    require("C_SignInit", functions.C_SignInit(session, byref(mechanism), key))
    room, length = ctypes.create_string_buffer(_SIGNATURE_OCTETS), c_ulong(_SIGNATURE_OCTETS)
    require("C_Sign", functions.C_Sign(session, digest, len(digest), room, byref(length)))
    return room.raw[: length.value]


def padding_mechanism(advertised: Collection[int]) -> Ckm:
    """RFC 5649 under the name the module has for it; CryptokiError where it has none."""
    for one in (Ckm.AES_KEY_WRAP_KWP, Ckm.AES_KEY_WRAP_PAD):
        if one in advertised:
            return one
    raise CryptokiError("C_WrapKey", Ckr.MECHANISM_INVALID)


def create(functions: Functions, session: int, template: Sequence[TemplateItem]) -> int:
    """C_CreateObject."""
    handle = c_ulong()
    code = functions.C_CreateObject(session, packed(template), len(template), byref(handle))
    require("C_CreateObject", code)
    return handle.value


def hashes_of(functions: Functions, session: int, advertised: Collection[int]) -> tuple[OaepHash, ...]:
    """OAEP hashes the module wraps with, tried with a session key: which ones it has is advertised nowhere."""
    if Ckm.RSA_PKCS_OAEP not in advertised:
        return ()
    public = create(functions, session, transport_public_template(_a_modulus(), trusted=False))
    carrier = functions.generate(session, Ckm.AES_KEY_GEN, carrier_template(trusted=False, private=True))
    found: list[OaepHash] = []
    try:
        for one in OaepHash:
            try:
                wrap_by_oaep(functions, session, public, carrier, one)
                found.append(one)
            except CryptokiError as error:
                if error.code not in _NOT_DONE_SO:
                    raise
    finally:
        functions.C_DestroyObject(session, carrier)
        functions.C_DestroyObject(session, public)
    return tuple(found)


def transport_pair_templates(label: str, object_id: bytes) -> tuple[list[TemplateItem], list[TemplateItem]]:
    """Public and private half of a transport key pair: the one wraps, the other unwraps, neither does more."""
    name = [(Cka.TOKEN, TRUE), (Cka.MODIFIABLE, FALSE), (Cka.LABEL, label.encode()), (Cka.ID, object_id)]
    public = [
        (Cka.CLASS, number(Cko.PUBLIC_KEY)),
        (Cka.KEY_TYPE, number(Ckk.RSA)),
        *name,
        (Cka.PRIVATE, FALSE),
        (Cka.MODULUS_BITS, number(TRANSPORT_BITS)),
        (Cka.PUBLIC_EXPONENT, PUBLIC_EXPONENT),
        (Cka.WRAP, TRUE),
        (Cka.ENCRYPT, FALSE),
        (Cka.VERIFY, FALSE),
        (Cka.VERIFY_RECOVER, FALSE),
        (Cka.DERIVE, FALSE),
    ]
    private = [
        (Cka.CLASS, number(Cko.PRIVATE_KEY)),
        (Cka.KEY_TYPE, number(Ckk.RSA)),
        *name,
        (Cka.PRIVATE, TRUE),
        (Cka.SENSITIVE, TRUE),
        (Cka.EXTRACTABLE, FALSE),
        (Cka.UNWRAP, TRUE),
        (Cka.DECRYPT, FALSE),
        (Cka.SIGN, FALSE),
        (Cka.SIGN_RECOVER, FALSE),
        (Cka.DERIVE, FALSE),
    ]
    return public, private


def transport_public_template(modulus: bytes, *, trusted: bool) -> list[TemplateItem]:
    """The other system's transport public key, for one session; only the Security Officer may make it trusted."""
    return [
        (Cka.CLASS, number(Cko.PUBLIC_KEY)),
        (Cka.KEY_TYPE, number(Ckk.RSA)),
        (Cka.TOKEN, FALSE),
        (Cka.PRIVATE, FALSE),
        (Cka.LABEL, b"transport"),
        (Cka.MODULUS, modulus),
        (Cka.PUBLIC_EXPONENT, PUBLIC_EXPONENT),
        (Cka.WRAP, TRUE),
        (Cka.ENCRYPT, FALSE),
        (Cka.VERIFY, FALSE),
        (Cka.DERIVE, FALSE),
        *(((Cka.TRUSTED, TRUE),) if trusted else ()),
    ]


def carrier_template(*, trusted: bool, private: bool, held: bool = False) -> list[TemplateItem]:
    """The carrier, for one session of the source.

    Args:
        trusted: marked CKA_TRUSTED.
        private: visible to a logged-in user alone; what the Security Officer makes cannot be.
        held: it leaves under a trusted key only, itself.

    """
    return [
        (Cka.CLASS, number(Cko.SECRET_KEY)),
        (Cka.KEY_TYPE, number(Ckk.AES)),
        (Cka.TOKEN, FALSE),
        (Cka.PRIVATE, boolean(value=private)),
        (Cka.LABEL, b"carrier"),
        (Cka.SENSITIVE, TRUE),
        (Cka.EXTRACTABLE, TRUE),
        (Cka.WRAP_WITH_TRUSTED, boolean(value=held)),
        (Cka.WRAP, TRUE),
        *((one, FALSE) for one in (Cka.UNWRAP, Cka.ENCRYPT, Cka.DECRYPT, Cka.SIGN, Cka.VERIFY, Cka.DERIVE)),
        (Cka.VALUE_LEN, number(CARRIER_OCTETS)),
        *(((Cka.TRUSTED, TRUE),) if trusted else ()),
    ]


def arrived_carrier_template() -> list[TemplateItem]:
    """The carrier, for one session of the destination: it unwraps, and never leaves."""
    return [
        (Cka.CLASS, number(Cko.SECRET_KEY)),
        (Cka.KEY_TYPE, number(Ckk.AES)),
        (Cka.TOKEN, FALSE),
        (Cka.PRIVATE, TRUE),
        (Cka.LABEL, b"carrier"),
        (Cka.SENSITIVE, TRUE),
        (Cka.EXTRACTABLE, FALSE),
        (Cka.UNWRAP, TRUE),
        *((one, FALSE) for one in (Cka.WRAP, Cka.ENCRYPT, Cka.DECRYPT, Cka.SIGN, Cka.VERIFY, Cka.DERIVE)),
    ]


def _oaep(oaep_hash: OaepHash) -> OaepParameters:
    hashing, mask = _HASHES[oaep_hash]
    return OaepParameters(hashing, mask, _DATA_SPECIFIED, None, 0)


def _with(parameters: OaepParameters) -> Mechanism:
    """The caller keeps `parameters` for as long as the mechanism is used."""
    return Mechanism(Ckm.RSA_PKCS_OAEP, cast(byref(parameters), c_void_p), sizeof(parameters))


def _wrap(functions: Functions, session: int, mechanism: Mechanism, wrapping: int, key: int) -> bytes:
    room, length = ctypes.create_string_buffer(_LARGEST_BLOB_OCTETS), c_ulong(_LARGEST_BLOB_OCTETS)
    code = functions.C_WrapKey(session, byref(mechanism), wrapping, key, room, byref(length))
    require("C_WrapKey", code)
    return room.raw[: length.value]


def _unwrap(
    functions: Functions,
    session: int,
    mechanism: Mechanism,
    unwrapping: int,
    blob: bytes,
    template: Sequence[TemplateItem],
) -> int:
    handle = c_ulong()
    code = functions.C_UnwrapKey(
        session,
        byref(mechanism),
        unwrapping,
        blob,
        len(blob),
        packed(template),
        len(template),
        byref(handle),
    )
    require("C_UnwrapKey", code)
    return handle.value


def _a_modulus() -> bytes:
    """An odd number of the right length: enough to try an encryption that nobody will ever undo."""
    return b"\xff" * (TRANSPORT_BITS // 8 - 1) + b"\xfd"
