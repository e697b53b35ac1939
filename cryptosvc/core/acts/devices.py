"""Acts on device keys: who may send them, and the works that change them. The keys themselves change as a work goes on.

Source: Smart Energy Code G5.13(b), G5.24, G2.44(c), (e).
"""

from dataclasses import replace

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_der_public_key

from cryptosvc.core.acts.base import Act, Kind, Parameter, Sentence, Turn, text_of
from cryptosvc.core.device_keys import STORAGE_WRAPPING, DeviceKeyName
from cryptosvc.core.device_records import (
    DeviceSourceRecord,
    DeviceWorkRecord,
    SourceState,
    WorkKind,
    WorkState,
)
from cryptosvc.core.device_work import CLAUSE
from cryptosvc.core.errors import Malformed, WrongState
from cryptosvc.core.keyclass import KEY_CLASSES
from cryptosvc.core.names import KeyId, SystemName
from cryptosvc.core.registry import KeyRecord, Record
from cryptosvc.core.statement import Statement

ON_BAD_LINE = ("report", "stop")
_DIGEST_HEX = 64


def _register_source(turn: Turn) -> tuple[Record, ...]:
    statement = turn.statement
    if turn.subject("device-source-record") is not None:
        raise WrongState(
            f"source {statement.subject} is registered already; register another, and revoke this one",
            rule="device-source/registered",
            clause=CLAUSE,
        )
    key = bytes.fromhex(text_of(statement, "key"))
    try:
        public = load_der_public_key(key)
    except (ValueError, UnsupportedAlgorithm):
        public = None
    if not isinstance(public, ec.EllipticCurvePublicKey) or not isinstance(public.curve, ec.SECP256R1):
        raise Malformed(
            "a source's key is a P-256 public key, as SubjectPublicKeyInfo DER in hex",
            rule="device-source/key",
            clause=CLAUSE,
            field="key",
        )
    return (
        DeviceSourceRecord(
            source_id=statement.subject,
            version=1,
            state=SourceState.REGISTERED,
            system=SystemName(statement.system),
            key=key,
        ),
    )


def _revoke_source(turn: Turn) -> tuple[Record, ...]:
    found = turn.subject("device-source-record")
    if not isinstance(found, DeviceSourceRecord) or found.state is SourceState.REVOKED:
        raise WrongState(
            f"{turn.statement.subject} is no registered source of device keys",
            rule="device-source/revoked",
            clause=CLAUSE,
        )
    return (replace(found, version=found.version + 1, state=SourceState.REVOKED),)


def _new(turn: Turn, kind: WorkKind, subject: str) -> DeviceWorkRecord:
    statement = turn.statement
    if turn.subject("device-work-record") is not None:
        raise WrongState(
            f"there is a work {statement.subject} already; call this one otherwise",
            rule="device-work/exists",
            clause=CLAUSE,
        )
    return DeviceWorkRecord(
        work_id=statement.subject,
        version=1,
        state=WorkState.APPROVED,
        system=SystemName(statement.system),
        kind=kind,
        subject=subject,
    )


def _import(turn: Turn) -> tuple[Record, ...]:
    statement = turn.statement
    source = turn.records.get(("device-source-record", text_of(statement, "source")))
    if not isinstance(source, DeviceSourceRecord) or source.state is not SourceState.REGISTERED:
        raise WrongState(
            f"{text_of(statement, 'source')} is no registered source of device keys; propose device-source.register",
            rule="device-source/unknown",
            clause=CLAUSE,
            field="source",
        )
    keys, digest, chosen = (
        statement.parameters["keys"],
        text_of(statement, "manifest_sha256"),
        text_of(statement, "on_bad_line"),
    )
    if len(digest) != _DIGEST_HEX or chosen not in ON_BAD_LINE or not isinstance(keys, int) or not keys:
        raise Malformed(
            "an import names the SHA-256 of its manifest, how many keys it brings, and report or stop for a bad line",
            rule="statement/parameters",
            clause=CLAUSE,
        )
    work = _new(turn, WorkKind.IMPORT, digest)
    return (replace(work, source=source.source_id, keys=keys, on_bad_line=chosen),)


def _on_key(turn: Turn, kind: WorkKind) -> tuple[Record, ...]:
    name = DeviceKeyName.parse(KeyId(text_of(turn.statement, "key")))
    if name.version is not None:
        raise Malformed(
            "name the key as DEVICE.KIND: all its versions are meant", rule="device-key/name", field="key"
        )
    return (_new(turn, kind, str(name)),)


def _rotate(turn: Turn) -> tuple[Record, ...]:
    return _on_key(turn, WorkKind.ROTATE)


def _destroy(turn: Turn) -> tuple[Record, ...]:
    return _on_key(turn, WorkKind.DESTROY)


def _re_wrap(turn: Turn) -> tuple[Record, ...]:
    name = text_of(turn.statement, "epoch")
    found = turn.records.get(("key-record", name))
    if not isinstance(found, KeyRecord) or found.key_class != KEY_CLASSES[STORAGE_WRAPPING].name:
        raise Malformed(
            f"{name} is no storage-wrapping key", rule="device-work/epoch", clause=CLAUSE, field="epoch"
        )
    return (_new(turn, WorkKind.RE_WRAP, name),)


def _source(statement: Statement) -> tuple[tuple[str, str], ...]:
    return (("device-source-record", text_of(statement, "source")),)


def _epoch(statement: Statement) -> tuple[tuple[str, str], ...]:
    return (("key-record", text_of(statement, "epoch")),)


_KEY = Parameter("key", Kind.NAME, "the device key, as 90-B3-D5-1F-30-01-00-00.encryption")

DEVICE_ACTS = (
    Act(
        name="device-source.register",
        clause=CLAUSE,
        after=_register_source,
        parameters=(Parameter("key", Kind.HEX, "public key that verifies its manifests, DER in hex"),),
        sentence=Sentence("Take device keys from {subject}, whose manifests the key {key} verifies."),
    ),
    Act(
        name="device-source.revoke",
        clause=CLAUSE,
        after=_revoke_source,
        parameters=(),
        sentence=Sentence("Take no device keys from {subject} any more."),
    ),
    Act(
        name="device-work.import",
        clause=CLAUSE,
        after=_import,
        looks_at=_source,
        parameters=(
            Parameter("source", Kind.NAME, "registered source that signed the manifest"),
            Parameter("manifest_sha256", Kind.HEX, "SHA-256 of the file's first line, the signed manifest"),
            Parameter("keys", Kind.NUMBER, "how many keys the file brings"),
            Parameter("on_bad_line", Kind.TEXT, "report (the rest goes on) or stop (nothing is done)"),
        ),
        sentence=Sentence(
            "Work {subject}: import {keys} device keys from {source}, of the file whose manifest has the SHA-256 {manifest_sha256}; "
            "where a line is bad: {on_bad_line}."
        ),
    ),
    Act(
        name="device-work.rotate",
        clause=CLAUSE,
        after=_rotate,
        parameters=(_KEY,),
        sentence=Sentence(
            "Work {subject}: make the next version of the device key {key}, and put it in the place of the one in use."
        ),
    ),
    Act(
        name="device-work.re-wrap",
        clause=CLAUSE,
        after=_re_wrap,
        looks_at=_epoch,
        parameters=(Parameter("epoch", Kind.NAME, "storage-wrapping key that is left"),),
        sentence=Sentence(
            "Work {subject}: wrap every device key that is under {epoch} anew, under the epoch in force."
        ),
    ),
    Act(
        name="device-work.destroy",
        clause=CLAUSE,
        after=_destroy,
        parameters=(_KEY,),
        sentence=Sentence(
            "Work {subject}: remove the device key {key} for good; its destruction is complete once the epochs it was wrapped under are "
            "destroyed."
        ),
    ),
)
