"""Device keys on one session: wrapped, bound, opened. No key is ever an octet of this process.

    arrive     C_UnwrapKey(file key) → C_WrapKey(epoch) → C_Encrypt of zeros, for the check value → C_Sign, for the tag
    open       C_Sign, compared with the tag in constant time → C_UnwrapKey(epoch)

Every object made here is a session object that cannot be read. While it is wrapped anew a key is one that may be wrapped and
may encrypt, and nothing else, and it is destroyed before the call returns; an opened key does what its class says and cannot
leave the module.

Source: OASIS PKCS #11 3.0, C_WrapKey, C_UnwrapKey; RFC 5649; docs/adr/0013-device-keys.md.
"""

import ctypes
import hmac
from collections.abc import Collection, Sequence
from ctypes import byref, c_ulong, c_void_p, cast, pointer
from dataclasses import replace
from functools import lru_cache

from cryptosvc.adapters.hsm import wrapping
from cryptosvc.adapters.hsm.constants import Cka, Ckk, Ckm, Cko, Ckr
from cryptosvc.adapters.hsm.cryptoki import (
    FALSE,
    TRUE,
    Attribute,
    CryptokiError,
    Functions,
    Mechanism,
    TemplateItem,
    boolean,
    number,
    packed,
    require,
)
from cryptosvc.adapters.hsm.objects import Locator, find
from cryptosvc.core.device_file import Line
from cryptosvc.core.device_keys import (
    CHECK_VALUE_OCTETS,
    KEY_OCTETS,
    TAG_OCTETS,
    WRAPPED_OCTETS,
    DeviceKey,
    SealedKeyRecord,
)
from cryptosvc.core.errors import Corrupt, CryptosvcError, Malformed, Refusal
from cryptosvc.core.keyclass import Usage, ceiling
from cryptosvc.core.names import KeyId
from cryptosvc.core.registry import KeyRecord
from cryptosvc.core.transfer.mechanism import OaepHash

_USAGES = tuple(Usage)
_KEY_WRAP = Mechanism(Ckm.AES_KEY_WRAP)
_BLOCK_OCTETS = 16
_LARGEST = 64
_NO_KEY = frozenset(
    (
        Ckr.WRAPPED_KEY_INVALID,
        Ckr.WRAPPED_KEY_LEN_RANGE,
        Ckr.DATA_INVALID,
        Ckr.DATA_LEN_RANGE,
        Ckr.KEY_SIZE_RANGE,
        Ckr.ATTRIBUTE_VALUE_INVALID,
        0x40,  # CKR_ENCRYPTED_DATA_INVALID
        0x41,  # CKR_ENCRYPTED_DATA_LEN_RANGE
        Ckr.GENERAL_ERROR,  # SoftHSM says so of octets that do not unwrap; the session tells it from a module that is gone
        Ckr.FUNCTION_FAILED,
        Ckr.DEVICE_ERROR,  # kryoptic, likewise
    )
)


class Sealer:
    """What one session does with device keys.

    Args:
        functions: of the module.
        session: logged in; may be read-only.
        advertised: mechanisms of the module.

    """

    def __init__(self, functions: Functions, session: int, advertised: Collection[int]) -> None:
        self._functions = functions
        self._session = session
        self._mechanism = Mechanism(wrapping.padding_mechanism(advertised))
        self._hmac = Mechanism(Ckm.SHA256_HMAC)
        self._ecb = Mechanism(Ckm.AES_ECB)
        self._generation = Mechanism(Ckm.AES_KEY_GEN)
        self._hmac_at = cast(pointer(self._hmac), c_void_p)
        self._room = ctypes.create_string_buffer(_LARGEST)
        self._room_at = cast(self._room, c_void_p)
        self._length = c_ulong()
        self._length_at = cast(pointer(self._length), c_void_p)
        self._handles: dict[KeyId, int] = {}

    def handle(self, key: KeyRecord) -> int:
        """Handle of one of the module's storage keys; raises as `objects.find`."""
        found = self._handles.get(key.key_id)
        if found is None:
            found = self._handles[key.key_id] = find(self._functions, self._session, Locator.of(key))
        return found

    def open_file_key(self, transport: KeyRecord, wrapped: bytes, oaep: OaepHash) -> int:
        """Handle of the key of an import file: a session object that unwraps, and nothing else."""
        try:
            return wrapping.unwrap_by_oaep(
                self._functions, self._session, self.handle(transport), wrapped, _file_key(), oaep
            )
        except CryptokiError as error:
            raise self._refusal(error, "the file's key", "device-file/file-key") from None

    def arrive(self, file_key: int, key: Line, epoch: KeyRecord, binding: KeyRecord) -> DeviceKey | Refusal:
        """Wrap one key of an import anew; Malformed where it is no key, or not the one its check value says."""
        try:
            handle = self._unwrap(file_key, key.wrapped, _between(), f"the key of {key.row.name}")
        except Refusal as refusal:
            return refusal
        try:
            if len(key.wrapped) != WRAPPED_OCTETS or self._check_value(handle) != key.row.check_value:
                return Malformed(
                    f"the key of {key.row.name} is not the one its check value says",
                    rule="device-file/check-value",
                    field="check_value",
                )
            return self._sealed(handle, key.row, epoch, binding)
        finally:
            self.destroy(handle)

    def generate(self, row: DeviceKey, epoch: KeyRecord, binding: KeyRecord) -> DeviceKey:
        """Make a new key for a row."""
        template = [*_between_items(), (Cka.VALUE_LEN, number(KEY_OCTETS))]
        handle = self._functions.generate(self._session, Ckm.AES_KEY_GEN, template)
        try:
            return self._sealed(handle, replace(row, check_value=self._check_value(handle)), epoch, binding)
        finally:
            self.destroy(handle)

    def re_wrap(self, key: SealedKeyRecord, epoch: KeyRecord, binding: KeyRecord) -> DeviceKey | Refusal:
        """Move a key to another epoch; Corrupt where its tag is not its own, or it is not the key it was."""
        try:
            handle = self._opened(key, _between())
        except CryptosvcError as error:
            if isinstance(error, Refusal):
                return error
            raise
        try:
            if self._check_value(handle) != key.row.check_value:
                raise _moved(key)
            return self._sealed(handle, key.row, epoch, binding)
        finally:
            self.destroy(handle)

    def bind_anew(self, came: DeviceKey, here: DeviceKey, binding: KeyRecord) -> DeviceKey | Refusal:
        """Give a row another tag, once the one it came with was verified; Corrupt where that is not its own."""
        if len(came.blob) != WRAPPED_OCTETS or not hmac.compare_digest(
            self._tag(came.bound, binding), came.tag
        ):
            raise not_bound(came)
        return replace(here, tag=self._tag(here.bound, binding))

    def open(self, key: SealedKeyRecord) -> int:
        """Handle of a device key for use: a session object that does what its class says, and cannot leave.

        Raises:
            Corrupt: the row's tag is not its own.
            CryptokiError: the module failed.

        """
        return self._opened(key, _for_use(key.key_class))

    def wrap_for_device(self, master: int, key: SealedKeyRecord) -> bytes:
        """A device key under the Device's master key, whose handle is given: RFC 3394, 24 octets.

        An opened key cannot be wrapped, so this one is opened for as long as it takes as one that can, and does nothing else.

        Raises:
            Corrupt: the row's tag is not its own, or it is not the key it was.
            CryptokiError: the module failed.

        """
        handle = self._opened(key, _between())
        try:
            if self._check_value(handle) != key.row.check_value:
                raise _moved(key)
            self._length.value = _LARGEST
            code = self._functions.C_WrapKey(
                self._session, byref(_KEY_WRAP), master, handle, self._room, byref(self._length)
            )
            require("C_WrapKey", code)
            return self._room.raw[: self._length.value]
        finally:
            self.destroy(handle)

    def read_into(self, key: SealedKeyRecord, address: int) -> None:
        """Write the value of a device key at an address, 16 octets: an authentication key, in environment `test`.

        Raises:
            Corrupt: the row's tag is not its own.
            CryptokiError: the module failed.

        """
        handle = self._opened(key, _readable())
        try:
            asked = (Attribute * 1)(Attribute(Cka.VALUE, c_void_p(address), KEY_OCTETS))
            code = self._functions.C_GetAttributeValue(self._session, handle, asked, 1)
            require("C_GetAttributeValue", code)
            if asked[0].length != KEY_OCTETS:
                raise CryptokiError("C_GetAttributeValue", Ckr.BUFFER_TOO_SMALL)
        finally:
            self.destroy(handle)

    def destroy(self, handle: int) -> None:
        """Destroy a session object; one that is gone already stays so."""
        self._functions.C_DestroyObject(self._session, handle)

    def _opened(self, key: SealedKeyRecord, template: "ctypes.Array[Attribute]") -> int:
        row = key.row
        if len(row.blob) != WRAPPED_OCTETS or not hmac.compare_digest(
            self._tag(row.bound, key.binding), row.tag
        ):
            raise _moved(key)
        return self._unwrap(self.handle(key.wrapping), row.blob, template, f"the key {row.name}")

    def _sealed(self, handle: int, row: DeviceKey, epoch: KeyRecord, binding: KeyRecord) -> DeviceKey:
        made = replace(row, wrapping=epoch.key_id, binding=binding.key_id, blob=self._wrap(epoch, handle))
        return replace(made, tag=self._tag(made.bound, binding))

    def _wrap(self, epoch: KeyRecord, handle: int) -> bytes:
        self._length.value = _LARGEST
        code = self._functions.C_WrapKey(
            self._session,
            byref(self._mechanism),
            self.handle(epoch),
            handle,
            self._room,
            byref(self._length),
        )
        require("C_WrapKey", code)
        if self._length.value != WRAPPED_OCTETS:
            raise CryptokiError("C_WrapKey", Ckr.DATA_LEN_RANGE)
        return self._room.raw[:WRAPPED_OCTETS]

    def _unwrap(self, under: int, blob: bytes, template: "ctypes.Array[Attribute]", what: str) -> int:
        handle = c_ulong()
        code = self._functions.C_UnwrapKey(
            self._session,
            byref(self._mechanism),
            under,
            blob,
            len(blob),
            template,
            len(template),
            byref(handle),
        )
        if code:
            raise self._refusal(CryptokiError("C_UnwrapKey", code), what, "device-key/unwrap")
        return handle.value

    def _refusal(self, error: CryptokiError, what: str, rule: str) -> Refusal:
        """Malformed for octets that are no key; whatever else the module said is raised."""
        if error.code not in _NO_KEY:
            raise error
        self._functions.session_state(self._session)
        return Malformed(f"{what} does not unwrap", rule=rule)

    def _check_value(self, handle: int) -> bytes:
        functions = self._functions
        require("C_EncryptInit", functions.C_EncryptInit(self._session, byref(self._ecb), handle))
        self._length.value = _LARGEST
        code = functions.C_Encrypt(
            self._session, bytes(_BLOCK_OCTETS), _BLOCK_OCTETS, self._room, byref(self._length)
        )
        require("C_Encrypt", code)
        return self._room.raw[:CHECK_VALUE_OCTETS]

    def _tag(self, octets: bytes, binding: KeyRecord) -> bytes:
        functions = self._functions
        require("C_SignInit", functions.C_SignInit(self._session, self._hmac_at, self.handle(binding)))
        self._length.value = _LARGEST
        code = functions.C_Sign(self._session, octets, len(octets), self._room_at, self._length_at)
        require("C_Sign", code)
        if self._length.value != TAG_OCTETS:
            raise CryptokiError("C_Sign", Ckr.DATA_LEN_RANGE)
        return self._room.raw[:TAG_OCTETS]


def _moved(key: SealedKeyRecord) -> Corrupt:
    return not_bound(key.row)


def not_bound(row: DeviceKey) -> Corrupt:
    """The octets of a row are not those its tag is over."""
    return Corrupt(
        f"the octets of device key {row.name} are not bound to its row: they were moved or edited; it is not used",
        rule="device-key/not-bound",
        clause="G5.13(b)",
    )


def _secret(*, extractable: bool, usages: Collection[Usage], sensitive: bool = True) -> list[TemplateItem]:
    return [
        (Cka.CLASS, number(Cko.SECRET_KEY)),
        (Cka.KEY_TYPE, number(Ckk.AES)),
        (Cka.TOKEN, FALSE),
        (Cka.PRIVATE, TRUE),
        (Cka.SENSITIVE, boolean(value=sensitive)),
        (Cka.EXTRACTABLE, boolean(value=extractable)),
        *((Cka[usage.name], boolean(value=usage in usages)) for usage in _USAGES),
    ]


def _between_items() -> Sequence[TemplateItem]:
    return _secret(extractable=True, usages={Usage.ENCRYPT})


@lru_cache(maxsize=1)
def _between() -> "ctypes.Array[Attribute]":
    return packed(_between_items())


@lru_cache(maxsize=1)
def _readable() -> "ctypes.Array[Attribute]":
    return packed(_secret(extractable=True, usages=(), sensitive=False))


@lru_cache(maxsize=64)
def _for_use(key_class: str) -> "ctypes.Array[Attribute]":
    return packed(_secret(extractable=False, usages=ceiling(key_class).template.usages))


def _file_key() -> list[TemplateItem]:
    return _secret(extractable=False, usages={Usage.UNWRAP})
