"""A time server on loopback that speaks NTP, as right or wrong as a test wants it (RFC 5905)."""

import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

SECOND = 10**9


def stamp(nanoseconds: int) -> bytes:
    seconds, rest = divmod(nanoseconds, SECOND)
    return struct.pack("!II", (seconds + 2_208_988_800) & 0xFFFFFFFF, (rest << 32) // SECOND)


@contextmanager
def ntp(
    *, ahead: int = 0, stratum: int = 2, first: int = 4 << 3 | 4, cookie: bytes = b"", dispersion: int = 0
) -> Iterator[int]:
    """A server on loopback; its port."""
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind(("127.0.0.1", 0))

    def answer() -> None:
        while True:
            question, where = server.recvfrom(1024)
            if question == b"end":
                return
            assert (len(question), question[0], question[1:40]) == (48, 0x23, bytes(39))
            now = stamp(time.time_ns() + ahead)
            head = struct.pack("!BBbb iI4s", first, stratum, 6, -20, 0, dispersion, b"TEST")
            server.sendto(head + now + (cookie or question[40:]) + now + now, where)

    thread = threading.Thread(target=answer)
    thread.start()
    try:
        yield server.getsockname()[1]
    finally:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as last:
            last.sendto(b"end", server.getsockname())
        thread.join()
        server.close()
