"""Witness and log over HTTP: the server on the auditor's machine, and what the service asks it with.

Plain HTTP is enough on one host or in a tunnel: whoever stands between can withhold answers, and nothing else, since notes
and cosignatures are signed. `https://` is spoken to where a proxy offers it.

Source: c2sp.org/tlog-witness.
"""

import asyncio
import http.client
import threading
import urllib.parse
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from cryptosvc.core.errors import CryptosvcError, Malformed, Unavailable
from cryptosvc.core.witness import MAX_REQUEST_OCTETS, AddCheckpoint, Witness
from cryptosvc.flow.witness import Answer

ADD_CHECKPOINT = "/add-checkpoint"
_ANSWER_SECONDS = 5.0
_LARGEST_ANSWER_OCTETS = 4096


class HttpPeer:
    """A witness behind a URL; implements `flow.cosign.Peer`.

    Args:
        witness: whose cosignature is wanted.
        url: `http://HOST:PORT/PREFIX` or `https://…`; `/add-checkpoint` is added.

    """

    def __init__(self, witness: Witness, url: str) -> None:
        self._witness = witness
        self._url = urllib.parse.urlsplit(url)
        if self._url.scheme not in ("http", "https") or not self._url.hostname:
            raise Malformed(f"{url!r} is no URL of a witness", rule="witness/url", field="witnesses")

    @property
    def witness(self) -> Witness:
        """See `flow/cosign.py`."""
        return self._witness

    async def add_checkpoint(self, asked: AddCheckpoint) -> Answer:
        """See `flow/cosign.py`."""
        return await asyncio.to_thread(self._post, asked.text())

    def _post(self, body: bytes) -> Answer:
        https = self._url.scheme == "https"
        kind = http.client.HTTPSConnection if https else http.client.HTTPConnection
        connection = kind(self._url.hostname or "", self._url.port, timeout=_ANSWER_SECONDS)
        try:
            connection.request("POST", self._url.path.rstrip("/") + ADD_CHECKPOINT, body)
            answer = connection.getresponse()
            octets = answer.read(_LARGEST_ANSWER_OCTETS)
            return Answer(answer.status, octets, answer.getheader("Content-Type", ""))
        except (OSError, http.client.HTTPException) as error:
            raise Unavailable(
                f"{self._witness.name} does not answer ({type(error).__name__})", rule="witness/unreachable"
            ) from None
        finally:
            connection.close()


class WitnessServer:
    """Serves `POST /add-checkpoint` until it is closed.

    Args:
        host, port: where; port 0 for any.
        answer: gives the answer to a body; asked by one request at a time.

    """

    def __init__(self, host: str, port: int, answer: Callable[[bytes], Answer]) -> None:
        turn = threading.Lock()

        class Handler(BaseHTTPRequestHandler):
            timeout = _ANSWER_SECONDS
            server_version, sys_version = "cryptosvc-witness", ""

            def do_POST(self) -> None:
                length = self.headers.get("Content-Length", "")
                if self.path != ADD_CHECKPOINT:
                    self._say(Answer(404, b"this witness answers POST /add-checkpoint\n"))
                elif not length.isdecimal() or int(length) > MAX_REQUEST_OCTETS:
                    self._say(Answer(413, b"a request says its length, and it is short\n"))
                else:
                    body = self.rfile.read(int(length))
                    try:
                        with turn:
                            said = answer(body)
                    except CryptosvcError as error:
                        said = Answer(503, error.message.encode() + b"\n")
                    self._say(said)

            def _say(self, said: Answer) -> None:
                self.send_response(said.status)
                self.send_header("Content-Type", said.content_type)
                self.send_header("Content-Length", str(len(said.body)))
                self.end_headers()
                self.wfile.write(said.body)

            def log_message(self, *_: object) -> None:
                """Whoever wants a journal has the service's; nothing a peer sends is printed here."""

        try:
            self._server = ThreadingHTTPServer((host, port), Handler)
        except OSError as error:
            raise Unavailable(
                f"cannot listen on {host}:{port}: {error.strerror}", rule="witness/listen"
            ) from None
        self._server.daemon_threads = True
        self.port = self._server.server_port

    def serve(self) -> None:
        """Serve; returns once `close` was called."""
        self._server.serve_forever(poll_interval=0.2)

    def close(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()
