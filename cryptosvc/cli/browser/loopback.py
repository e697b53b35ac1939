"""A small HTTP server on 127.0.0.1 and nowhere else; `door.py` answers."""

from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from cryptosvc.cli.browser.door import HEADERS, Door, Given, Knock
from cryptosvc.cli.browser.views import Views
from cryptosvc.core.errors import Unavailable

ADDRESS = "127.0.0.1"
_SECONDS = 30
"""An idle connection is closed after this."""


class Loopback:
    """Serves a console until it is closed.

    Args:
        views: what there is to show.
        port: 0 for any that is free.

    Raises:
        Unavailable: the port is taken, or not for this user.

    """

    def __init__(self, views: Views, port: int = 0) -> None:
        try:
            self._server = ThreadingHTTPServer((ADDRESS, port), _handler(self._answer))
        except OSError as error:
            raise Unavailable(
                f"cannot listen on {ADDRESS}:{port} ({error.strerror}); choose another --port, or none",
                rule="console/port",
                field="--port",
            ) from None
        self._server.daemon_threads = True
        self._door = Door(f"{ADDRESS}:{self._server.server_port}", views)

    @property
    def address(self) -> str:
        """What to open in a browser; it works once."""
        return self._door.address

    def serve(self) -> None:
        """Answer until `close` is called from another thread."""
        self._server.serve_forever(poll_interval=0.1)

    def close(self) -> None:
        """Stop answering."""
        self._server.shutdown()
        self._server.server_close()

    def _answer(self, knock: Knock) -> Given:
        return self._door.answer(knock)


def _handler(answer: Callable[[Knock], Given]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        """One request a connection: what a client sends behind it is never read as another."""

        timeout = _SECONDS
        server_version = "cryptosvc"
        sys_version = ""

        def _handle(self) -> None:
            headers = {name.lower(): ", ".join(self.headers.get_all(name, [])) for name in self.headers}
            try:
                given = answer(Knock(self.command, self.path, headers))
            except Exception:  # noqa: BLE001 -- the page is told that something failed, and nothing of what
                given = Given(HTTPStatus.INTERNAL_SERVER_ERROR, b"A fault of ours.\n")
            self.send_response(given.status)
            for name, value in {**HEADERS, "Content-Type": given.kind, **given.headers}.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(given.body)))
            self.send_header("Connection", "close")
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(given.body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 -- the base class calls it so
            """Write no log: addresses hold what an auditor looked for, and once the token."""

    for method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"):
        setattr(Handler, f"do_{method}", Handler._handle)  # noqa: SLF001 -- of the class above
    return Handler
