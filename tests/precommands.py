"""Pre-Commands of our own, built from scratch: what tests sign where the shared test data is not needed.

Every builder takes originator and target as EUI-64 text or `Eui64`, and the originator counter; it returns the whole
message with a null signature, which `core/content/gbcs/precommand.parse` reads.
"""

from cryptosvc.core.content.gbcs import asn1, dlms, framing, gbz
from cryptosvc.core.names import Eui64

SUPPLIER = Eui64.parse("90-B3-D5-1F-30-0A-00-00")
BROKER = Eui64.parse("90-B3-D5-1F-30-0A-00-02")
DEVICE = Eui64.parse("00-DB-12-34-56-0A-90-A0")

LOAD_SWITCH_SCRIPTS = "0-0:10.0.106.255"
CLOSE, OPEN, ARM = b"\x00\x33", b"\x00\x34", b"\x00\x36"


def octets(party: Eui64 | str) -> bytes:
    return (party if isinstance(party, Eui64) else Eui64.parse(party)).octets


def build(
    code: int,
    payload: bytes,
    originator: Eui64 | str = SUPPLIER,
    target: Eui64 | str = DEVICE,
    counter: int = 1000,
    supplementary: bytes = b"",
) -> bytes:
    return framing.build(
        code=code,
        originator=octets(originator),
        target=octets(target),
        counter=counter,
        payload=payload,
        supplementary=supplementary,
    )


def _load_switch(
    code: int, script: bytes, originator: Eui64 | str, target: Eui64 | str, counter: int
) -> bytes:
    item = dlms.spec(dlms.ACTION, 9, LOAD_SWITCH_SCRIPTS, 1), dlms.LONG_UNSIGNED + script
    return build(code, dlms.emit(counter.to_bytes(8), [item]), originator, target, counter)


def ecs42(originator: Eui64 | str = SUPPLIER, target: Eui64 | str = DEVICE, counter: int = 1000) -> bytes:
    """Close the load switch; Service Reference Variant 7.1."""
    return _load_switch(0x004F, CLOSE, originator, target, counter)


def ecs43(originator: Eui64 | str = SUPPLIER, target: Eui64 | str = DEVICE, counter: int = 1000) -> bytes:
    """Open the load switch; Service Reference Variant 7.2."""
    return _load_switch(0x0050, OPEN, originator, target, counter)


def ecs44(originator: Eui64 | str = SUPPLIER, target: Eui64 | str = DEVICE, counter: int = 1000) -> bytes:
    """Arm the load switch; Service Reference Variant 7.3."""
    return _load_switch(0x0051, ARM, originator, target, counter)


def ecs38(
    originator: Eui64 | str = SUPPLIER, target: Eui64 | str = DEVICE, counter: int = 1000, limit: int = 600
) -> bytes:
    """Set the randomised offset limit, in seconds; Service Reference Variant 7.12. The limit makes messages differ."""
    item = dlms.spec(dlms.SET, 1, "0-0:94.44.0.1", 2), dlms.LONG_UNSIGNED + limit.to_bytes(2)
    return build(0x004B, dlms.emit(counter.to_bytes(8), [item]), originator, target, counter)


def gcs32(
    originator: Eui64 | str = SUPPLIER, target: Eui64 | str = DEVICE, counter: int = 1000, event_id: int = 1
) -> bytes:
    """Close the gas valve; Service Reference Variant 7.2."""
    zcl = bytes(4) + event_id.to_bytes(4, "little") + bytes(8) + b"\x00\x01"
    return build(
        0x0081, gbz.emit([gbz.Component(cluster=0x0702, command=0x0B, zcl=zcl)]), originator, target, counter
    )


def gcs28(originator: Eui64 | str = SUPPLIER, target: Eui64 | str = DEVICE, counter: int = 1000) -> bytes:
    """Set the clock of a GSME within an interval; Service Reference Variants 6.11 and 8.1.1."""
    interval = der(asn1.GENERALIZED_TIME, b"20250101000000Z"), der(asn1.GENERALIZED_TIME, b"20250101010000Z")
    return build(0x007F, der(asn1.SEQUENCE, *interval), originator, target, counter)


def cs06(originator: Eui64 | str = SUPPLIER, target: Eui64 | str = DEVICE, counter: int = 1000) -> bytes:
    """Activate firmware; Service Reference Variant 11.3."""
    payload = der(asn1.SEQUENCE, der(asn1.OCTET_STRING, bytes(range(32))), unsigned(counter))
    return build(0x0012, payload, originator, target, counter)


def cs04ac(
    originator: Eui64 | str = SUPPLIER,
    target: Eui64 | str = DEVICE,
    counter: int = 1000,
    acting_for: bytes = b"",
) -> bytes:
    """Unjoin a Device; Service Reference Variants 8.8.1 and 8.8.2. `acting_for`: party (8) and its counter (8)."""
    return build(0x000F, der(asn1.OCTET_STRING, octets(DEVICE)), originator, target, counter, acting_for)


def cs02b(
    certificate: bytes,
    code: int = 0x0102,
    originator: Eui64 | str = SUPPLIER,
    target: Eui64 | str = DEVICE,
    counter: int = 1000,
) -> bytes:
    """Replace security credentials with one certificate (DER); 0102 by a supplier is variant 6.15.1."""
    control = der(
        asn1.SEQUENCE,
        unsigned(code & 0xFF),
        der(asn1.CONTEXT | asn1.CONSTRUCTED | 2, unsigned(2), KEY_USAGE_SIGNATURE),
        bytes((asn1.CONTEXT | 3,)) + unsigned(counter)[1:],
    )
    cell = der(asn1.SEQUENCE, unsigned(2), KEY_USAGE_SIGNATURE)
    replacements = der(asn1.SEQUENCE, der(asn1.SEQUENCE, certificate, cell))
    path = der(asn1.SEQUENCE)
    return build(code, der(asn1.SEQUENCE, control, replacements, path), originator, target, counter)


KEY_USAGE_SIGNATURE = bytes.fromhex("03020780")


def der(tag: int, *parts: bytes) -> bytes:
    """One DER element."""
    content = b"".join(parts)
    return bytes((tag,)) + framing.emit_length(len(content)) + content


def unsigned(number: int) -> bytes:
    """A DER INTEGER that is not negative."""
    return der(asn1.INTEGER, number.to_bytes(number.bit_length() // 8 + 1))
