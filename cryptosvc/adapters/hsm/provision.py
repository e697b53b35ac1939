"""Make keys on a token, or adopt those that are there; read back what the token made of what it was asked.

Every attribute is given explicitly: library and vendor defaults let one key encrypt, sign and wrap (hazard 7). A key
whose attributes read back differently is destroyed before anyone can use it. Only `cryptosvc init` and ceremonies use
this module; the signing path makes nothing.

Modules as tried, with a transferable key (EXTRACTABLE and WRAP_WITH_TRUSTED): both read it back as asked. SoftHSM
2.6.1 refuses to wrap it under a key that is not CKA_TRUSTED (KEY_NOT_WRAPPABLE), and to wrap a key that is not
extractable (KEY_UNEXTRACTABLE). NSS softokn 3.87 outside FIPS mode wraps either under any AES key: it keeps the
attributes and does not enforce them. A pair made on NSS reads back CKA_LOCAL false, so that is not compared.

Example:
    >>> with Provisioner(config, lock_folder) as token:
    ...     point = token.generate("issuing-oca", b"\\x02", ceiling("issuing-oca").template)
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from cryptosvc.adapters.hsm import faults, first_signature, objects, token
from cryptosvc.adapters.hsm.assurance import ModuleConfig, Reported
from cryptosvc.adapters.hsm.constants import Cka, Ckk, Ckm, Cko
from cryptosvc.adapters.hsm.cryptoki import (
    FALSE,
    TRUE,
    CryptokiError,
    Functions,
    TemplateItem,
    boolean,
    number,
)
from cryptosvc.adapters.hsm.library import Library, acquire
from cryptosvc.adapters.hsm.token import OpenToken
from cryptosvc.core.errors import Conflict, Corrupt, Forbidden
from cryptosvc.core.keyclass import Algorithm, Template, Usage
from cryptosvc.core.names import ModuleName

P256_PARAMETERS = bytes.fromhex("06082a8648ce3d030107")
"""CKA_EC_PARAMS: the OID 1.2.840.10045.3.1.7 of prime256v1 in DER."""
SECRET_KEY_OCTETS = 32
"""Of an HMAC key and of an AES-256 key."""
DEVICE_KEY_OCTETS = 16
"""Of a SMETS1 Device's key, AES-128."""
RSA_BITS = 3072
RSA_EXPONENT = b"\x01\x00\x01"


@dataclass(frozen=True, slots=True)
class Shape:
    """How PKCS#11 spells an algorithm.

    Args:
        key_type: CKA_KEY_TYPE.
        mechanism: that generates it.
        pair: it has a private and a public half.
        parameters: further attributes of the public half.
        length: how long it is to be; not read back.

    """

    key_type: Ckk
    mechanism: Ckm
    pair: bool = False
    parameters: tuple[TemplateItem, ...] = ()
    length: tuple[TemplateItem, ...] = ((Cka.VALUE_LEN, number(SECRET_KEY_OCTETS)),)


SHAPES = {
    Algorithm.EC_P256: Shape(
        Ckk.EC, Ckm.EC_KEY_PAIR_GEN, pair=True, parameters=((Cka.EC_PARAMS, P256_PARAMETERS),), length=()
    ),
    Algorithm.HMAC_SHA256: Shape(Ckk.GENERIC_SECRET, Ckm.GENERIC_SECRET_KEY_GEN),
    Algorithm.AES_128: Shape(Ckk.AES, Ckm.AES_KEY_GEN, length=((Cka.VALUE_LEN, number(DEVICE_KEY_OCTETS)),)),
    Algorithm.AES_256: Shape(Ckk.AES, Ckm.AES_KEY_GEN),
    Algorithm.RSA_3072: Shape(
        Ckk.RSA,
        Ckm.RSA_PKCS_KEY_PAIR_GEN,
        pair=True,
        parameters=((Cka.PUBLIC_EXPONENT, RSA_EXPONENT),),
        length=((Cka.MODULUS_BITS, number(RSA_BITS)),),  # which NSS forgets afterwards
    ),
}

_PRIVATE_USAGES = (Usage.SIGN, Usage.DECRYPT, Usage.UNWRAP, Usage.DERIVE)
"""Usages a private key object can have in PKCS#11; the others belong to its public half or to secret keys."""
_CKA = {usage: Cka[usage.name] for usage in Usage}


@dataclass(frozen=True, slots=True)
class Difference:
    """An attribute that is not what the key class asks for.

    Args:
        attribute: as `CKA_EXTRACTABLE`.
        expected: `true`, `false`, or hex.
        found: the same, or `absent`.

    """

    attribute: str
    expected: str
    found: str

    def __str__(self) -> str:
        return f"{self.attribute} is {self.found}, the class asks for {self.expected}"


@dataclass(frozen=True, slots=True)
class Adopted:
    """An object that was there already.

    Args:
        public_point: 65 octets for an EC key, empty for a secret key.
        differences: from the class's template; the caller decides which it can live with, and says so for ever.

    """

    public_point: bytes
    differences: tuple[Difference, ...]


class Provisioner:
    """A token opened for making and reading keys.

    Args:
        config: the module.
        lock_folder: shared by all processes of the host that use the library.

    Raises (on entering):
        Unavailable: as `token.open_token`.

    """

    def __init__(self, config: ModuleConfig, lock_folder: Path) -> None:
        self._config = config
        self._lock_folder = lock_folder
        self._library: Library
        self._opened: OpenToken
        self._session = 0
        self._inside = False

    @property
    def name(self) -> ModuleName:
        """The configured name of the module."""
        return self._config.name

    @property
    def reported(self) -> Reported:
        """What the token says of itself."""
        return self._opened.reported

    @property
    def mechanisms(self) -> frozenset[int]:
        """What the token advertises; `mechanisms.check` reads it."""
        return self._opened.mechanisms

    def session_of_its_own(self) -> tuple[Functions, int, frozenset[int]]:
        """Functions, session and mechanisms, for a work that makes many calls; the session is closed with the token."""
        return self._library.functions, self._session, self._opened.mechanisms

    def generate(self, label: str, object_id: bytes, template: Template) -> bytes:
        """Generate a key (pair) on the token, read it back and compare.

        Args:
            label: CKA_LABEL; with `object_id` not taken yet.
            object_id: CKA_ID, at least one octet.
            template: of the key class.

        Returns:
            The uncompressed public point, 65 octets; empty for a secret key.

        Raises:
            Conflict: an object with this label and id exists.
            Forbidden: the module cannot make such a key, or made another; what it made is destroyed.
            Unavailable, Internal: the module failed.

        """
        with self._translated(f"generating key {label}"):
            functions = self._library.functions
            self._require_free(label, object_id)
            asked = wanted(label, object_id, template)
            shape = SHAPES[template.algorithm]
            if not shape.pair:
                made = [functions.generate(self._session, shape.mechanism, [*asked, *shape.length])]
                self._require_as_asked(label, [(made[0], asked)])
                return b""
            public_asked = wanted_public(label, object_id, template)
            public, private = functions.generate_pair(
                self._session, shape.mechanism, [*public_asked, *shape.length], asked
            )
            self._require_as_asked(label, [(private, asked), (public, public_asked)])
            if template.algorithm is Algorithm.EC_P256:
                return objects.public_point(functions, self._session, label, object_id)
            return b""

    def generate_with_request(
        self, label: str, object_id: bytes, template: Template, information: Callable[[bytes], bytes]
    ) -> tuple[bytes, bytes]:
        """Generate a P-256 key that is not to sign, having signed once: the request for its own certificate.

        Args:
            label: as for `generate`.
            object_id: likewise.
            template: likewise.
            information: public point → what is to be signed.

        Returns:
            The uncompressed public point, and r‖s of the information.

        Raises:
            NotCopied: this module lets no such key be made; it has nothing of it.
            Conflict, Forbidden, Unavailable, Internal: as `generate`.

        """
        with self._translated(f"generating key {label}"):
            functions = self._library.functions
            self._require_free(label, object_id)
            asked = wanted(label, object_id, template)
            public_asked = wanted_public(label, object_id, template)
            (public, private), point, signature = first_signature.make(
                functions, self._session, public_asked, asked, information
            )
            self._require_as_asked(label, [(private, asked), (public, public_asked)])
            return point, signature

    def _require_free(self, label: str, object_id: bytes) -> None:
        if objects.matching(self._library.functions, self._session, label, object_id):
            raise Conflict(
                f"the token has an object {label!r} with id {object_id.hex()} already; adopt it or take another id",
                rule="hsm/object-exists",
            )

    def _require_as_asked(self, label: str, made: Sequence[tuple[int, list[TemplateItem]]]) -> None:
        """Destroy what was made, and raise, unless every object reads back as it was asked for."""
        differences = [one for handle, asked in made for one in self._differences(handle, asked)]
        if differences:
            for handle, _ in made:
                self._library.functions.C_DestroyObject(self._session, handle)
            raise Forbidden(
                f"module {self._config.name} made key {label!r} otherwise than asked, so it was destroyed: "
                + "; ".join(map(str, differences)),
                rule="hsm/template",
                clause="G2.22G",
            )

    def adopt(self, label: str, object_id: bytes, template: Template) -> Adopted:
        """Find the one object with this label and id, and report how it differs from the class's template.

        Changes nothing on the token.

        Raises:
            Unavailable: there is no such object (or, for an EC key, no public one beside it).
            Corrupt: two match, or the key is on another curve.

        """
        with self._translated(f"adopting key {label}"):
            functions = self._library.functions
            elliptic = template.algorithm is Algorithm.EC_P256
            point = objects.public_point(functions, self._session, label, object_id) if elliptic else b""
            shape = SHAPES[template.algorithm]
            locator = objects.Locator(
                Cko.PRIVATE_KEY if shape.pair else Cko.SECRET_KEY,
                shape.key_type,
                label,
                object_id,
                point,
            )
            handle = objects.find(functions, self._session, locator)
            parameters = functions.attribute(self._session, handle, Cka.EC_PARAMS) if elliptic else None
            if parameters is not None and parameters != P256_PARAMETERS:
                raise Corrupt(f"key {label!r} is not on curve P-256", rule="hsm/curve")
            return Adopted(point, self._differences(handle, wanted(label, object_id, template)))

    def public_point(self, label: str, object_id: bytes) -> bytes:
        """Uncompressed point of the public key with this label and id; Unavailable, Corrupt as `objects.public_point`."""
        with self._translated(f"reading key {label}"):
            return objects.public_point(self._library.functions, self._session, label, object_id)

    def objects(self) -> list[objects.Seen]:
        """Everything on the token, for `doctor` and reconciliation."""
        with self._translated("listing objects"):
            return objects.everything(self._library.functions, self._session)

    def destroy(self, label: str, object_id: bytes) -> int:
        """Destroy every object with this label and id; how many there were.

        Public objects go last: a process that dies in between leaves what still tells whose it is, and nothing secret.
        """
        with self._translated(f"destroying key {label}"):
            functions = self._library.functions
            handles = objects.matching(functions, self._session, label, object_id)
            public = number(Cko.PUBLIC_KEY)
            handles.sort(key=lambda one: functions.attribute(self._session, one, Cka.CLASS) == public)
            for handle in handles:
                if code := functions.C_DestroyObject(self._session, handle):
                    raise CryptokiError("C_DestroyObject", code)
            return len(handles)

    def _differences(self, handle: int, wanted: list[TemplateItem]) -> tuple[Difference, ...]:
        functions = self._library.functions
        found = [(kind, value, functions.attribute(self._session, handle, kind)) for kind, value in wanted]
        return tuple(
            Difference(f"CKA_{kind.name}", _shown(expected), "absent" if value is None else _shown(value))
            for kind, expected, value in found
            if value != expected
            and not (value is None and expected == FALSE)  # what is absent permits nothing
        )

    def __enter__(self) -> Self:
        self._library = acquire(self._config.library, self._config.init_args, self)
        try:
            self._opened = token.open_token(self._library, self, self._config, self._lock_folder)
            with self._translated("opening a session"):
                self._session = token.open_session(self._library.functions, self._opened.slot, writable=True)
        except BaseException:
            self._library.leave(self)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._opened.generation == self._library.live:
            self._library.functions.C_CloseSession(self._session)
            self._library.functions.C_CloseSession(self._opened.login_session)
        self._library.leave(self)

    @contextmanager
    def _translated(self, doing: str) -> Iterator[None]:
        self._inside = True
        try:
            yield
        except CryptokiError as error:
            raise faults.translated(self._config.name, error, doing=doing) from None
        finally:
            self._inside = False

    # What library.py asks of a user.

    def suspend(self) -> None:
        """A provisioner makes single calls; `calling` holds the library while one is under way."""

    def calling(self) -> bool:
        """Whether a call is under way."""
        return self._inside

    def active(self) -> bool:
        """Whether the token is open: the library is not initialised again under it."""
        return self._session != 0


def wanted(label: str, object_id: bytes, template: Template) -> list[TemplateItem]:
    """Every attribute of the private or secret object."""
    shape = SHAPES[template.algorithm]
    usages = _PRIVATE_USAGES if shape.pair else tuple(Usage)
    return [
        (Cka.CLASS, number(Cko.PRIVATE_KEY if shape.pair else Cko.SECRET_KEY)),
        (Cka.KEY_TYPE, number(shape.key_type)),
        (Cka.TOKEN, TRUE),
        (Cka.PRIVATE, TRUE),
        (Cka.MODIFIABLE, FALSE),
        (Cka.LABEL, label.encode()),
        (Cka.ID, object_id),
        (Cka.SENSITIVE, TRUE),
        (Cka.EXTRACTABLE, boolean(value=template.transferable)),
        (Cka.WRAP_WITH_TRUSTED, boolean(value=template.transferable)),
        *((_CKA[usage], boolean(value=usage in template.usages)) for usage in usages),
        *(((Cka.SIGN_RECOVER, FALSE),) if shape.pair else ()),
    ]


def wanted_public(label: str, object_id: bytes, template: Template) -> list[TemplateItem]:
    """Every attribute of the public half: it undoes what the private half does, and does nothing else."""
    shape = SHAPES[template.algorithm]
    return [
        (Cka.CLASS, number(Cko.PUBLIC_KEY)),
        (Cka.KEY_TYPE, number(shape.key_type)),
        (Cka.TOKEN, TRUE),
        (Cka.PRIVATE, FALSE),
        (Cka.MODIFIABLE, FALSE),
        (Cka.LABEL, label.encode()),
        (Cka.ID, object_id),
        *shape.parameters,
        (Cka.VERIFY, boolean(value=Usage.SIGN in template.usages)),
        (Cka.VERIFY_RECOVER, FALSE),
        (Cka.ENCRYPT, FALSE),
        (Cka.WRAP, boolean(value=Usage.UNWRAP in template.usages)),
        (Cka.DERIVE, FALSE),
    ]


def _shown(value: bytes) -> str:
    return {TRUE: "true", FALSE: "false"}.get(value) or value.hex()
