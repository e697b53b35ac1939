"""PKCS#11 as the C library speaks it: structures, the function list, and nothing that decides.

Why not python-pkcs11's wrapper: docs/adr says it in full. In short, it initialises modules as single-threaded
(CKR crashes with two sessions), fills in templates of its own, asks for the length of every signature in a second
call, logs everybody out when the login session closes, and finalises at interpreter exit in any order.

Everything here returns the CK_RV as a number or raises `CryptokiError`; `faults.py` says what it means.
Each call releases the interpreter lock.

Example:
    >>> Functions.load("/usr/lib/softhsm/libsofthsm2.so").C_Finalize(None) == Ckr.CRYPTOKI_NOT_INITIALIZED
    True
"""

import ctypes
from ctypes import POINTER, byref, c_char, c_char_p, c_ubyte, c_ulong, c_void_p
from typing import TYPE_CHECKING, ClassVar, Self

from cryptosvc.adapters.hsm.constants import CK_UNAVAILABLE_INFORMATION, CKF_OS_LOCKING_OK, Cka, Ckr

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    CFunction = Callable[..., int]


class CryptokiError(Exception):
    """A PKCS#11 call did not return CKR_OK. Never leaves this package: `faults.translated` turns it into ours.

    Args:
        function: name of the call.
        code: the CK_RV.

    """

    def __init__(self, function: str, code: int) -> None:
        super().__init__(f"{function}: CK_RV {code:#x}")
        self.function = function
        self.code = code


class Version(ctypes.Structure):
    """CK_VERSION."""

    _fields_: ClassVar = [("major", c_ubyte), ("minor", c_ubyte)]


class InitializeArgs(ctypes.Structure):
    """CK_C_INITIALIZE_ARGS."""

    _fields_: ClassVar = [
        ("create_mutex", c_void_p),
        ("destroy_mutex", c_void_p),
        ("lock_mutex", c_void_p),
        ("unlock_mutex", c_void_p),
        ("flags", c_ulong),
        ("reserved", c_char_p),
    ]


class Attribute(ctypes.Structure):
    """CK_ATTRIBUTE."""

    _fields_: ClassVar = [("type", c_ulong), ("value", c_void_p), ("length", c_ulong)]


class Mechanism(ctypes.Structure):
    """CK_MECHANISM."""

    _fields_: ClassVar = [("mechanism", c_ulong), ("parameter", c_void_p), ("length", c_ulong)]


class TokenInfo(ctypes.Structure):
    """CK_TOKEN_INFO."""

    _fields_: ClassVar = [
        ("label", c_char * 32),
        ("manufacturer", c_char * 32),
        ("model", c_char * 16),
        ("serial", c_char * 16),
        ("flags", c_ulong),
        ("counts", c_ulong * 10),
        ("hardware", Version),
        ("firmware", Version),
        ("utc_time", c_char * 16),
    ]


class SessionInfo(ctypes.Structure):
    """CK_SESSION_INFO."""

    _fields_: ClassVar = [
        ("slot", c_ulong),
        ("state", c_ulong),
        ("flags", c_ulong),
        ("device_error", c_ulong),
    ]


_ULONG_P = POINTER(c_ulong)
_ATTRIBUTES = POINTER(Attribute)
_MECHANISM_P = POINTER(Mechanism)

# Every function of CK_FUNCTION_LIST 2.x in its order; those that are called have their argument types.
_FUNCTIONS: "tuple[tuple[str, tuple[type, ...] | None], ...]" = (
    ("C_Initialize", (c_void_p,)),
    ("C_Finalize", (c_void_p,)),
    ("C_GetInfo", None),
    ("C_GetFunctionList", None),
    ("C_GetSlotList", (c_ubyte, _ULONG_P, _ULONG_P)),
    ("C_GetSlotInfo", None),
    ("C_GetTokenInfo", (c_ulong, POINTER(TokenInfo))),
    ("C_GetMechanismList", (c_ulong, _ULONG_P, _ULONG_P)),
    ("C_GetMechanismInfo", None),
    ("C_InitToken", (c_ulong, c_void_p, c_ulong, c_char_p)),
    ("C_InitPIN", (c_ulong, c_void_p, c_ulong)),
    ("C_SetPIN", None),
    ("C_OpenSession", (c_ulong, c_ulong, c_void_p, c_void_p, _ULONG_P)),
    ("C_CloseSession", (c_ulong,)),
    ("C_CloseAllSessions", (c_ulong,)),
    ("C_GetSessionInfo", (c_ulong, POINTER(SessionInfo))),
    ("C_GetOperationState", None),
    ("C_SetOperationState", None),
    ("C_Login", (c_ulong, c_ulong, c_void_p, c_ulong)),
    ("C_Logout", (c_ulong,)),
    ("C_CreateObject", (c_ulong, _ATTRIBUTES, c_ulong, _ULONG_P)),
    ("C_CopyObject", (c_ulong, c_ulong, _ATTRIBUTES, c_ulong, _ULONG_P)),
    ("C_DestroyObject", (c_ulong, c_ulong)),
    ("C_GetObjectSize", None),
    ("C_GetAttributeValue", (c_ulong, c_ulong, _ATTRIBUTES, c_ulong)),
    ("C_SetAttributeValue", None),
    ("C_FindObjectsInit", (c_ulong, _ATTRIBUTES, c_ulong)),
    ("C_FindObjects", (c_ulong, _ULONG_P, c_ulong, _ULONG_P)),
    ("C_FindObjectsFinal", (c_ulong,)),
    ("C_EncryptInit", (c_ulong, _MECHANISM_P, c_ulong)),
    ("C_Encrypt", (c_ulong, c_char_p, c_ulong, c_void_p, _ULONG_P)),
    ("C_EncryptUpdate", None),
    ("C_EncryptFinal", None),
    ("C_DecryptInit", (c_ulong, _MECHANISM_P, c_ulong)),
    ("C_Decrypt", (c_ulong, c_char_p, c_ulong, c_void_p, _ULONG_P)),
    ("C_DecryptUpdate", None),
    ("C_DecryptFinal", None),
    ("C_DigestInit", None),
    ("C_Digest", None),
    ("C_DigestUpdate", None),
    ("C_DigestKey", None),
    ("C_DigestFinal", None),
    ("C_SignInit", (c_ulong, c_void_p, c_ulong)),
    ("C_Sign", (c_ulong, c_char_p, c_ulong, c_void_p, c_void_p)),
    ("C_SignUpdate", None),
    ("C_SignFinal", None),
    ("C_SignRecoverInit", None),
    ("C_SignRecover", None),
    ("C_VerifyInit", None),
    ("C_Verify", None),
    ("C_VerifyUpdate", None),
    ("C_VerifyFinal", None),
    ("C_VerifyRecoverInit", None),
    ("C_VerifyRecover", None),
    ("C_DigestEncryptUpdate", None),
    ("C_DecryptDigestUpdate", None),
    ("C_SignEncryptUpdate", None),
    ("C_DecryptVerifyUpdate", None),
    ("C_GenerateKey", (c_ulong, _MECHANISM_P, _ATTRIBUTES, c_ulong, _ULONG_P)),
    (
        "C_GenerateKeyPair",
        (c_ulong, _MECHANISM_P, _ATTRIBUTES, c_ulong, _ATTRIBUTES, c_ulong, _ULONG_P, _ULONG_P),
    ),
    ("C_WrapKey", (c_ulong, _MECHANISM_P, c_ulong, c_ulong, c_void_p, _ULONG_P)),
    (
        "C_UnwrapKey",
        (c_ulong, _MECHANISM_P, c_ulong, c_char_p, c_ulong, _ATTRIBUTES, c_ulong, _ULONG_P),
    ),
    ("C_DeriveKey", (c_ulong, _MECHANISM_P, c_ulong, _ATTRIBUTES, c_ulong, _ULONG_P)),
)


class FunctionList(ctypes.Structure):
    """CK_FUNCTION_LIST as far as it is used: version, then the functions in their order."""

    _fields_: ClassVar = [("version", Version), *((name, c_void_p) for name, _ in _FUNCTIONS)]


class Functions:
    """The calls of one loaded library, as attributes named like the calls.

    The list is asked for once: p11-kit-client makes a new one, with a new connection, on every request.
    """

    C_Initialize: "CFunction"
    C_Finalize: "CFunction"
    C_GetSlotList: "CFunction"
    C_GetTokenInfo: "CFunction"
    C_GetMechanismList: "CFunction"
    C_InitToken: "CFunction"
    C_InitPIN: "CFunction"
    C_OpenSession: "CFunction"
    C_CloseSession: "CFunction"
    C_CloseAllSessions: "CFunction"
    C_GetSessionInfo: "CFunction"
    C_Login: "CFunction"
    C_Logout: "CFunction"
    C_CreateObject: "CFunction"
    C_CopyObject: "CFunction"
    C_DestroyObject: "CFunction"
    C_GetAttributeValue: "CFunction"
    C_FindObjectsInit: "CFunction"
    C_FindObjects: "CFunction"
    C_FindObjectsFinal: "CFunction"
    C_SignInit: "CFunction"
    C_Sign: "CFunction"
    C_GenerateKey: "CFunction"
    C_GenerateKeyPair: "CFunction"
    C_EncryptInit: "CFunction"
    C_Encrypt: "CFunction"
    C_DecryptInit: "CFunction"
    C_Decrypt: "CFunction"
    C_WrapKey: "CFunction"
    C_UnwrapKey: "CFunction"
    C_DeriveKey: "CFunction"

    def __init__(self, library: ctypes.CDLL, functions: FunctionList) -> None:
        self._library = library  # keeps the code mapped for as long as its functions can be called
        self._list = functions
        for name, arguments in _FUNCTIONS:
            address = getattr(functions, name)
            if arguments is not None and address:
                setattr(self, name, ctypes.CFUNCTYPE(c_ulong, *arguments)(address))

    @classmethod
    def load(cls, path: str) -> Self:
        """Map the library and ask for its functions; nothing is initialised.

        Raises:
            OSError: the file cannot be loaded.
            CryptokiError: it loads but is no PKCS#11 library.

        """
        library = ctypes.CDLL(path)
        try:
            ask = library.C_GetFunctionList
        except AttributeError:
            raise CryptokiError("C_GetFunctionList", Ckr.FUNCTION_NOT_SUPPORTED) from None
        ask.argtypes, ask.restype = (POINTER(POINTER(FunctionList)),), c_ulong
        found = POINTER(FunctionList)()
        require("C_GetFunctionList", ask(byref(found)))
        return cls(library, found.contents)

    def initialise(self, reserved: bytes) -> None:
        """C_Initialize, saying that threads will be used (CKF_OS_LOCKING_OK); `reserved` is empty for most modules."""
        arguments = InitializeArgs(flags=CKF_OS_LOCKING_OK, reserved=reserved or None)
        require("C_Initialize", self.C_Initialize(byref(arguments)))

    def slots(self) -> list[int]:
        """Slots that hold a token."""
        return self._listed("C_GetSlotList", lambda room, count: self.C_GetSlotList(1, room, count))

    def mechanisms(self, slot: int) -> frozenset[int]:
        """Mechanisms the token of a slot advertises."""
        return frozenset(
            self._listed("C_GetMechanismList", lambda room, count: self.C_GetMechanismList(slot, room, count))
        )

    def token(self, slot: int) -> TokenInfo:
        """CK_TOKEN_INFO of a slot."""
        info = TokenInfo()
        require("C_GetTokenInfo", self.C_GetTokenInfo(slot, byref(info)))
        return info

    def open_session(self, slot: int, flags: int) -> int:
        """C_OpenSession without callbacks."""
        session = c_ulong()
        require("C_OpenSession", self.C_OpenSession(slot, flags, None, None, byref(session)))
        return session.value

    def session_state(self, session: int) -> int:
        """CKS_… of a session."""
        info = SessionInfo()
        require("C_GetSessionInfo", self.C_GetSessionInfo(session, byref(info)))
        return int(info.state)

    def login(self, session: int, user: int, pin: bytearray) -> None:
        """C_Login. The caller wipes `pin`; no copy is made of it here."""
        room = (c_char * len(pin)).from_buffer(pin) if pin else None
        require("C_Login", self.C_Login(session, user, room, len(pin)))

    def find(self, session: int, template: "Sequence[tuple[int, bytes]]", limit: int) -> list[int]:
        """Handles of at most `limit` objects that match every attribute."""
        attributes = packed(template)
        require("C_FindObjectsInit", self.C_FindObjectsInit(session, attributes, len(template)))
        found: list[int] = []
        try:
            room, count = (c_ulong * limit)(), c_ulong()
            while len(found) < limit:
                require("C_FindObjects", self.C_FindObjects(session, room, limit - len(found), byref(count)))
                if not count.value:
                    break
                found.extend(room[: count.value])
        finally:
            self.C_FindObjectsFinal(session)
        return found

    def attribute(self, session: int, handle: int, attribute: int) -> bytes | None:
        """One attribute's bytes; None where the object has no such attribute or keeps it to itself."""
        asked = (Attribute * 1)(Attribute(attribute, None, 0))
        code = self.C_GetAttributeValue(session, handle, asked, 1)
        if code in (Ckr.ATTRIBUTE_TYPE_INVALID, Ckr.ATTRIBUTE_SENSITIVE):
            return None
        require("C_GetAttributeValue", code)
        if asked[0].length == CK_UNAVAILABLE_INFORMATION:
            return None
        room = ctypes.create_string_buffer(max(asked[0].length, 1))
        asked[0].value = ctypes.cast(room, c_void_p)
        require("C_GetAttributeValue", self.C_GetAttributeValue(session, handle, asked, 1))
        return room.raw[: asked[0].length]

    def generate(self, session: int, mechanism: int, template: "Sequence[tuple[int, bytes]]") -> int:
        """C_GenerateKey."""
        handle = c_ulong()
        require(
            "C_GenerateKey",
            self.C_GenerateKey(
                session, byref(Mechanism(mechanism)), packed(template), len(template), byref(handle)
            ),
        )
        return handle.value

    def generate_pair(
        self,
        session: int,
        mechanism: int,
        public: "Sequence[tuple[int, bytes]]",
        private: "Sequence[tuple[int, bytes]]",
    ) -> tuple[int, int]:
        """C_GenerateKeyPair: handles of the public and the private object."""
        public_handle, private_handle = c_ulong(), c_ulong()
        code = self.C_GenerateKeyPair(
            session,
            byref(Mechanism(mechanism)),
            packed(public),
            len(public),
            packed(private),
            len(private),
            byref(public_handle),
            byref(private_handle),
        )
        require("C_GenerateKeyPair", code)
        return public_handle.value, private_handle.value

    @staticmethod
    def _listed(function: str, call: "CFunction") -> list[int]:
        count = c_ulong()
        require(function, call(None, byref(count)))
        while count.value:
            room = (c_ulong * count.value)()
            code = call(room, byref(count))
            if code != Ckr.BUFFER_TOO_SMALL:  # a token came in between the two calls
                require(function, code)
                return list(room[: count.value])
        return []


def require(function: str, code: int) -> None:
    """Raise CryptokiError unless the call returned CKR_OK."""
    if code != Ckr.OK:
        raise CryptokiError(function, code)


def packed(template: "Sequence[tuple[int, bytes]]") -> ctypes.Array[Attribute]:
    """CK_ATTRIBUTE array; it holds on to the bytes it points at."""
    attributes = (Attribute * len(template))()
    for place, (kind, value) in zip(attributes, template, strict=True):
        room = ctypes.create_string_buffer(value, max(len(value), 1))
        place.type, place.value, place.length = kind, ctypes.cast(room, c_void_p), len(value)
    return attributes


def number(value: int) -> bytes:
    """CK_ULONG as attribute bytes, in this machine's order."""
    return bytes(c_ulong(value))


def boolean(*, value: bool) -> bytes:
    """CK_BBOOL as attribute bytes."""
    return b"\x01" if value else b"\x00"


TRUE, FALSE = boolean(value=True), boolean(value=False)


def text(padded: bytes) -> str:
    """Text of a space-padded field."""
    return padded.decode("utf-8", "replace").rstrip(" \0")


TemplateItem = tuple[Cka, bytes]
