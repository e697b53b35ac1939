"""Convert what is asked of SMETS1 Devices' keys: the parts of a request become the octets that core reads.

The second key of a request is always another of the same Device, so it is named by kind and version alone. An association,
which is a sealed dedicated key, stands beside what is done with it.
"""

from google.protobuf.message import Message

from cryptosvc.core import associations
from cryptosvc.core.content.dlms.framing import COUNTER_OCTETS, TITLE_OCTETS
from cryptosvc.core.device_keys import DeviceKeyName
from cryptosvc.core.errors import Malformed
from cryptosvc.core.names import KeyId
from cryptosvc.pb.v1 import crypto_pb2

_AUTHENTICATION = "authentication"
_DEDICATED = associations.KIND


def taken(message: Message, key_id: str) -> tuple[bytes, KeyId, bytes]:
    """The payload, the second key and the association of one content.

    Args:
        message: DlmsPlaintext, DlmsProtected, DlmsKeyChange or DlmsInitiate.
        key_id: the key asked for; the second is of the same Device.

    Raises:
        Malformed: the key is no Device's, the system title has not 8 octets, or an association is missing or too much.

    """
    first = DeviceKeyName.parse(KeyId(key_id))
    association = b""
    match message:
        case crypto_pb2.DlmsPlaintext():
            counter = message.invocation_counter.to_bytes(COUNTER_OCTETS)
            payload = _title(message.system_title) + counter + message.text
            association = message.association
            second = _named(first, _AUTHENTICATION, message.authentication_key_version)
        case crypto_pb2.DlmsProtected():
            payload = _title(message.system_title) + message.apdu
            association = message.association
            second = _named(first, _AUTHENTICATION, message.authentication_key_version)
        case crypto_pb2.DlmsKeyChange():
            payload = f"{message.kind}.{message.version}".encode()
            second = _named(first, message.kind, message.version)
        case crypto_pb2.DlmsInitiate():
            counter = message.invocation_counter.to_bytes(COUNTER_OCTETS)
            payload = _title(message.system_title) + counter + message.initiate_request
            second = _named(first, _AUTHENTICATION, message.authentication_key_version)
        case _:
            raise AssertionError("a content that is no bytes is one of the four")
    return payload, second, _with(first, association)


def _with(first: DeviceKeyName, association: bytes) -> bytes:
    """The association, which stands beside a dedicated key and no other."""
    if (first.kind == _DEDICATED) is not bool(association):
        raise Malformed(
            "a dedicated key is asked for as DEVICE.dedicated together with its association, which dlms_association answered; "
            "no other key has one",
            rule="association/missing" if first.kind == _DEDICATED else "association/unasked",
            field=associations.FIELD,
        )
    if len(association) > associations.SEAL_OCTETS_AT_MOST:
        raise Malformed(
            f"an association has at most {associations.SEAL_OCTETS_AT_MOST} octets",
            rule="association/seal",
            field=associations.FIELD,
        )
    return association


def _title(octets: bytes) -> bytes:
    if len(octets) != TITLE_OCTETS:
        raise Malformed("a system title has 8 octets", rule="dlms/system-title", field="system_title")
    return octets


def _named(first: DeviceKeyName, kind: str, version: int) -> KeyId:
    """Another key of the Device; 0 is its current version. Malformed where there can be none of that name."""
    name = DeviceKeyName(first.device, kind, version or None)
    return KeyId(str(DeviceKeyName.parse(KeyId(str(name)))))
