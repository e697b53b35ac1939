"""A key that is not to sign, having signed once: the request for its own certificate, as proof of possession.

A key that derives never signs (G2.44(b)), and its object on the token cannot: CKA_SIGN is false and CKA_MODIFIABLE is false. Yet whoever
issues its certificate asks for a request signed by the key itself. SP 800-56A lets a static key of key agreement sign once, when its
certificate is asked for. So:

    1 the pair is generated in the session, with CKA_SIGN and without CKA_DERIVE: it is nowhere else, and ends with the session
    2 it signs the request
    3 both halves are copied onto the token with the attributes of the class: CKA_DERIVE, and no CKA_SIGN
    4 what was in the session is destroyed, whatever happened before

No object ever both signs and derives, and none that signs is ever on the token. Where a module copies no keys, nothing is left there.

Source: NIST SP 800-56A Rev 3, 5.6.3.2; PKCS#11 2.40, 5.7 (C_CopyObject), 4.1 footnotes of CKA_SIGN and CKA_DERIVE.
"""

import ctypes
import hashlib
from collections.abc import Callable, Sequence
from ctypes import byref, c_ulong

from cryptosvc.adapters.hsm.constants import Cka, Ckm, Ckr
from cryptosvc.adapters.hsm.cryptoki import (
    FALSE,
    TRUE,
    CryptokiError,
    Functions,
    Mechanism,
    TemplateItem,
    packed,
    require,
)
from cryptosvc.adapters.hsm.objects import point_of
from cryptosvc.core.errors import Corrupt

SIGNATURE_OCTETS = 64
_FOR_ONE_SIGNATURE = {Cka.TOKEN: FALSE, Cka.MODIFIABLE: TRUE}
_CHANGED = (Cka.TOKEN, Cka.MODIFIABLE, Cka.SIGN, Cka.VERIFY, Cka.DERIVE)
"""What a copy has otherwise than what it is a copy of, and nothing else."""


class NotCopied(Exception):
    """The module copies no keys, or not with these attributes; nothing was left on it.

    Args:
        code: the module's return code.

    """

    def __init__(self, code: int) -> None:
        super().__init__(f"C_CopyObject: {code:#x}")
        self.code = code


def make(
    functions: Functions,
    session: int,
    public: Sequence[TemplateItem],
    private: Sequence[TemplateItem],
    information: Callable[[bytes], bytes],
) -> tuple[tuple[int, int], bytes, bytes]:
    """Make a pair on the token that signed once.

    Args:
        functions: the module's.
        session: one that may write.
        public: every attribute of the public object, as it is to be on the token.
        private: the same of the private object.
        information: public point → what is to be signed, whole.

    Returns:
        Handles of the public and the private object on the token, the uncompressed point, and r‖s.

    Raises:
        NotCopied: the module will not make the copies.
        Corrupt: a copy is of another key.
        CryptokiError: it failed otherwise.

    """
    # 1 in the session
    passing = functions.generate_pair(
        session,
        Ckm.EC_KEY_PAIR_GEN,
        _with(public, _FOR_ONE_SIGNATURE | {Cka.VERIFY: TRUE}),
        _with(private, _FOR_ONE_SIGNATURE | {Cka.SIGN: TRUE, Cka.DERIVE: FALSE}),
    )
    kept: list[int] = []
    try:
        # 2 its one signature
        point = point_of(functions, session, passing[0])
        signature = _signed(functions, session, passing[1], hashlib.sha256(information(point)).digest())
        # 3 onto the token
        for handle, template in zip(passing, (public, private), strict=True):
            kept.append(_copied(functions, session, handle, template))
        _require_point(functions, session, kept[0], point)
    except BaseException:
        for handle in kept:
            functions.C_DestroyObject(session, handle)
        raise
    finally:
        # 4 the session's own
        for handle in passing:
            functions.C_DestroyObject(session, handle)
    return (kept[0], kept[1]), point, signature


def _require_point(functions: Functions, session: int, handle: int, point: bytes) -> None:
    if point_of(functions, session, handle) != point:
        raise Corrupt("the module copied another public key than it made", rule="hsm/public-point")


def _with(template: Sequence[TemplateItem], changed: dict[Cka, bytes]) -> list[TemplateItem]:
    return [(kind, changed.get(kind, value)) for kind, value in template]


def _copied(functions: Functions, session: int, handle: int, template: Sequence[TemplateItem]) -> int:
    # SoftHSM sets one attribute after the other: what follows CKA_MODIFIABLE false is refused as read-only
    changes = sorted(
        ((kind, value) for kind, value in template if kind in _CHANGED),
        key=lambda item: item[0] == Cka.MODIFIABLE,
    )
    made = c_ulong()
    code = functions.C_CopyObject(session, handle, packed(changes), len(changes), byref(made))
    if code != Ckr.OK:
        raise NotCopied(code)
    return made.value


def _signed(functions: Functions, session: int, handle: int, digest: bytes) -> bytes:
    require("C_SignInit", functions.C_SignInit(session, byref(Mechanism(Ckm.ECDSA)), handle))
    room, length = ctypes.create_string_buffer(SIGNATURE_OCTETS), c_ulong(SIGNATURE_OCTETS)
    require("C_Sign", functions.C_Sign(session, digest, len(digest), room, byref(length)))
    if length.value != SIGNATURE_OCTETS:
        raise CryptokiError("C_Sign", Ckr.DATA_LEN_RANGE)
    return room.raw
