"""Readers of single fields of a ceremony file, and of whole tables, each refusal naming the path of the key.

A reader takes what TOML or JSON gave and returns a `Setting`, or raises ValueError with what is wrong in words.

Example:
    >>> clause("G3.23(a)(iii)")
    'G3.23(a)(iii)'
"""

import difflib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from cryptosvc.core.canonical import JsonValue
from cryptosvc.core.content.x509 import extensions as x509
from cryptosvc.core.errors import Malformed
from cryptosvc.core.keyclass import KEY_CLASSES
from cryptosvc.core.life import UnixSeconds
from cryptosvc.core.names import Environment, Eui64, RemotePartyRole
from cryptosvc.core.registry import KeyState

Setting = str | int | bool | tuple[str, ...]
Reader = Callable[[JsonValue], Setting]

TEXT_CHARACTERS = 500
LARGEST_NUMBER = 100_000

EXTENSIONS: Mapping[str, str] = {
    "authorityKeyIdentifier": x509.AUTHORITY_KEY_IDENTIFIER,
    "basicConstraints": x509.BASIC_CONSTRAINTS,
    "cRLNumber": x509.CRL_NUMBER,
    "certificatePolicies": x509.CERTIFICATE_POLICIES,
    "issuingDistributionPoint": x509.ISSUING_DISTRIBUTION_POINT,
    "keyUsage": x509.KEY_USAGE,
    "subjectAltName": x509.SUBJECT_ALTERNATIVE_NAME,
    "subjectKeyIdentifier": x509.SUBJECT_KEY_IDENTIFIER,
    "wrappedApexContingencyKey": x509.WRAPPED_APEX_CONTINGENCY_KEY,
}
"""What an expected result calls an extension → its OID, dotted text. Source: RFC 5280, RFC 5934."""

REASONS: Mapping[str, int] = {
    "keyCompromise": 1,
    "cACompromise": 2,
    "affiliationChanged": 3,
    "superseded": 4,
    "cessationOfOperation": 5,
    "privilegeWithdrawn": 9,
}
"""CRLReason words → codes. Source: RFC 5280 5.3.1; the reasons the X.509 profile lets an entry give."""

_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
_LABEL = re.compile(r"[a-z0-9_]{1,40}")
_CLAUSE = re.compile(r"G[1-9]\d?\.[1-9]\d{0,2}[A-Z]?(\([a-z]{1,5}\)){0,3}")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
_LAST_SECOND = 253_402_300_799
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Field:
    """One key of a table.

    Args:
        name: as the file spells it.
        read: its reader.
        required: whether it may be left out.

    """

    name: str
    read: Reader
    required: bool = True


def table(value: JsonValue, path: str, names: Sequence[str]) -> Mapping[str, JsonValue]:
    """Take a table that has no other keys than `names`.

    Raises:
        Malformed: `ceremony/value` (no table), `ceremony/unknown-key`; `field` is the dotted path.

    """
    if not isinstance(value, Mapping):
        raise wrong(path, "this is a table")
    for key in value:
        if key not in names:
            near = difflib.get_close_matches(key, names, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else f"; keys here are {', '.join(sorted(names))}"
            spelt = key if _NAME.fullmatch(key) else ascii(key)
            where = f"{path}.{spelt}" if path else spelt
            raise Malformed(
                f"{where}: there is no such key in a ceremony{hint}", rule="ceremony/unknown-key", field=where
            )
    return value


def tables(value: JsonValue, path: str) -> Sequence[JsonValue]:
    """Take an array of tables; Malformed `ceremony/value` otherwise."""
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise wrong(path, "this is an array of tables")
    return value


def settings(
    document: Mapping[str, JsonValue], fields: Sequence[Field], path: str
) -> tuple[tuple[str, Setting], ...]:
    """Read the fields of a table, sorted by name.

    Raises:
        Malformed: `ceremony/missing`, `ceremony/value`; `field` is the dotted path.

    """
    found: list[tuple[str, Setting]] = []
    for field in fields:
        where = f"{path}.{field.name}" if path else field.name
        if field.name in document:
            try:
                found.append((field.name, field.read(document[field.name])))
            except ValueError as error:
                raise wrong(where, str(error)) from None
        elif field.required:
            raise Malformed(f"{where}: this key is missing", rule="ceremony/missing", field=where)
    return tuple(sorted(found))


def wrong(path: str, why: str) -> Malformed:
    """Make the refusal of a value: `ceremony/value`."""
    return Malformed(f"{path}: {why}", rule="ceremony/value", field=path)


def name(value: JsonValue) -> str:
    """A name of a key, certificate, list, file, module or system."""
    return _matching(value, _NAME, "a name is 1 to 64 letters, digits, '.', '_' or '-'")


def label(value: JsonValue) -> str:
    """A name of a fact."""
    return _matching(value, _LABEL, "a fact is called by 1 to 40 lower-case letters, digits or '_'")


def sentence(value: JsonValue) -> str:
    """One line of text for people."""
    if (
        not isinstance(value, str)
        or not 1 <= len(value) <= TEXT_CHARACTERS
        or not value.isprintable()
        or value != value.strip()
        or "`" in value  # the printed transcript sets values between back quotes
    ):
        raise ValueError(
            f"a text is one line of 1 to {TEXT_CHARACTERS} printable characters without a back quote"
        )
    return value


def clause(value: JsonValue) -> str:
    """A clause of Section G."""
    return _matching(
        value, _CLAUSE, "a clause of Section G is written as G2.60(a), G2.22B(d) or G3.23(a)(iii)"
    )


def moment(value: JsonValue) -> str:
    """A moment in UTC."""
    why = "a moment is text in UTC, as 2026-03-01T09:30:00Z"
    text = _matching(value, _TIME, why)
    try:
        datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(why) from None
    return text


def seconds(value: JsonValue) -> int:
    """Whole seconds since 1970, to the end of the year 9999."""
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= _LAST_SECOND:
        raise ValueError("this is a number of seconds since 1970")
    return value


def seconds_of(text: str) -> UnixSeconds:
    """Give the seconds of a moment as `moment` accepts it."""
    return UnixSeconds(int(datetime.fromisoformat(text).timestamp()))


def moment_of(seconds: UnixSeconds) -> str:
    """Print seconds as a moment in UTC."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def sha256(value: JsonValue) -> str:
    """A SHA-256 digest."""
    return _matching(value, _SHA256, "a digest is 64 lower-case hex digits")


def count(value: JsonValue) -> int:
    """A whole number, not negative."""
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= LARGEST_NUMBER:
        raise ValueError(f"this is a whole number, 0 to {LARGEST_NUMBER}")
    return value


def positive(value: JsonValue) -> int:
    """A whole number from 1."""
    if (found := count(value)) == 0:
        raise ValueError("this is a whole number from 1")
    return found


def truth(value: JsonValue) -> bool:
    """Read true or false."""
    if not isinstance(value, bool):
        raise ValueError("this is true or false")  # noqa: TRY004 -- readers say what is wrong in one way
    return value


def word(*known: str) -> Reader:
    """Make a reader of one of some words."""

    def read(value: JsonValue) -> str:
        if not isinstance(value, str) or value not in known:
            raise ValueError(f"this is one of {', '.join(known)}")
        return value

    return read


def some(*known: str) -> Reader:
    """Make a reader of a list of different words; order means nothing, so the sorted one is kept."""

    def read(value: JsonValue) -> tuple[str, ...]:
        items = value if isinstance(value, Sequence) and not isinstance(value, str) else [None]
        texts = [item for item in items if isinstance(item, str) and item in known]
        if len(texts) != len(items) or len(set(texts)) != len(texts):
            raise ValueError(f"this is a list of different ones of {', '.join(known)}")
        return tuple(sorted(texts))

    return read


def eui64(value: JsonValue) -> str:
    """An EUI-64."""
    try:
        return str(Eui64.parse(value if isinstance(value, str) else ""))
    except Malformed as error:
        raise ValueError(error.message) from None


def party_role(value: JsonValue) -> int:
    """A Remote Party Role code."""
    if not isinstance(value, int) or isinstance(value, bool) or value not in set(RemotePartyRole):
        raise ValueError(
            f"this is a Remote Party Role: {', '.join(str(int(role)) for role in RemotePartyRole)}"
        )
    return value


key_class = word(*KEY_CLASSES)
key_state = word(*(state.value for state in KeyState))
environment = word(*(one.value for one in Environment))
extension_names = some(*EXTENSIONS)
key_usages = some(*(usage.value for usage in x509.KeyUsage))
reason = word(*REASONS)


def _matching(value: JsonValue, form: re.Pattern[str], why: str) -> str:
    if not isinstance(value, str) or not form.fullmatch(value):
        raise ValueError(why)
    return value
