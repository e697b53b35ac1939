"""The name of a key on a card: a PKCS #11 URI, as far as it names library, token and private key.

Source: RFC 7512.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote_to_bytes

from cryptosvc.core.errors import Malformed

SCHEME = "pkcs11:"
_PATH = frozenset({"token", "serial", "manufacturer", "model", "object", "id", "type"})
_TOKEN = frozenset({"token", "serial", "manufacturer", "model"})
_QUERY = frozenset({"module-path", "pin-source"})
_ESCAPED = re.compile(r"(?:[A-Za-z0-9\-._~:\[\]@!$'()*+,=&/?|]|%[0-9A-Fa-f]{2})*")


@dataclass(frozen=True, slots=True)
class CardUri:
    """A PKCS#11 URI, as far as it names a private key.

    Args:
        library: path of the PKCS#11 library.
        token: what the token must report: any of token (its label), serial, manufacturer, model.
        label: CKA_LABEL; None where the URI names none.
        object_id: CKA_ID; None where the URI names none.
        pin_file: file with the PIN; None to ask at the terminal.

    """

    library: str
    token: Mapping[str, str]
    label: str | None
    object_id: bytes | None
    pin_file: Path | None


def parse_uri(text: str) -> CardUri:
    """Read a PKCS#11 URI; Malformed where it is none, has a PIN in it, or does not name library, token and key."""
    if not text.startswith(SCHEME):
        raise _uri(f"begins with {SCHEME}")
    path, _, query = text.removeprefix(SCHEME).partition("?")
    named, asked = _attributes(path, ";", _PATH), _attributes(query, "&", _QUERY)
    library = _text(asked.get("module-path", b""))
    if not library.startswith("/"):
        raise _uri("names the library: ?module-path=/absolute/path.so")
    if named.get("type", b"private") != b"private":
        raise _uri("is of a private key: leave type out, or type=private")
    token = {name: _text(named[name]) for name in sorted(_TOKEN & named.keys())}
    if not token.keys() & {"token", "serial"} or not named.keys() & {"object", "id"}:
        raise _uri("names the token (token= or serial=) and the key (object= or id=)")
    return CardUri(
        library=library,
        token=token,
        label=_text(named["object"]) if "object" in named else None,
        object_id=named.get("id"),
        pin_file=_pin_file(asked["pin-source"]) if "pin-source" in asked else None,
    )


def _attributes(text: str, separator: str, known: frozenset[str]) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for part in text.split(separator) if text else []:
        name, equals, value = part.partition("=")
        if name == "pin-value":
            raise _uri("has no PIN in it (arguments can be read by everybody): use pin-source, or be asked")
        if name not in known or not equals:
            raise _uri(f"has attributes {', '.join(sorted(known))}, each with a value; not {name!r}")
        if name in found:
            raise _uri(f"names {name} once")
        if not _ESCAPED.fullmatch(value):
            raise _uri(f"escapes what is special in {name} as %XX")
        found[name] = unquote_to_bytes(value)
    return found


def _pin_file(value: bytes) -> Path:
    text = _text(value)
    if text.startswith("file:"):
        text = text.removeprefix("file:").removeprefix("//")
    if not text.startswith("/"):
        raise _uri("names a file as pin-source: pin-source=file:/absolute/path")
    return Path(text)


def _text(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise _uri("is UTF-8") from None


def _uri(what: str) -> Malformed:
    return Malformed(f"a PKCS#11 URI {what} (RFC 7512)", rule="key/uri", field="key")
