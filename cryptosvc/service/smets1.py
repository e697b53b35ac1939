"""Convert what is asked of SMETS1 Devices' keys: the parts of a request become the octets that core reads.

The second key of a request is always another of the same Device, so it is named by kind and version alone.
"""

from google.protobuf.message import Message

from cryptosvc.core.content.dlms.framing import COUNTER_OCTETS, TITLE_OCTETS
from cryptosvc.core.device_keys import DeviceKeyName
from cryptosvc.core.errors import Malformed
from cryptosvc.core.names import KeyId
from cryptosvc.pb.v1 import crypto_pb2

_AUTHENTICATION = "authentication"


def taken(message: Message, key_id: str) -> tuple[bytes, KeyId]:
    """The payload and the second key of one content.

    Args:
        message: DlmsPlaintext, DlmsProtected or DlmsKeyChange.
        key_id: the key asked for; the second is of the same Device.

    Raises:
        Malformed: the key is no Device's, or the system title has not 8 octets.

    """
    first = DeviceKeyName.parse(KeyId(key_id))
    match message:
        case crypto_pb2.DlmsPlaintext():
            counter = message.invocation_counter.to_bytes(COUNTER_OCTETS)
            payload = _title(message.system_title) + counter + message.text
            second = _named(first, _AUTHENTICATION, message.authentication_key_version)
        case crypto_pb2.DlmsProtected():
            payload = _title(message.system_title) + message.apdu
            second = _named(first, _AUTHENTICATION, message.authentication_key_version)
        case crypto_pb2.DlmsKeyChange():
            payload = f"{message.kind}.{message.version}".encode()
            second = _named(first, message.kind, message.version)
        case _:
            raise AssertionError("a content that is no bytes is one of the three")
    return payload, second


def _title(octets: bytes) -> bytes:
    if len(octets) != TITLE_OCTETS:
        raise Malformed("a system title has 8 octets", rule="dlms/system-title", field="system_title")
    return octets


def _named(first: DeviceKeyName, kind: str, version: int) -> KeyId:
    """Another key of the Device; 0 is its current version. Malformed where there can be none of that name."""
    name = DeviceKeyName(first.device, kind, version or None)
    return KeyId(str(DeviceKeyName.parse(KeyId(str(name)))))
