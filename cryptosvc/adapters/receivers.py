"""Receivers of alarms: a webhook (HTTP POST) and syslog (RFC 5424 over TCP, TLS or UDP).

A webhook has taken an alarm when it answers 2xx. Syslog has no answer: over TCP and TLS an alarm is taken when the
operating system has it for a connection that stands, and over UDP when it was sent.
"""

import asyncio
import http.client
import socket
import ssl
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

from cryptosvc.core.errors import Unavailable
from cryptosvc.core.watch.alarm import Alarm
from cryptosvc.core.watch.rules import Severity

Form = Callable[[Alarm, int], bytes]
_FACILITY = 13
"""Log audit."""
_NOTICE = 5
_PRIORITY = {
    Severity.INFORMATIONAL: 6,
    Severity.LOW: 5,
    Severity.MEDIUM: 4,
    Severity.HIGH: 3,
    Severity.CRITICAL: 2,
}
_OK = range(200, 300)


class Webhook:
    """Implements `flow.tell.Receiver`: one POST for each alarm. Redirections are not followed.

    Args:
        url: http or https.
        form: the body.
        content_type: of the body.
        seconds: an exchange may take this long.
        authority: PEM file that the server's certificate must chain to; None for those of the system.

    """

    def __init__(
        self, url: str, form: Form, content_type: str, seconds: float, authority: Path | None = None
    ) -> None:
        self._url = urlsplit(url)
        self._form = form
        self._content_type = content_type
        self._seconds = seconds
        self._authority = authority

    async def tell(self, alarm: Alarm, leaf_index: int) -> None:
        """See `flow/tell.py`."""
        await asyncio.to_thread(self._post, self._form(alarm, leaf_index))

    def _post(self, body: bytes) -> None:
        host, port = self._url.hostname or "", self._url.port
        connection = (
            http.client.HTTPConnection(host, port, timeout=self._seconds)
            if self._url.scheme == "http"
            else http.client.HTTPSConnection(
                host, port, timeout=self._seconds, context=_context(self._authority)
            )
        )
        path = (self._url.path or "/") + (f"?{self._url.query}" if self._url.query else "")
        try:
            connection.request("POST", path, body, {"Content-Type": self._content_type})
            status = connection.getresponse().status
        except (OSError, http.client.HTTPException) as error:
            raise _gone(type(error).__name__) from None
        finally:
            connection.close()
        if status not in _OK:
            raise _gone(f"it answered {status}")


class Syslog:
    """Implements `flow.tell.Receiver`; over TCP and TLS each message is preceded by its length (RFC 6587, RFC 5425).

    Args:
        host, port: where to.
        transport: `tcp`, `tls` or `udp`.
        form: the message.
        seconds: a connection or a write may take this long.
        authority: as for a webhook, with `tls`.

    """

    def __init__(
        self,
        host: str,
        port: int,
        transport: str,
        form: Form,
        seconds: float,
        authority: Path | None = None,
    ) -> None:
        self._where = host, port
        self._transport = transport
        self._form = form
        self._seconds = seconds
        self._authority = authority

    async def tell(self, alarm: Alarm, leaf_index: int) -> None:
        """See `flow/tell.py`."""
        await asyncio.to_thread(self._send, _message(alarm, self._form(alarm, leaf_index)))

    async def say(self, message_id: str, text: bytes) -> None:
        """Say something that is no alarm, as a notice. Unavailable: it may not have been taken."""
        # without a time of its own: whoever takes it knows when
        await asyncio.to_thread(self._send, _header(_FACILITY * 8 + _NOTICE, "-", message_id) + text)

    def _send(self, message: bytes) -> None:
        try:
            if self._transport == "udp":
                family = socket.getaddrinfo(*self._where, type=socket.SOCK_DGRAM)[0][0]
                with socket.socket(family, socket.SOCK_DGRAM) as datagrams:
                    datagrams.sendto(message, self._where)
                return
            with socket.create_connection(self._where, self._seconds) as plain:
                framed = b"%d %b" % (len(message), message)
                if self._transport == "tcp":
                    plain.sendall(framed)
                    plain.shutdown(socket.SHUT_WR)
                    return
                with _context(self._authority).wrap_socket(plain, server_hostname=self._where[0]) as secured:
                    secured.sendall(framed)
        except OSError as error:
            raise _gone(type(error).__name__) from None


def _message(alarm: Alarm, text: bytes) -> bytes:
    stamp = datetime.fromtimestamp(alarm.at, UTC).isoformat().replace("+00:00", "Z")
    priority = _FACILITY * 8 + _PRIORITY[alarm.severity]
    return _header(priority, stamp, "alarm") + text


def _header(priority: int, stamp: str, message_id: str) -> bytes:
    return f"<{priority}>1 {stamp} {socket.gethostname()} cryptosvc - {message_id} - ".encode()


def _context(authority: Path | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=None if authority is None else str(authority))
    except (OSError, ssl.SSLError) as error:
        raise Unavailable(
            f"{authority} cannot be read as a certificate authority ({type(error).__name__})",
            rule="watch/authority",
        ) from None


def _gone(why: str) -> Unavailable:
    return Unavailable(why, rule="watch/receiver")
