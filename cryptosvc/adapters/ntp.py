"""A time source that speaks NTP (RFC 5905), asked as a client of section 14: one datagram there, one back.

Of an answer is required what a forger elsewhere cannot know: the transmit timestamp of the question, which is random and
says nothing of our clock. A server that is not synchronised (leap indicator 3, stratum 0 or above 15) gives no time.
"""

import asyncio
import secrets
import socket
import struct
import time

from cryptosvc.core.clocks import Kind, Reading
from cryptosvc.core.errors import Unavailable

NTP_PORT = 123
_UNIX_EPOCH = 2_208_988_800
"""Seconds from 1900 to 1970."""
_NANOSECONDS = 10**9
_PACKET = struct.Struct("!BBbb iI4s 8s8s8s8s")
_VERSION_4_CLIENT = 4 << 3 | 3
_SERVER = 4
_UNSYNCHRONISED = 3
_STRATA = range(1, 16)
_HALF_ERA = 1 << 31


class NtpSource:
    """Implements `flow.clocks.TimeSource`.

    Args:
        name, kind: see there.
        host, port: where to.
        seconds: an answer is waited for so long.

    """

    def __init__(self, name: str, kind: Kind, host: str, port: int, seconds: float) -> None:
        self._name = name
        self._kind = kind
        self._where = host, port
        self._seconds = seconds

    @property
    def name(self) -> str:
        """See `flow/clocks.py`."""
        return self._name

    @property
    def kind(self) -> Kind:
        """See `flow/clocks.py`."""
        return self._kind

    async def read(self) -> Reading:
        """See `flow/clocks.py`."""
        return await asyncio.to_thread(self._ask)

    def _ask(self) -> Reading:
        cookie = secrets.token_bytes(8)
        question = _PACKET.pack(_VERSION_4_CLIENT, 0, 0, 0, 0, 0, b"", b"", b"", b"", cookie)
        try:
            family, _, _, _, address = socket.getaddrinfo(*self._where, type=socket.SOCK_DGRAM)[0]
            with socket.socket(family, socket.SOCK_DGRAM) as datagrams:
                datagrams.connect(address)
                end = time.monotonic() + self._seconds
                sent, began = time.time_ns(), time.monotonic_ns()  # noqa: TID251 - this is what is compared
                datagrams.send(question)
                while True:
                    datagrams.settimeout(max(end - time.monotonic(), 0.001))
                    octets = datagrams.recv(1024)
                    took = time.monotonic_ns() - began
                    if len(octets) >= _PACKET.size and octets[24:32] == cookie:
                        return self._reading(octets[: _PACKET.size], sent, took)
                    if time.monotonic() >= end:
                        raise self._silent("nothing it sent was an answer")
        except OSError as error:
            raise self._silent(type(error).__name__) from None

    def _reading(self, octets: bytes, sent: int, took: int) -> Reading:
        first, stratum, _, _, delay, dispersion, _, _, _, received, transmitted = _PACKET.unpack(octets)
        if first & 7 != _SERVER or first >> 6 == _UNSYNCHRONISED or stratum not in _STRATA:
            raise self._silent("it has no time itself")
        arrived, left = _unix(received, sent), _unix(transmitted, sent)
        offset = ((arrived - sent) + (left - (sent + took))) // 2
        delay_here = max(took - (left - arrived), 0)
        root = (max(delay, 0) // 2 + dispersion) * _NANOSECONDS >> 16
        return Reading(self._name, self._kind, offset, delay_here // 2 + root)

    def _silent(self, why: str) -> Unavailable:
        return Unavailable(f"time source {self._name}: {why}", rule="clock/source")


def _unix(stamp: bytes, near: int) -> int:
    """An NTP timestamp as nanoseconds since 1970, in the era that lies nearest (RFC 5905, section 6)."""
    seconds, fraction = int.from_bytes(stamp[:4]), int.from_bytes(stamp[4:])
    here = near // _NANOSECONDS + _UNIX_EPOCH
    full = (here & ~0xFFFFFFFF) + seconds
    if full - here > _HALF_ERA:
        full -= 1 << 32
    elif here - full > _HALF_ERA:
        full += 1 << 32
    return (full - _UNIX_EPOCH) * _NANOSECONDS + (fraction * _NANOSECONDS >> 32)
