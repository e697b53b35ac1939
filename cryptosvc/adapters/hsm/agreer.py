"""What one session thread does under agreed keys: a key derived, used once and destroyed, within one call.

Everything that a call of the module points at (mechanisms, parameters, templates, room for what comes out) is made once and used again: a
GMAC is seven calls, and making their arguments anew cost as much as a third of what the module does. So an `Agreer` belongs to one thread.

Rooms that held Z or a derived key are overwritten before the call returns, whatever happened; copies that hashlib and the module make
for themselves are beyond reach of this language.

Example:
    >>> tag = agreer.gmac(session, handle, peer_point, agreement, additional, Derivation.MODULE)
"""

import ctypes
from ctypes import c_char, c_ulong, c_void_p, cast, pointer

from cryptosvc.adapters.hsm.agreeing import (
    CKD_NULL,
    CKD_SHA256_KDF_SP800,
    FULL_TAG_OCTETS,
    Derivation,
    EcdhParameters,
    GcmParameters,
    not_authentic,
    session_key_template,
    shared_secret_template,
    with_parameters,
)
from cryptosvc.adapters.hsm.constants import Cka, Ckm, Ckr
from cryptosvc.adapters.hsm.cryptoki import Attribute, CryptokiError, Functions, Mechanism, number, packed
from cryptosvc.adapters.hsm.objects import POINT_OCTETS
from cryptosvc.core.content.gbcs.agreement import KEY_OCTETS, SHARED_SECRET_OCTETS, Agreement, derive
from cryptosvc.core.errors import Internal

_BITS = 8
VECTOR_OCTETS = 12
_NO_SECRET = bytes(SHARED_SECRET_OCTETS)
_NO_KEY = bytes(KEY_OCTETS)


class Agreer:
    """Agreed keys on the sessions of one thread, one after the other.

    Args:
        functions: of the module.

    """

    def __init__(self, functions: Functions) -> None:
        self._functions = functions
        # what comes out
        self._handle, self._length = c_ulong(), c_ulong()
        self._handle_at, self._length_at = pointer(self._handle), pointer(self._length)
        self._tag = ctypes.create_string_buffer(2 * FULL_TAG_OCTETS)
        self._tag_at = cast(self._tag, c_void_p)
        # ECDH, and the two templates of what it makes
        self._ecdh = EcdhParameters()
        self._agreement = with_parameters(Ckm.ECDH1_DERIVE, self._ecdh)
        self._agreement_at = pointer(self._agreement)
        self._ecdh.public_length = POINT_OCTETS
        self._session_key = packed([*session_key_template(), (Cka.VALUE_LEN, number(KEY_OCTETS))])
        self._session_key_at = _first(self._session_key), len(self._session_key)
        self._shared_secret = packed(shared_secret_template())
        self._shared_secret_at = _first(self._shared_secret), len(self._shared_secret)
        # Z read out, and the derived key put in
        self._z, self._key = bytearray(SHARED_SECRET_OCTETS), bytearray(KEY_OCTETS)
        self._reading = _value(self._z)
        self._reading_at = pointer(self._reading)
        self._given_key = packed([*session_key_template(), (Cka.VALUE, _NO_KEY)])
        self._given_key[len(self._given_key) - 1] = _value(self._key)
        self._given_key_at, self._given_attributes = _first(self._given_key), len(self._given_key)
        # AES-GCM
        self._gcm = GcmParameters(iv_length=VECTOR_OCTETS, iv_bits=VECTOR_OCTETS * _BITS)
        self._cipher: Mechanism = with_parameters(Ckm.AES_GCM, self._gcm)
        self._cipher_at = pointer(self._cipher)

    def gmac(
        self,
        session: int,
        private: int,
        peer: bytes,
        agreement: Agreement,
        additional: bytes,
        derivation: Derivation,
    ) -> bytes:
        """GMAC under the AES-128 key of an agreement: AES-GCM of nothing; the whole tag of 16 octets.

        Args:
            session: may be read-only.
            private: handle of our EC private key, which may derive.
            peer: the other party's point, uncompressed, 65 octets.
            agreement: what the key is agreed over.
            additional: additional authenticated data.
            derivation: where the key is derived.

        Raises:
            CryptokiError: the module failed, or does not do it.

        """
        functions, length = self._functions, self._length
        key = self._agreed(session, private, peer, agreement, derivation)
        try:
            self._begin(agreement.vector, additional, FULL_TAG_OCTETS)
            if code := functions.C_EncryptInit(session, self._cipher_at, key):
                raise CryptokiError("C_EncryptInit", code)
            length.value = 2 * FULL_TAG_OCTETS
            if code := functions.C_Encrypt(session, b"", 0, self._tag_at, self._length_at):
                raise CryptokiError("C_Encrypt", code)
            if length.value != FULL_TAG_OCTETS:
                raise CryptokiError("C_Encrypt", Ckr.BUFFER_TOO_SMALL)
            return self._tag.raw[:FULL_TAG_OCTETS]
        finally:
            functions.C_DestroyObject(session, key)

    def decrypt(
        self,
        session: int,
        private: int,
        peer: bytes,
        agreement: Agreement,
        additional: bytes,
        ciphertext: bytes,
        tag: bytes,
        derivation: Derivation,
    ) -> bytes | None:
        """AES-GCM decryption under the key of an agreement, the tag as long as it is given; None where it does not verify.

        Args:
            session: as for `gmac`.
            private: likewise.
            peer: likewise.
            agreement: likewise.
            additional: likewise.
            ciphertext: without its tag.
            tag: of the ciphertext.
            derivation: where the key is derived.

        Raises:
            CryptokiError: the module failed.

        """
        functions = self._functions
        whole = ciphertext + tag
        room, length = ctypes.create_string_buffer(len(whole)), c_ulong(len(whole))
        key = self._agreed(session, private, peer, agreement, derivation)
        try:
            self._begin(agreement.vector, additional, len(tag))
            if code := functions.C_DecryptInit(session, self._cipher_at, key):
                raise CryptokiError("C_DecryptInit", code)
            code = functions.C_Decrypt(session, whole, len(whole), room, pointer(length))
            if not code:
                return room.raw[: length.value]
            if not_authentic(functions, session, code):
                return None
            raise CryptokiError("C_Decrypt", code)
        finally:
            functions.C_DestroyObject(session, key)

    def _begin(self, vector: bytes, additional: bytes, tag_octets: int) -> None:
        gcm = self._gcm
        gcm.iv, gcm.additional, gcm.additional_length = vector, additional, len(additional)
        gcm.tag_bits = tag_octets * _BITS

    def _agreed(
        self, session: int, private: int, peer: bytes, agreement: Agreement, derivation: Derivation
    ) -> int:
        """Handle of the session key; whoever asks destroys it."""
        if derivation is Derivation.MODULE:
            other_info = agreement.other_info
            return self._derived(
                session, private, peer, CKD_SHA256_KDF_SP800, other_info, self._session_key_at
            )
        return self._derived_here(session, private, peer, agreement.other_info)

    def _derived_here(self, session: int, private: int, peer: bytes, other_info: bytes) -> int:
        """Z out of the module, the KDF here, the key back in; both rooms are overwritten."""
        functions, secret, key = self._functions, self._z, self._key
        reading = self._reading
        handle = self._derived(session, private, peer, CKD_NULL, b"", self._shared_secret_at)
        try:
            reading.length = SHARED_SECRET_OCTETS
            code = functions.C_GetAttributeValue(session, handle, self._reading_at, 1)
            if not code and reading.length != SHARED_SECRET_OCTETS:
                code = Ckr.BUFFER_TOO_SMALL
            if code:
                raise CryptokiError("C_GetAttributeValue", code)
            derived = derive(secret, other_info)
            key[:], derived[:] = derived, _NO_KEY
            code = functions.C_CreateObject(
                session, self._given_key_at, self._given_attributes, self._handle_at
            )
            if code:
                raise CryptokiError("C_CreateObject", code)
            return self._handle.value
        finally:
            secret[:], key[:] = _NO_SECRET, _NO_KEY
            functions.C_DestroyObject(session, handle)

    def _derived(
        self,
        session: int,
        private: int,
        peer: bytes,
        kdf: int,
        shared: bytes,
        template: tuple["ctypes._Pointer[Attribute]", int],
    ) -> int:
        if len(peer) != POINT_OCTETS:
            raise Internal("a point on P-256 has 65 octets", rule="hsm/agreement")
        ecdh = self._ecdh
        ecdh.kdf, ecdh.shared_length, ecdh.shared = kdf, len(shared), shared or None
        ecdh.public = peer
        code = self._functions.C_DeriveKey(session, self._agreement_at, private, *template, self._handle_at)
        if code:
            raise CryptokiError("C_DeriveKey", code)
        return self._handle.value


def _first(template: ctypes.Array[Attribute]) -> "ctypes._Pointer[Attribute]":
    """Where a template begins; the template has to outlive it."""
    return cast(template, ctypes.POINTER(Attribute))


def _value(room: bytearray) -> Attribute:
    """CKA_VALUE in a room of our own, which has to outlive it."""
    return Attribute(Cka.VALUE, cast((c_char * len(room)).from_buffer(room), c_void_p), len(room))
