"""GBZ payloads: ZigBee Cluster Library commands grouped in one message, read to the last octet.

    01 09              profile: Smart Energy
    count              components, at least one
    each component:    control(1) cluster(2) length(2) body
      control          01 last, 00 not last; with 10 added, the body begins with a From Date Time (4)
      body             [From Date Time] frame control(1) transaction sequence(1) command(1) ZCL payload

Header integers are big-endian, ZCL payloads little-endian. The transaction sequence counts from 0. Encrypted
components (control 02) occur in responses only and are refused.

Example:
    >>> payload = emit([Component(cluster=0x0705, command=0x00, zcl=bytes(5))])
    >>> read(payload, 0, len(payload), None)

Sources: GBCS "GBZ Message Templates"; ZigBee Cluster Library 2.3.1 (frame control); every Command of the Reference
Test Data Set 4.5.0.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cryptosvc.core.content.gbcs.framing import wrong

LAST = 0x01
FROM_DATE_TIME = 0x10
CLIENT_TO_SERVER = 0x01
SERVER_TO_CLIENT = 0x09
_CONTROLS = frozenset((0x00, LAST, FROM_DATE_TIME, FROM_DATE_TIME | LAST))
_PROFILE = b"\x01\x09"
_METERING = b"\x07\x02"
_CHANGE_SUPPLY = 0x0B
_HEADER_OCTETS = 5
_ZCL_HEADER_OCTETS = 3
# Frame type 00 or 01, not manufacturer specific, direction, disable default response, and nothing else.
_FRAME_CONTROL_NEVER = 0b1110_0110


@dataclass(frozen=True, slots=True)
class Template:
    """What one component may look like.

    Args:
        dated: whether the body begins with a From Date Time.
        octets: length of the ZCL payload; the shortest one where `open_ended`.
        open_ended: whether more may follow.
        fixed: (offset, octets) runs of the ZCL payload that have one value only.

    """

    dated: bool
    octets: int
    open_ended: bool
    fixed: tuple[tuple[int, bytes], ...]

    def matches(self, buffer: bytes, at: int, end: int) -> bool:
        """Whether the ZCL payload `buffer[at:end]` looks like this."""
        size = end - at
        if size != self.octets and not (self.open_ended and size > self.octets):
            return False
        return all(buffer.startswith(run, at + offset) for offset, run in self.fixed)


@dataclass(frozen=True, slots=True)
class Grammar:
    """What a use case may carry.

    Args:
        fewest, most: bounds of the number of components.
        templates: cluster(2), frame control(1), command(1) → what such a component may look like.

    """

    fewest: int
    most: int
    templates: Mapping[bytes, tuple[Template, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Component:
    """One ZCL command to write.

    Args:
        cluster: 0 to 0xFFFF.
        command: 0 to 0xFF.
        zcl: ZCL payload, little-endian as ZigBee has it.
        frame_control: ZCL frame control octet.
        from_date_time: 4 octets, or nothing.

    """

    cluster: int
    command: int
    zcl: bytes
    frame_control: int = CLIENT_TO_SERVER
    from_date_time: bytes = b""


def read(buffer: bytes, start: int, end: int, grammar: Grammar | None) -> None:
    """Read one GBZ payload that fills `buffer[start:end]`; `grammar` None reads any command but Change Supply.

    Raises:
        Malformed: anything else.

    """
    if buffer[start : start + 2] != _PROFILE or end - start < 3:
        raise wrong("the payload of this message code is GBZ, Smart Energy profile 0109", "payload-kind")
    count = buffer[start + 2]
    if grammar is not None and not grammar.fewest <= count <= grammar.most:
        raise wrong("this use case has another number of GBZ components", "gbz-count")
    at = start + 3
    last = count - 1
    for index in range(count):
        body = at + _HEADER_OCTETS
        if body > end:
            raise wrong("the payload ends inside a GBZ component", "truncated")
        control = buffer[at]
        after = body + (buffer[at + 3] << 8 | buffer[at + 4])
        if control not in _CONTROLS or control & LAST != (index == last):
            raise wrong(
                "exactly the last GBZ component says so; encrypted ones are not in Commands", "gbz-control"
            )
        zcl = body + _ZCL_HEADER_OCTETS + (4 if control & FROM_DATE_TIME else 0)
        if after > end or zcl > after:
            raise wrong("the payload ends inside a GBZ component", "truncated")
        if buffer[zcl - 3] & _FRAME_CONTROL_NEVER or buffer[zcl - 2] != index:
            raise wrong(
                "a ZCL header has a known frame type, and a sequence number counted from 0", "gbz-zcl-header"
            )
        if grammar is not None:
            _match(buffer, at, zcl, after, grammar)
        elif buffer[at + 1 : at + 3] == _METERING and buffer[zcl - 1] == _CHANGE_SUPPLY:
            raise wrong("only GCS32 and GCS39 change the supply", "gbz-command")
        at = after
    if not count or at != end:
        raise wrong("a GBZ payload has at least one component and nothing after the last", "gbz-trailing")


def _match(buffer: bytes, at: int, zcl: int, after: int, grammar: Grammar) -> None:
    """Hold one component, whose header is at `at`, against what the use case may carry."""
    templates = grammar.templates.get(
        buffer[at + 1 : at + 3] + buffer[zcl - 3 : zcl - 2] + buffer[zcl - 1 : zcl]
    )
    if templates is None:
        raise wrong("this message code does not carry that ZCL command of that cluster", "gbz-command")
    dated = buffer[at] & FROM_DATE_TIME != 0
    for template in templates:
        if template.dated == dated and template.matches(buffer, zcl, after):
            return
    raise wrong("a ZCL command has another length or other fixed values in this use case", "gbz-value")


def emit(components: Sequence[Component]) -> bytes:
    """Write a GBZ payload of 1 to 255 components: the inverse of `read`."""
    parts = [_PROFILE, bytes((len(components),))]
    for index, part in enumerate(components):
        control = (LAST if index == len(components) - 1 else 0) | (
            FROM_DATE_TIME if part.from_date_time else 0
        )
        body = part.from_date_time + bytes((part.frame_control, index, part.command)) + part.zcl
        parts += (bytes((control,)), part.cluster.to_bytes(2), len(body).to_bytes(2), body)
    return b"".join(parts)
