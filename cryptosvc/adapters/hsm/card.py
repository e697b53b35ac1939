"""A custodian's own signing key: a PEM file in test, a smart card or any PKCS#11 token by its RFC 7512 URI.

A URI names the token and the key exactly; two keys that match are an error, and one is never picked. The PIN comes from
the file that `pin-source` names, or is asked for at the terminal; a URI with a PIN in it is refused, since arguments
can be read by everybody on the machine. What the token signed is verified in software before it leaves.

Source: RFC 7512; PKCS #11 3.0; SEC 1 version 2, C.5 (ECDSA-Sig-Value).

Example:
    pkcs11:token=ada;object=approve;id=%01?module-path=/usr/lib/opensc-pkcs11.so&pin-source=file:/run/ada.pin
"""

import ctypes
import getpass
import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from cryptosvc.adapters.hsm import agreeing, faults, pins
from cryptosvc.adapters.hsm.assurance import Reported
from cryptosvc.adapters.hsm.card_uri import SCHEME, CardUri, parse_uri
from cryptosvc.adapters.hsm.constants import CKF_SERIAL_SESSION, CKU_USER, Cka, Ckk, Ckm, Cko, Ckr, TokenFlag
from cryptosvc.adapters.hsm.cryptoki import TRUE, CryptokiError, Functions, Mechanism, number, require
from cryptosvc.adapters.hsm.library import Library, acquire
from cryptosvc.adapters.hsm.pins import PinCallable, PinFile, PinSource
from cryptosvc.core.errors import Corrupt, Malformed, Unavailable

_CKU_CONTEXT_SPECIFIC = 2
_AGREES_NOT = frozenset(
    (
        Ckr.KEY_FUNCTION_NOT_PERMITTED,
        Ckr.KEY_TYPE_INCONSISTENT,
        Ckr.MECHANISM_INVALID,
        Ckr.TEMPLATE_INCONSISTENT,
        Ckr.ATTRIBUTE_VALUE_INVALID,
    )
)
_SIGNATURE_OCTETS = 64
_NAME = "the card"


class SigningKey(Protocol):
    """A key that signs statements."""

    @property
    def spki(self) -> bytes:
        """Its SubjectPublicKeyInfo, DER."""

    def sign(self, octets: bytes) -> bytes:
        """ECDSA over SHA-256 of `octets`, as DER ECDSA-Sig-Value."""

    def agree(self, point: bytes) -> bytes:
        """ECDH with a P-256 point of 65 octets: the x-coordinate, 32 octets. Malformed: the key cannot, or the point is none."""


@contextmanager
def open_key(where: str) -> Iterator[SigningKey]:
    """Open a signing key by its name: a `pkcs11:` URI, or the path of a PEM file.

    Raises:
        Malformed: the URI, or the file is no P-256 private key; `key/…`.
        Unavailable: token, key or PIN cannot be had; nothing was signed.
        Corrupt: two keys match, or what the token signed does not verify.

    """
    if where.startswith(SCHEME):
        with _opened(parse_uri(where)) as card:
            yield card
    else:
        yield _FileKey(_from_file(Path(where)))


class _FileKey:
    def __init__(self, key: ec.EllipticCurvePrivateKey) -> None:
        self._key = key

    @property
    def spki(self) -> bytes:
        return _spki(self._key.public_key())

    def sign(self, octets: bytes) -> bytes:
        return self._key.sign(octets, ec.ECDSA(hashes.SHA256()))

    def agree(self, point: bytes) -> bytes:
        return agreed(self._key, point)


def agreed(key: ec.EllipticCurvePrivateKey, point: bytes) -> bytes:
    """ECDH of a key in memory with a point; Malformed where that is no point of its curve."""
    try:
        return key.exchange(ec.ECDH(), ec.EllipticCurvePublicKey.from_encoded_point(key.curve, point))
    except ValueError:
        raise Malformed("this is no point of the key's curve", rule="key/point", field="key") from None


def _from_file(path: Path) -> ec.EllipticCurvePrivateKey:
    try:
        octets = path.read_bytes()
    except OSError as error:
        raise Malformed(
            f"cannot read {path}: {error.strerror}", rule="config/unreadable", field="key"
        ) from None
    key: object
    try:
        key = load_pem_private_key(octets, None)
    except TypeError:  # it is encrypted
        key = _decrypted(octets, path)
    except (ValueError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise Malformed(f"{path} is no PEM private key on P-256", rule="key/file", field="key")
    return key


def _decrypted(octets: bytes, path: Path) -> object:
    phrase = bytearray(getpass.getpass(f"Passphrase of {path}: "), "utf-8")
    try:
        return load_pem_private_key(octets, bytes(phrase))
    except (ValueError, UnsupportedAlgorithm):
        return None
    finally:
        pins.wipe(phrase)


class _Card:
    """One key on one token, in a session that is logged in."""

    def __init__(
        self,
        functions: Functions,
        session: int,
        handle: int,
        public: ec.EllipticCurvePublicKey,
        pin: PinSource,
    ) -> None:
        self._functions = functions
        self._session = session
        self._handle = handle
        self._public = public
        self._pin = pin

    @property
    def spki(self) -> bytes:
        return _spki(self._public)

    def sign(self, octets: bytes) -> bytes:
        functions, session = self._functions, self._session
        digest = hashlib.sha256(octets).digest()
        room, length = (ctypes.c_ubyte * _SIGNATURE_OCTETS)(), ctypes.c_ulong(_SIGNATURE_OCTETS)
        with _translated("signing"):
            always = functions.attribute(session, self._handle, Cka.ALWAYS_AUTHENTICATE) == TRUE
            mechanism = ctypes.byref(Mechanism(Ckm.ECDSA))
            require("C_SignInit", functions.C_SignInit(session, mechanism, self._handle))
            if always:
                _log_in(functions, session, _CKU_CONTEXT_SPECIFIC, self._pin)
            require("C_Sign", functions.C_Sign(session, digest, len(digest), room, ctypes.byref(length)))
        made = bytes(room)[: length.value]
        half = _SIGNATURE_OCTETS // 2
        signature = encode_dss_signature(int.from_bytes(made[:half]), int.from_bytes(made[half:]))
        try:
            self._public.verify(signature, octets, ec.ECDSA(hashes.SHA256()))
        except InvalidSignature:
            raise Corrupt(
                "what the token signed does not verify under the public key beside it; use another token",
                rule="check/signature",
            ) from None
        return signature

    def agree(self, point: bytes) -> bytes:
        with _translated("agreeing with the card's key"):
            try:
                return bytes(agreeing.agreed_secret(self._functions, self._session, self._handle, point))
            except CryptokiError as error:
                if error.code in _AGREES_NOT:
                    raise Malformed(
                        "the card's key agrees on nothing (CKA_DERIVE is false, or the card lets no secret out); whoever holds "
                        "a part of a key brings a key that does",
                        rule="key/agrees-not",
                        field="key",
                    ) from None
                raise


class _Caller:
    """What library.py asks of a user: one thread, single calls."""

    def suspend(self) -> None:
        """Nothing goes on by itself."""

    def calling(self) -> bool:
        """Calls are made and over."""
        return False

    def active(self) -> bool:
        """The library is not initialised again under it."""
        return True


@contextmanager
def _opened(uri: CardUri) -> Iterator[_Card]:
    caller = _Caller()
    library: Library = acquire(uri.library, "", caller)
    try:
        with _translated("opening the token"):
            library.ensure(caller, 0)
            functions = library.functions
            slot, reported = _slot(functions, uri)
            session = functions.open_session(slot, CKF_SERIAL_SESSION)
        try:
            pin = _pin_of(uri, reported)
            with _translated("logging in"):
                _log_in(functions, session, CKU_USER, pin)
                handle, public = _key(functions, session, uri)
            yield _Card(functions, session, handle, public, pin)
        finally:
            functions.C_CloseSession(session)
    finally:
        library.leave(caller)


def _slot(functions: Functions, uri: CardUri) -> tuple[int, Reported]:
    found = [(slot, Reported.of(functions.token(slot))) for slot in functions.slots()]
    matching = [
        (slot, seen)
        for slot, seen in found
        if all(_reported(seen, name) == wanted for name, wanted in uri.token.items())
    ]
    if len(matching) != 1:
        labels = ", ".join(sorted(repr(seen.label) for _, seen in found)) or "none"
        raise Unavailable(
            f"{len(matching) or 'no'} tokens are as the URI says; there are {labels}", rule="hsm/token-absent"
        )
    _, seen = matching[0]
    if seen.flags & (TokenFlag.USER_PIN_LOCKED | TokenFlag.USER_PIN_FINAL_TRY):
        raise Unavailable(
            "the token's PIN is locked, or one more wrong attempt would lock it; unlock it with its own tools first",
            rule="hsm/pin-locked",
        )
    return matching[0]


def _reported(seen: Reported, name: str) -> str:
    return {
        "token": seen.label,
        "serial": seen.serial,
        "manufacturer": seen.manufacturer,
        "model": seen.model,
    }[name]


def _pin_of(uri: CardUri, reported: Reported) -> PinSource:
    if uri.pin_file is not None:
        return PinFile(uri.pin_file)
    return PinCallable(lambda: bytearray(getpass.getpass(f"PIN of token {reported.label}: "), "utf-8"))


def _log_in(functions: Functions, session: int, user: int, source: PinSource) -> None:
    pin = source.read()
    try:
        functions.login(session, user, pin)
    except CryptokiError as error:
        if error.code == Ckr.USER_ALREADY_LOGGED_IN:
            return
        if faults.fault_of(error.code) is faults.Fault.PIN:
            raise Unavailable(
                "the token refused the PIN; it was tried once", rule="hsm/pin-refused", field="key"
            ) from None
        raise
    finally:
        pins.wipe(pin)


def _key(functions: Functions, session: int, uri: CardUri) -> tuple[int, ec.EllipticCurvePublicKey]:
    named = [(Cka.TOKEN, TRUE)]
    named += [] if uri.label is None else [(Cka.LABEL, uri.label.encode())]
    named += [] if uri.object_id is None else [(Cka.ID, uri.object_id)]
    private = [(Cka.CLASS, number(Cko.PRIVATE_KEY)), (Cka.KEY_TYPE, number(Ckk.EC)), *named]
    handles = functions.find(session, private, 2)
    if not handles:
        raise Unavailable("the token has no such EC private key", rule="hsm/object-missing")
    if len(handles) > 1:
        raise Corrupt(
            "the token has two such private keys; name both object= and id=", rule="hsm/object-ambiguous"
        )
    identity = functions.attribute(session, handles[0], Cka.ID) or b""
    return handles[0], _public(functions, session, identity)


def _public(functions: Functions, session: int, identity: bytes) -> ec.EllipticCurvePublicKey:
    """The public half: the object beside the key by CKA_ID, or the certificate."""
    of_key = [(Cka.CLASS, number(Cko.PUBLIC_KEY)), (Cka.ID, identity), (Cka.TOKEN, TRUE)]
    of_certificate = [(Cka.CLASS, number(Cko.CERTIFICATE)), (Cka.ID, identity), (Cka.TOKEN, TRUE)]
    readers: tuple[tuple[list[tuple[Cka, bytes]], Cka, Callable[[bytes], object]], ...] = (
        (of_key, Cka.EC_POINT, _from_point),
        (of_certificate, Cka.VALUE, lambda der: x509.load_der_x509_certificate(der).public_key()),
    )
    for template, attribute, read in readers:
        for handle in functions.find(session, template, 1):
            try:
                public = read(functions.attribute(session, handle, attribute) or b"")
            except (ValueError, UnsupportedAlgorithm):
                continue
            if isinstance(public, ec.EllipticCurvePublicKey) and isinstance(public.curve, ec.SECP256R1):
                return public
    raise Unavailable(
        "the token has neither public key nor certificate on P-256 beside the private key, by CKA_ID",
        rule="hsm/object-missing",
    )


def _from_point(value: bytes) -> ec.EllipticCurvePublicKey:
    """CKA_EC_POINT is a DER OCTET STRING around the point; some modules leave it out."""
    point = value[2:] if value[:2] == b"\x04\x41" else value
    return ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), point)


@contextmanager
def _translated(doing: str) -> Iterator[None]:
    try:
        yield
    except CryptokiError as error:
        raise faults.translated(_NAME, error, doing=doing) from None


def _spki(public: ec.EllipticCurvePublicKey) -> bytes:
    return public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
