"""The import file of device keys: a signed manifest on the first line, then one key a line.

    {"payload":…,"payloadType":"application/vnd.cryptosvc.device-keys.v1+json","signatures":[…]}
    {"check_value":"…","device":"90-B3-…","firmware":"…","key":"…","kind":"encryption","manufacturer":"…","model":"…","version":1}
    …

The manifest is a DSSE envelope by the source. It says how many lines follow, their SHA-256, and under which transport key the
file's own key is wrapped (RSA-OAEP); each line's key is wrapped under the file's key (RFC 5649). UTF-8, every line ends in
`\\n`, a line has at most `LINE_OCTETS` octets.

Source: RFC 5649; RFC 8017, 7.1; DSSE 1.0.2.
"""

import hashlib
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import cast

import orjson

from cryptosvc.core import dsse
from cryptosvc.core.canonical import JsonValue, canonical
from cryptosvc.core.device_keys import CHECK_VALUE_OCTETS, WRAPPED_OCTETS, DeviceKey, RowState
from cryptosvc.core.device_records import DeviceSourceRecord, DeviceWorkRecord, SourceState
from cryptosvc.core.device_work import CLAUSE
from cryptosvc.core.documents import number, octets, text
from cryptosvc.core.errors import Forbidden, Malformed
from cryptosvc.core.names import Environment, Eui64, KeyId, SystemName
from cryptosvc.core.transfer.mechanism import OaepHash

PAYLOAD_TYPE = "application/vnd.cryptosvc.device-keys.v1+json"
VERSION = 1
LINE_OCTETS = 1024
MANIFEST_OCTETS = 64 * 1024
_HEX_64 = re.compile(r"[0-9a-f]{64}")
_WORDS = re.compile(r"[ -~]{1,64}")
_VERSIONS_AT_MOST = 999_999_999


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What a source says of its file.

    Args:
        system, environment: for whom it is.
        source: who sends it.
        keys: number of lines that follow, 1 at least.
        body_sha256: hex SHA-256 of all of them, line ends included.
        transport: device-transport key that unwraps the file's key.
        oaep: hash of OAEP.
        file_key: the file's AES-256 key, wrapped.

    """

    system: str
    environment: str
    source: str
    keys: int
    body_sha256: str
    transport: KeyId
    oaep: OaepHash
    file_key: bytes


def manifest_payload(manifest: Manifest) -> bytes:
    """Print a manifest: what its source signs."""
    return canonical(
        {
            "v": VERSION,
            "system": manifest.system,
            "environment": manifest.environment,
            "source": manifest.source,
            "keys": manifest.keys,
            "body_sha256": manifest.body_sha256,
            "transport": manifest.transport,
            "oaep": manifest.oaep.value,
            "file_key": manifest.file_key.hex(),
        }
    )


def read_manifest(
    line: bytes, work: DeviceWorkRecord, source: DeviceSourceRecord, environment: Environment
) -> Manifest:
    """Read the first line of a file, for a work that was approved.

    Args:
        line: without its line end.
        work: an import.
        source: whom the work names.
        environment: of this deployment.

    Raises:
        Forbidden: it is not the file that was approved, not for this system, or not signed by the source; its file key is
            wrapped with SHA-1 and this is not environment test.
        Malformed: it is no manifest.

    """
    if hashlib.sha256(line).hexdigest() != work.subject:
        raise _not(
            "the file is not the one that was approved: its manifest has another SHA-256", "other-file"
        )
    if source.state is not SourceState.REGISTERED:
        raise _not(f"its source {source.source_id} was revoked", "source-revoked")
    envelope = dsse.parse(line)
    dsse.verify(envelope, {dsse.key_id(source.key): source.key})
    if envelope.payload_type != PAYLOAD_TYPE:
        raise Malformed("the file's first line is another kind of statement", rule="device-file/manifest")
    found = _manifest(envelope.payload)
    if (found.source, found.keys) != (work.source, work.keys):
        raise _not(
            "its manifest names another source, or another number of keys, than was approved", "other-file"
        )
    if (found.system, found.environment) != (work.system, environment.value):
        raise _not("it is for another system or environment", "other-system")
    if found.oaep is OaepHash.SHA_1 and environment is not Environment.TEST:
        raise _not("its key is wrapped with SHA-1, which only environment test takes", "oaep-sha1")
    return found


def _manifest(payload: bytes) -> Manifest:
    try:
        document = orjson.loads(payload)
        found = Manifest(
            system=text(document, "system"),
            environment=text(document, "environment"),
            source=text(document, "source"),
            keys=number(document, "keys"),
            body_sha256=text(document, "body_sha256"),
            transport=KeyId(text(document, "transport")),
            oaep=OaepHash(text(document, "oaep")),
            file_key=octets(document, "file_key"),
        )
        if manifest_payload(found) == payload and found.keys > 0 and _HEX_64.fullmatch(found.body_sha256):
            return found
    except (KeyError, TypeError, ValueError):
        pass
    raise Malformed(
        "the file's manifest is none: read docs/smets1.md for its fields", rule="device-file/manifest"
    )


@dataclass(frozen=True, slots=True)
class Line:
    """One key as it stands in a file.

    Args:
        row: what its row is to say; blob, tag and storage keys are empty.
        wrapped: the key under the file's key, 24 octets.

    """

    row: DeviceKey
    wrapped: bytes


def line_octets(line: Line) -> bytes:
    """Print a line, without its end."""
    row = line.row
    return canonical(
        {
            "device": str(row.device),
            "kind": row.kind,
            "version": row.version,
            "manufacturer": row.manufacturer,
            "model": row.model,
            "firmware": row.firmware,
            "check_value": row.check_value.hex(),
            "key": line.wrapped.hex(),
        }
    )


def read_line(octets_of_line: bytes, work: DeviceWorkRecord, kinds: Collection[str]) -> Line:
    """Read one line, without its end; Malformed, naming what is wrong, where it is none.

    Args:
        octets_of_line: at most `LINE_OCTETS`.
        work: for whose system the key is.
        kinds: kinds of device key there are.

    """
    try:
        document = cast("Mapping[str, JsonValue]", orjson.loads(octets_of_line))
        row = DeviceKey(
            device=Eui64.parse(text(document, "device")),
            kind=text(document, "kind"),
            version=number(document, "version"),
            state=RowState.CURRENT,
            system=SystemName(work.system),
            manufacturer=text(document, "manufacturer"),
            model=text(document, "model"),
            firmware=text(document, "firmware"),
            wrapping=KeyId(""),
            binding=KeyId(""),
            check_value=octets(document, "check_value"),
            blob=b"",
            work=work.work_id,
            tag=b"",
        )
        found = Line(row, octets(document, "key"))
        same = line_octets(found) == octets_of_line
    except (KeyError, TypeError, ValueError, Malformed):
        same = False
    if not same:
        raise _bad("it is no line of such a file, or not as one is printed", "form")
    for what, rule, holds in (
        (f"there is no kind of device key {row.kind!r}", "kind", row.kind in kinds),
        ("a version is 1 or more", "version", 0 < row.version <= _VERSIONS_AT_MOST),
        ("a check value has three octets", "check-value", len(row.check_value) == CHECK_VALUE_OCTETS),
        ("a wrapped key has 24 octets", "key", len(found.wrapped) == WRAPPED_OCTETS),
        (
            "manufacturer, model and firmware are 1 to 64 printable ASCII characters",
            "words",
            all(_WORDS.fullmatch(one) for one in (row.manufacturer, row.model, row.firmware)),
        ),
    ):
        if not holds:
            raise _bad(what, rule)
    return found


def _bad(what: str, rule: str) -> Malformed:
    return Malformed(what, rule=f"device-file/{rule}", clause=CLAUSE)


def _not(what: str, rule: str) -> Forbidden:
    return Forbidden(f"the import file is refused: {what}", rule=f"device-file/{rule}", clause=CLAUSE)
