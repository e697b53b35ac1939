"""What a symmetric key answers to a challenge, on one session, for proofs of possession of keys that move.

A key that signs gives the HMAC of the challenge; one that only wraps is given the challenge as a key of the session, and wraps
it (RFC 5649, which gives the same octets every time). Nothing of the key is in either.

Source: OASIS PKCS #11 3.0, C_Sign, C_WrapKey; docs/adr/0012-transfer-wrapping.md.
"""

import ctypes
from collections.abc import Collection
from ctypes import byref, c_ulong, c_void_p, cast

from cryptosvc.adapters.hsm import wrapping
from cryptosvc.adapters.hsm.constants import Cka, Ckk, Ckm, Cko
from cryptosvc.adapters.hsm.cryptoki import FALSE, TRUE, Functions, Mechanism, TemplateItem, number, require
from cryptosvc.core.keyclass import Usage, ceiling
from cryptosvc.core.transfer.proof import answer_of_work

_ROOM_OCTETS = 64


def answer(
    functions: Functions,
    session: int,
    mechanisms: Collection[int],
    handle: int,
    key_class: str,
    name: tuple[str, str],
    challenge: bytes,
) -> bytes:
    """Answer of a symmetric key, 32 octets.

    Args:
        functions: of the module.
        session: logged in.
        mechanisms: that the module has.
        handle: of the key.
        key_class: its class.
        name: transfer and key.
        challenge: 32 octets.

    Raises:
        CryptokiError: the module failed.

    """
    if Usage.SIGN in ceiling(key_class).template.usages:
        octets = _signed(functions, session, handle, challenge)
    else:
        probe = wrapping.create(functions, session, _probe(challenge))
        try:
            octets = wrapping.wrap_by_carrier(functions, session, mechanisms, handle, probe)
        finally:
            functions.C_DestroyObject(session, probe)
    return answer_of_work(*name, octets)


def _signed(functions: Functions, session: int, handle: int, challenge: bytes) -> bytes:
    room, length = ctypes.create_string_buffer(_ROOM_OCTETS), c_ulong(_ROOM_OCTETS)
    require("C_SignInit", functions.C_SignInit(session, byref(Mechanism(Ckm.SHA256_HMAC)), handle))
    code = functions.C_Sign(session, challenge, len(challenge), cast(room, c_void_p), byref(length))
    require("C_Sign", code)
    return room.raw[: length.value]


def _probe(challenge: bytes) -> list[TemplateItem]:
    return [
        (Cka.CLASS, number(Cko.SECRET_KEY)),
        (Cka.KEY_TYPE, number(Ckk.AES)),
        (Cka.TOKEN, FALSE),
        (Cka.PRIVATE, TRUE),
        (Cka.SENSITIVE, FALSE),
        (Cka.EXTRACTABLE, TRUE),
        (Cka.VALUE, challenge),
        *((Cka[usage.name], FALSE) for usage in Usage),
    ]
