"""GBCS Pre-Commands built by hand, as a User's system would hand them over."""

DISABLE_SUPPLY = (0x0050, bytes.fromhex("03 0009 00000a006aff 01"), bytes.fromhex("12 0034"))
"""ECS43: script 0034 of class 9, 0-0:10.0.106.255, method 1. A Supplier signs it. Variant 7.2."""

LIMIT_LOAD = (0x011F, bytes.fromhex("03 0009 00000a006bff 01"), bytes.fromhex("12 0001"))
"""ECS47e: script 1 of class 9, 0-0:10.0.107.255, method 1. A Load Controller signs it, and nobody else. Variant 7.16."""


def pre_command(command: tuple[int, bytes, bytes], originator: bytes, target: bytes, counter: int) -> bytes:
    """A Pre-Command with one DLMS action and a null signature, as DUIS has it.

    Args:
        command: message code, access-request specification, datum.
        originator, target: EUI-64s, 8 octets.
        counter: originator counter, 64 bits.

    """
    code, specification, datum = command
    invoke_id = b"\x20" + counter.to_bytes(8)[-3:]
    payload = b"\xd9" + invoke_id + b"\x00\x01" + specification + b"\x01" + datum
    header = b"\xdf\x09\x01" + counter.to_bytes(8) + b"\x08" + originator + b"\x08" + target
    other_info = code.to_bytes(2)
    return b"".join(
        (header, b"\x00", bytes((len(other_info),)), other_info, bytes((len(payload),)), payload, b"\x00")
    )
