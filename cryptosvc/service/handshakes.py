"""Failed TLS handshakes: gRPC refuses them before any handler, so they are read from what its core says of them.

gRPC's core writes its log to file descriptor 2 and nowhere else. With `ENVIRONMENT` set before the process starts,
each failed handshake is one message that names the error and the peer; connections that succeed cost six lines once,
calls cost nothing. `ErrorTap` puts a pipe in the descriptor's place, takes those messages out, and passes everything
else on to where it went before.

Example of a message (one write, two lines; shortened):

    I1122 20:48:51.123535 12420 handshaker.cc:155] CallNextHandshakerLocked: error=UNKNOWN: Ssl handshake failed
    (TSI_PROTOCOL_FAILURE): SSL_ERROR_SSL: ...CERTIFICATE_VERIFY_FAILED: unable to get local issuer certificate: OK
     shutdown=false index=2, args={... grpc.internal.endpoint_peer_address=ipv4:127.0.0.1:48642, ...
     grpc.internal.server_credentials=0x56230779b990, ...}
"""

import atexit
import faulthandler
import fcntl
import os
import re
import threading
from collections.abc import Callable

from cryptosvc.service.tally import Event

ENVIRONMENT = {"GRPC_VERBOSITY": "INFO", "GRPC_TRACE": "handshaker"}
"""What a worker's environment must have when its process starts."""

_MESSAGE = re.compile(rb"^[IWEF]\d{4} \d\d:\d\d:\d\d\.\d+ +\d+ ([a-z_]+\.(?:cc|h)):\d+\] ?(.*)", re.DOTALL)
_STEP = b"CallNextHandshakerLocked: error="
_SERVER_SIDE = b"grpc.internal.server_credentials="
_PEER = re.compile(rb"grpc\.internal\.endpoint_peer_address=([^,}\s]+)")
_NOISE_OF = frozenset({b"handshaker.cc", b"ssl_transport_security.cc", b"log.cc", b"trace.cc"})
"""Where messages come from that say no more than is recorded, or that tracing is on."""

_TRAILER = re.compile(rb"=== Source Location Trace|src/core/|\s*$")
"""Further lines of such a message; nobody else writes the like."""

_NOISE_START = b"handshake manager "

_REASONS = (
    (b"PEER_DID_NOT_RETURN_A_CERTIFICATE", "no-certificate"),
    (b"certificate has expired", "expired"),
    (b"certificate is not yet valid", "not-yet-valid"),
    (b"CERTIFICATE_VERIFY_FAILED", "untrusted"),
    (b"ALERT_", "rejected-by-peer"),
    (b"HTTP_REQUEST", "not-tls"),
    (b"HTTPS_PROXY_REQUEST", "not-tls"),
    (b"WRONG_VERSION_NUMBER", "not-tls"),
    (b"UNSUPPORTED_PROTOCOL", "protocol-version"),
    (b"NO_SHARED_CIPHER", "no-shared-cipher"),
    (b"timed out", "timed-out"),
    (b"Deadline", "timed-out"),
    (b"Socket closed", "closed"),
    (b"Connection reset", "closed"),
)

_PIPE_OCTETS = 1024 * 1024
_LINE_OCTETS_AT_MOST = 64 * 1024


class HandshakeReader:
    """Sorts lines of the process's error stream.

    Args:
        failed: called with each failed handshake of a connection to this server.

    """

    def __init__(self, failed: Callable[[Event], None]) -> None:
        self._failed = failed
        self._error: bytes | None = None
        self._dropped = False

    def line(self, line: bytes) -> bool:
        """Take one line, without its end; say whether it is to be passed on."""
        message = _MESSAGE.match(line)
        if message is not None:
            self._error = None
            file, text = message.groups()
            self._dropped = file in _NOISE_OF or text.startswith((_STEP, _NOISE_START))
            if text.startswith(_STEP):
                rest = text[len(_STEP) :]
                if not rest.startswith(b"OK"):
                    self._error = b""
                    self._continue(rest)
            return not self._dropped
        if self._error is not None:
            self._continue(line)
            return False
        return not (self._dropped and _TRAILER.match(line))

    def _continue(self, text: bytes) -> None:
        assert self._error is not None
        if b" shutdown=" not in text or b" args=" not in text:
            self._error = (self._error + text)[:_LINE_OCTETS_AT_MOST]
            return
        error, self._error = self._error + text, None
        if _SERVER_SIDE in error:
            peer = _PEER.search(error)
            self._failed(Event(_reason(error), peer[1].decode("ascii", "replace") if peer else ""))


def _reason(error: bytes) -> str:
    for mark, reason in _REASONS:
        if mark in error:
            return reason
    return "other"


class ErrorTap:
    """Reads the process's own error stream.

    Args:
        failed: called with each failed handshake, on the tap's thread.

    What is in the pipe when a process dies is lost, so the interpreter's crash handler is pointed at the stream as it
    was, and an interpreter that ends by itself empties the pipe first.
    """

    def __init__(self, failed: Callable[[Event], None]) -> None:
        self._reader = HandshakeReader(failed)
        self._original = os.dup(2)
        taken, given = os.pipe()
        fcntl.fcntl(given, fcntl.F_SETPIPE_SZ, _PIPE_OCTETS)
        os.dup2(given, 2)
        os.close(given)
        self._taken = taken
        self._thread = threading.Thread(target=self._run, name="error-tap", daemon=True)
        self._thread.start()
        faulthandler.enable(self._original)
        atexit.register(self.close)

    def close(self) -> None:
        """Put the stream back as it was, once everything written so far has been read."""
        os.dup2(self._original, 2)
        atexit.unregister(self.close)
        self._thread.join(timeout=5.0)

    def _run(self) -> None:
        with os.fdopen(self._taken, "rb", buffering=_LINE_OCTETS_AT_MOST) as stream:
            while line := stream.readline(_LINE_OCTETS_AT_MOST):
                try:
                    passed = self._reader.line(line.rstrip(b"\n"))
                except Exception:  # noqa: BLE001 - a tap that dies would block whoever writes to the pipe
                    passed = True
                if passed:
                    os.write(self._original, line)
