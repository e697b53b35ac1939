"""Who may come in: every request to the console is judged here before anything is shown.

The console listens on loopback, where every page of every browser tab and every program of the machine can knock. So:

1. the `Host` must be the very address that was printed: a name that somebody's DNS points here is turned away (DNS
   rebinding);
2. only GET, and never from a page of another site (`Sec-Fetch-Site`);
3. the address that was printed works once; it gives a cookie that scripts cannot read and other sites cannot send;
4. what the log says is given out only against a second secret in a header. Cookies are shared by all ports of a host,
   and so are readable by another server on this machine; this secret reaches the page in the fragment of its address,
   which no server is sent, and stays in that page's session. A page of another origin cannot set the header.

Answers forbid the browser to run, frame, fetch or keep anything else.
"""

import hmac
import secrets
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from importlib.resources import files
from types import MappingProxyType

import orjson

from cryptosvc.cli.browser.views import Views, answered
from cryptosvc.cli.console import error_document
from cryptosvc.core.errors import CryptosvcError, Reason

SECRET_HEADER = "x-console-secret"  # noqa: S105 -- a header's name
_COOKIE = "cryptosvc-console"
_SECRET_OCTETS = 32
_PLAIN = "text/plain; charset=utf-8"
_JSON = "application/json"
_PAGES = MappingProxyType(
    {
        "/": ("console.html", "text/html; charset=utf-8"),
        "/console.css": ("console.css", "text/css; charset=utf-8"),
        "/console.js": ("console.js", "text/javascript; charset=utf-8"),
        "/timeline.js": ("timeline.js", "text/javascript; charset=utf-8"),
        "/verify.js": ("verify.js", "text/javascript; charset=utf-8"),
    }
)
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
)
HEADERS: Mapping[str, str] = MappingProxyType(
    {
        "Content-Security-Policy": POLICY,
        "X-Content-Type-Options": "nosniff",
        "X-Frame-Options": "DENY",
        "Referrer-Policy": "no-referrer",
        "Cache-Control": "no-store",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cross-Origin-Resource-Policy": "same-origin",
    }
)
_STATUSES: Mapping[Reason, HTTPStatus] = MappingProxyType(
    {
        Reason.MALFORMED: HTTPStatus.BAD_REQUEST,
        Reason.FORBIDDEN: HTTPStatus.FORBIDDEN,
        Reason.UNIDENTIFIED: HTTPStatus.FORBIDDEN,
        Reason.BUSY: HTTPStatus.SERVICE_UNAVAILABLE,
        Reason.UNAVAILABLE: HTTPStatus.SERVICE_UNAVAILABLE,
    }
)


@dataclass(frozen=True, slots=True)
class Knock:
    """A request: method, target as sent, and headers by their names in lower case; repeated ones joined by a comma."""

    method: str
    target: str
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Given:
    """An answer: status, body and its type, and headers beside those that every answer has."""

    status: HTTPStatus
    body: bytes
    kind: str = _PLAIN
    headers: Mapping[str, str] = field(default_factory=dict)


class Door:
    """Judges requests, and answers those it lets in.

    Args:
        authority: HOST:PORT as the address says it.
        views: what there is to show.

    """

    def __init__(self, authority: str, views: Views) -> None:
        self._authority = authority
        self._views = views
        self._lock = threading.Lock()
        self._token: str | None = secrets.token_urlsafe(_SECRET_OCTETS)
        self._session = secrets.token_urlsafe(_SECRET_OCTETS)
        self._secret = secrets.token_urlsafe(_SECRET_OCTETS)
        self.address = f"http://{authority}/begin?token={self._token}"
        """Works once."""

    def answer(self, knock: Knock) -> Given:
        """Answer a request; whatever it is, there is an answer."""
        # 1 the address that was printed, and no other name for it
        if knock.headers.get("host") != self._authority:
            return _no(HTTPStatus.MISDIRECTED_REQUEST, "This is not the address the command printed.")
        # 2 a look, from here
        if knock.method != "GET":
            return _no(HTTPStatus.METHOD_NOT_ALLOWED, "Nothing can be changed here.", {"Allow": "GET"})
        if knock.headers.get("sec-fetch-site", "none") not in {"none", "same-origin"}:
            return _no(HTTPStatus.FORBIDDEN, "A page of another site asked for this.")
        path, _, query = knock.target.partition("?")
        # 3 once in
        if path == "/begin":
            return self._begin(query)
        if not _same(_cookie(knock.headers.get("cookie", "")), self._session):
            return _no(HTTPStatus.FORBIDDEN, "Open the address the command printed; it works once.")
        if path in _PAGES:
            name, kind = _PAGES[path]
            return Given(HTTPStatus.OK, (files("cryptosvc.cli") / "pages" / name).read_bytes(), kind)
        # 4 what the log says
        if not path.startswith("/api/"):
            return _no(HTTPStatus.NOT_FOUND, "There is no such page.")
        if not _same(knock.headers.get(SECRET_HEADER, ""), self._secret):
            return _no(HTTPStatus.FORBIDDEN, "This page was not opened by the address the command printed.")
        return self._shown(path.removeprefix("/api/"), query)

    def _begin(self, query: str) -> Given:
        with self._lock:
            if self._token is None or not _same(query, f"token={self._token}"):
                return _no(HTTPStatus.FORBIDDEN, "This address works once. Start the console again.")
            self._token = None
        cookie = f"{_COOKIE}={self._session}; Path=/; HttpOnly; SameSite=Strict"
        return Given(
            HTTPStatus.SEE_OTHER, b"", _PLAIN, {"Location": f"/#secret={self._secret}", "Set-Cookie": cookie}
        )

    def _shown(self, name: str, query: str) -> Given:
        try:
            document = answered(self._views, name, query)
        except CryptosvcError as error:
            status = _STATUSES.get(error.reason, HTTPStatus.BAD_GATEWAY)
            return Given(status, orjson.dumps(error_document(error), default=dict), _JSON)
        return Given(HTTPStatus.OK, orjson.dumps(document, default=dict), _JSON)


def _same(given: str, expected: str) -> bool:
    return hmac.compare_digest(given.encode("utf-8", "replace"), expected.encode())


def _cookie(header: str) -> str:
    """The console's own cookie; empty where there is none, or two."""
    found = [
        value
        for name, mark, value in (one.strip().partition("=") for one in header.split(";"))
        if name == _COOKIE and mark
    ]
    return found[0] if len(found) == 1 else ""


def _no(status: HTTPStatus, text: str, headers: Mapping[str, str] | None = None) -> Given:
    return Given(status, f"{text}\n".encode(), _PLAIN, headers or {})
