"""Work with the keys of SMETS1 Devices: DLMS security suite 0 on one session, each key an object of that session.

    protect   C_Encrypt, AES-GCM with system title and counter as its vector
    read      C_Decrypt, AES-GCM; AES-CTR from the second block on where there is no tag
    wrap      C_WrapKey, RFC 3394, under the Device's master key
    associate C_GenerateKey, sealed as a row is, then protect: the InitiateRequest with the new key in it

The authentication key is additional data of GCM, which PKCS #11 takes as octets. So its value comes out of the module for
as long as one call takes, in a buffer that is overwritten; in environment `test` alone, and each record says so (docs/adr/0015).
So does a dedicated key, once, when it is put into its InitiateRequest, which goes along with the authentication key.

Source: DLMS UA 1000-2 (Green Book) Ed. 8, 9.2.3.3.7; NIST SP 800-38D; RFC 3394.
"""

import asyncio
import ctypes
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from ctypes import byref, c_char_p, c_ulong, c_void_p, cast, sizeof
from typing import ClassVar

from cryptosvc.adapters.hsm.agreeing import (
    FULL_TAG_OCTETS,
    Derivation,
    GcmParameters,
    not_authentic,
    wipe,
    with_parameters,
)
from cryptosvc.adapters.hsm.assurance import ModuleConfig
from cryptosvc.adapters.hsm.constants import Ckm, Ckr
from cryptosvc.adapters.hsm.cryptoki import CryptokiError, Functions, require
from cryptosvc.adapters.hsm.opened_keys import OpenedKeys
from cryptosvc.adapters.hsm.work import Inbox, SessionWork
from cryptosvc.core import associations
from cryptosvc.core.associations import DedicatedKey
from cryptosvc.core.content.dlms import association
from cryptosvc.core.content.dlms.association import AssociationContent
from cryptosvc.core.content.dlms.framing import AUTHENTICATED, ENCRYPTED, TAG_OCTETS
from cryptosvc.core.content.dlms.key_change import KeyChangeContent
from cryptosvc.core.content.dlms.protection import DlmsContent, Way, not_verified
from cryptosvc.core.device_keys import KEY_OCTETS, SealedKeyRecord
from cryptosvc.core.errors import CryptosvcError, Internal, Unavailable
from cryptosvc.core.names import Environment
from cryptosvc.core.record import Claim, Failed, Produced
from cryptosvc.core.registry import KeyRecord

_BITS = 8
_SECOND_BLOCK = (2).to_bytes(4)
"""GCM encrypts from the second block of its counter on; the first is for the tag."""
_AdditionalBuffer = ctypes.Array[ctypes.c_char]


class CtrParameters(ctypes.Structure):
    """CK_AES_CTR_PARAMS."""

    _fields_: ClassVar = [("counter_bits", c_ulong), ("block", ctypes.c_ubyte * 16)]


class DeviceWork(SessionWork[Produced | Failed]):
    """Claims on device keys of one module.

    Args:
        claims: at least one.
        monotonic_offset: time.monotonic() minus Unix time, in seconds.
        inbox: where the finished work goes.

    """

    def __init__(self, claims: Sequence[Claim], monotonic_offset: float, inbox: Inbox) -> None:
        super().__init__(len(claims))
        self._claims = claims
        self._offset = monotonic_offset
        self._inbox = inbox
        self.done: asyncio.Future[None] = inbox.loop.create_future()

    def perform(
        self, index: int, functions: Functions, session: int, opened: OpenedKeys, config: ModuleConfig
    ) -> bytes | CryptosvcError:
        """Do one item.

        Raises:
            Unavailable: the authentication key would leave its module, and this is not `test`.
            CryptokiError: the module failed. Nothing came of it, so nobody learned anything.

        """
        case = self._claims[index].authorised.case
        key = _sealed(case.key)
        if isinstance(case.content, KeyChangeContent):
            if case.second is None:
                raise _nothing_asked()
            return opened.wrapped(key, _sealed(case.second.key))
        content = case.content
        if not isinstance(content, DlmsContent):
            raise _nothing_asked()
        if not content.authenticated:
            return encrypted_only(functions, session, opened.handle(key), content)
        if case.second is None:
            raise _nothing_asked()
        _require_may_leave(config)
        with _additional(opened, _sealed(case.second.key), content) as additional:
            handle = opened.handle(key)
            if isinstance(content, AssociationContent):
                return self._associated(index, content, functions, session, opened, additional)
            if content.security == AUTHENTICATED:
                return _gcm(functions, session, handle, content.vector, additional, b"")[-FULL_TAG_OCTETS:][
                    :TAG_OCTETS
                ]
            if content.way is Way.PROTECT:
                made = _gcm(functions, session, handle, content.vector, additional, content.text)
                return made[: len(content.text) + TAG_OCTETS]
            plain = _decrypted(functions, session, handle, additional, content)
        return not_verified() if plain is None else plain

    def _associated(
        self,
        index: int,
        content: AssociationContent,
        functions: Functions,
        session: int,
        opened: OpenedKeys,
        additional: _AdditionalBuffer,
    ) -> bytes:
        """The protected InitiateRequest with a new dedicated key in it, and that key, sealed."""
        case = self._claims[index].authorised.case
        key = _sealed(case.key)
        bare = associations.to_be_made(
            key, case.principal.caller.caller_id, case.request.request_id, case.at, content.seconds
        )
        made = opened.made(bare, key.wrapping, key.binding)
        if not isinstance(made, DedicatedKey):
            raise _nothing_asked()
        record = associations.dedicated_record(made, key.key_id, key.wrapping, key.binding, case.at)
        octets = bytearray(association.with_key(content.text, bytes(KEY_OCTETS)))
        room = (ctypes.c_char * len(octets)).from_buffer(octets)
        try:
            opened.read_into(record, ctypes.addressof(room) + association.key_at()[0])
            whole = _gcm(functions, session, opened.handle(key), content.vector, additional, room)
        finally:
            wipe(room)
        return whole[: association.MESSAGE_OCTETS] + associations.emit(made)

    def item(self, index: int) -> tuple[KeyRecord, bytes]:
        """Not asked: nothing here goes through C_Sign."""
        raise Internal("a device key does not sign", rule="hsm/device-work", field=str(index))

    def deadline(self, index: int) -> float:
        """The claim's deadline."""
        return self._claims[index].deadline * 1e-9 + self._offset

    def outcome(self, index: int, outcome: bytes | CryptosvcError) -> Produced | Failed:
        """Produced for octets, Failed for an error."""
        claim = self._claims[index]
        if not isinstance(outcome, bytes):
            return Failed(claim, outcome)
        content = claim.authorised.case.content
        outside = isinstance(content, DlmsContent) and content.authenticated
        return Produced(claim, outcome, (Derivation.SERVICE if outside else Derivation.MODULE).value)

    def finished(self) -> None:
        """Wake the coroutine that waits."""
        self._inbox.post(self)

    def cancel(self) -> None:
        """Nobody waits any more: items that were not begun are not begun."""
        self._offset = float("-inf")

    def in_order(self) -> list[Produced | Failed]:
        """One answer per claim, in the order of the claims."""
        return [self.answers[index] for index in range(self.size)]


def is_of_device_key(claim: Claim) -> bool:
    """Whether a claim is on what a SMETS1 Device gets or sends."""
    return isinstance(claim.authorised.case.content, DlmsContent | KeyChangeContent)


def _require_may_leave(config: ModuleConfig) -> None:
    if config.environment is not Environment.TEST:
        raise Unavailable(
            f"module {config.name} takes a Device's authentication key as octets alone, and in environment "
            f"{config.environment} no key leaves its module; it needs a function of its vendor for this",
            rule="hsm/authentication-key-outside",
            clause="G2.44(c), (e)",
        )


@contextmanager
def _additional(
    opened: OpenedKeys, authentication: SealedKeyRecord, content: DlmsContent
) -> Iterator[_AdditionalBuffer]:
    """SC, authentication key, and the plaintext where it is only authenticated; overwritten afterwards."""
    clear = content.text if content.security == AUTHENTICATED else b""
    octets = bytearray(1 + KEY_OCTETS + len(clear))
    room = (ctypes.c_char * len(octets)).from_buffer(octets)
    octets[0] = content.security
    octets[1 + KEY_OCTETS :] = clear
    try:
        opened.read_into(authentication, ctypes.addressof(room) + 1)
        yield room
    finally:
        wipe(room)


def _gcm(
    functions: Functions,
    session: int,
    key: int,
    vector: bytes,
    additional: _AdditionalBuffer | None,
    text: bytes | _AdditionalBuffer,
) -> bytes:
    """AES-GCM encryption: ciphertext and the whole tag of 16 octets, which suite 0 cuts."""
    mechanism = with_parameters(Ckm.AES_GCM, _gcm_parameters(vector, additional, FULL_TAG_OCTETS))
    require("C_EncryptInit", functions.C_EncryptInit(session, byref(mechanism), key))
    return _result(functions.C_Encrypt, "C_Encrypt", session, text, len(text) + FULL_TAG_OCTETS)


def _decrypted(
    functions: Functions, session: int, key: int, additional: _AdditionalBuffer, content: DlmsContent
) -> bytes | None:
    """AES-GCM decryption; None where the tag does not verify."""
    parameters = _gcm_parameters(content.vector, additional, TAG_OCTETS)
    mechanism = with_parameters(Ckm.AES_GCM, parameters)
    require("C_DecryptInit", functions.C_DecryptInit(session, byref(mechanism), key))
    whole = content.text + content.tag
    try:
        return _result(functions.C_Decrypt, "C_Decrypt", session, whole, len(content.text))
    except CryptokiError as error:
        if not_authentic(functions, session, error.code):
            return None
        raise


def encrypted_only(functions: Functions, session: int, key: int, content: DlmsContent) -> bytes:
    """What suite 0 does with security control 20: the stream of GCM, and no tag."""
    if content.security != ENCRYPTED:
        raise _nothing_asked()
    text = content.text
    if content.way is Way.PROTECT:
        return _gcm(functions, session, key, content.vector, None, text)[: len(text)]
    block = (ctypes.c_ubyte * 16).from_buffer_copy(content.vector + _SECOND_BLOCK)
    mechanism = with_parameters(Ckm.AES_CTR, CtrParameters(32, block))
    require("C_DecryptInit", functions.C_DecryptInit(session, byref(mechanism), key))
    return _result(functions.C_Decrypt, "C_Decrypt", session, text, len(text))


def _gcm_parameters(vector: bytes, additional: _AdditionalBuffer | None, tag_octets: int) -> GcmParameters:
    at = None if additional is None else cast(additional, c_char_p)
    length = 0 if additional is None else sizeof(additional)
    return GcmParameters(vector, len(vector), len(vector) * _BITS, at, length, tag_octets * _BITS)


def _result(
    call: Callable[..., int], name: str, session: int, octets: bytes | _AdditionalBuffer, expected: int
) -> bytes:
    room, length = ctypes.create_string_buffer(len(octets) + FULL_TAG_OCTETS), c_ulong(0)
    length.value = sizeof(room)
    require(name, call(session, octets, len(octets), cast(room, c_void_p), byref(length)))
    if length.value != expected:
        raise CryptokiError(name, Ckr.BUFFER_TOO_SMALL)
    return room.raw[:expected]


def _sealed(key: KeyRecord) -> SealedKeyRecord:
    if not isinstance(key, SealedKeyRecord):
        raise _nothing_asked()
    return key


def _nothing_asked() -> Internal:
    return Internal("a claim that is not on a device key", rule="hsm/device-work")
