"""A second verifier of log exports, written from docs/log-format.md and nothing of the project's.

It is slow and holds everything in memory: it is there to say whether the page is enough, and to disagree.

    rule_of(octets, public_key)        the rule that does not hold, or an empty text
    signed_note(origin, entries, key)  a checkpoint over entries, so that there is something to disagree on
"""

import base64
import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

_HEAD = {"format", "origin", "size", "version"}
_RECORD = {"document", "kind", "leaf_index", "record_id"}
_RECORD_KINDS = {
    "key-record": "key",
    "caller-record": "caller",
    "custodian-record": "custodian",
    "proposal-record": "proposal",
    "module-record": "module",
    "device-store-record": "device-store",
    "device-source-record": "device-source",
    "device-work-record": "device-work",
    "transfer-record": "transfer",
}
_LEADS = {
    ("pre-activation", "activate"): "active",
    ("active", "deactivate"): "deactivated",
    ("suspended", "deactivate"): "deactivated",
}
_WITHHELD_IDS = {"caller-record", "custodian-record"}
_LONGEST_NOTE = 8192


class Broken(Exception):
    """What a verifier checks does not hold; the text is the rule."""


def rule_of(octets: bytes, public_key: ec.EllipticCurvePublicKey) -> str:
    """Verify an export; the rule by which it fails, or empty where everything holds."""
    try:
        _verify(octets, public_key)
    except Broken as broken:
        return str(broken)
    return ""


def signed_note(origin: str, entries: Sequence[bytes], key: ec.EllipticCurvePrivateKey) -> str:
    """Sign a checkpoint over entries."""
    leaves = [hashlib.sha256(b"\x00" + entry).digest() for entry in entries]
    text = f"{origin}\n{len(leaves)}\n{base64.b64encode(_root(leaves)).decode()}\n"
    signature = _key_id(key.public_key()) + key.sign(text.encode(), ec.ECDSA(hashes.SHA256()))
    return f"{text}\n— {origin} {base64.b64encode(signature).decode()}\n"


def printed(value: Mapping[str, Any]) -> bytes:
    """RFC 8785 for what is in a log: no floating point, ASCII names."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def _verify(octets: bytes, public_key: ec.EllipticCurvePublicKey) -> None:
    before, separator, lines = octets.partition(b"\n\n")
    _require(bool(separator), "export/format")
    head, notes, records = _head(before.split(b"\n"))
    _require(lines.endswith(b"\n") or not lines, "export/truncated")
    entries, beside, leaves = [], [], []
    for line in lines.split(b"\n")[:-1]:
        entry, _, withheld = line.partition(b"\t")
        entries.append(_entry(entry))
        beside.append(_values(entries[-1], withheld))
        _said(entries[-1], beside[-1])
        leaves.append(hashlib.sha256(b"\x00" + entry).digest())
    _require(len(entries) == head["size"], "export/truncated")
    _checkpoints(notes, head["origin"], public_key, leaves)
    _require(entries[0]["kind"] == "genesis", "export/genesis")
    _begun(entries[0], beside[0].get("genesis", ""))
    versions = _versions(entries, beside)
    for index, entry in enumerate(entries):
        if entry["kind"] == "use":
            _use(index, entry, versions)
    _limits(entries, versions)
    _records(records, versions)


def _begun(entry: Mapping[str, Any], envelope: str) -> None:
    """A signed genesis is the one entry 0 names, and each custodian in it signed it (DSSE, ECDSA P-256)."""
    if "genesis" not in entry:
        return
    rule = "genesis/entry"
    try:
        signed = json.loads(envelope)
        payload = base64.b64decode(signed["payload"], validate=True)
        kind = signed["payloadType"].encode()
        said = b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)
        document = json.loads(payload)
        made = {one["keyid"]: base64.b64decode(one["sig"]) for one in signed["signatures"]}
        for custodian in document["custodians"]:
            spki = bytes.fromhex(custodian["key"])
            key = serialization.load_der_public_key(spki)
            key.verify(made.pop(hashlib.sha256(spki).hexdigest()), said, ec.ECDSA(hashes.SHA256()))  # type: ignore[union-attr,call-arg,arg-type]
    except (ValueError, KeyError, InvalidSignature):
        raise Broken(rule) from None
    _require(not made and hashlib.sha256(payload).hexdigest() == entry["genesis"], rule)
    _require(all(document[name] == entry[name] for name in ("system", "environment", "origin")), rule)


def _head(lines: Sequence[bytes]) -> tuple[dict[str, Any], list[str], list[dict[str, Any]]]:
    first, *others = (_canonical(line, "export/format") for line in lines)
    _require(first.keys() == _HEAD, "export/format")
    _require((first["format"], first["version"]) == ("cryptosvc-log-export", 1), "export/format")
    notes = [one["checkpoint"] for one in others if one.keys() == {"checkpoint"}]
    records = [one for one in others if one.keys() == _RECORD]
    _require(len(notes) + len(records) == len(others), "export/format")
    return first, notes, records


def _entry(octets: bytes) -> dict[str, Any]:
    entry = _canonical(octets, "export/entry")
    _require(entry.get("v") == 1, "export/entry-version")
    _require(isinstance(entry.get("kind"), str), "export/entry")
    return entry


def _values(entry: Mapping[str, Any], withheld: bytes) -> dict[str, str]:
    """What stands beside an entry, compared with its commitments."""
    if not withheld:
        return {}
    found = {}
    for name, pair in _canonical(withheld, "export/withheld").items():
        _require(isinstance(pair, list) and len(pair) == 2, "export/withheld")
        salt, value = pair
        said = bytes.fromhex(salt) + b"\x00" + name.encode() + b"\x00" + value.encode()
        _require(
            entry.get("commitments", {}).get(name) == hashlib.sha256(said).hexdigest(), "export/commitment"
        )
        found[name] = value
    return found


def _checkpoints(
    notes: Sequence[str], origin: str, public_key: ec.EllipticCurvePublicKey, leaves: Sequence[bytes]
) -> None:
    signed = [_checkpoint(note, origin, public_key) for note in notes]
    _require(bool(signed), "export/no-checkpoint")
    for size, root in signed:
        _require(size <= len(leaves), "export/truncated")
        _require(_root(leaves[:size]) == root, "export/root")
    _require(max(size for size, _ in signed) == len(leaves), "export/unsigned-entries")


def _checkpoint(note: str, origin: str, public_key: ec.EllipticCurvePublicKey) -> tuple[int, bytes]:
    _require(len(note.encode()) <= _LONGEST_NOTE, "checkpoint/form")
    text, separator, signatures = note.partition("\n\n")
    text += "\n"
    _require(bool(separator) and text.count("\n") == 3 and signatures.endswith("\n"), "checkpoint/form")
    named, size, root, _ = text.split("\n")
    _require(named == origin, "checkpoint/origin")
    mine = 0
    for line in signatures.split("\n")[:-1]:
        dash, name, encoded = line.split(" ")
        _require(dash == "—", "checkpoint/form")
        octets = base64.b64decode(encoded, validate=True)
        if name == origin and octets[:4] == _key_id(public_key):
            mine += 1
            try:
                public_key.verify(octets[4:], text.encode(), ec.ECDSA(hashes.SHA256()))
            except InvalidSignature:
                raise Broken("checkpoint/signature") from None
    _require(mine > 0, "checkpoint/unsigned")
    return int(size), base64.b64decode(root, validate=True)


def _key_id(public_key: ec.EllipticCurvePublicKey) -> bytes:
    spki = public_key.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return hashlib.sha256(spki).digest()[:4]


def _root(leaves: Sequence[bytes]) -> bytes:
    """RFC 6962 2.1: the left half is the largest power of two that is smaller than the whole."""
    if len(leaves) < 2:
        return leaves[0] if leaves else hashlib.sha256(b"").digest()
    left = 1 << (len(leaves) - 1).bit_length() - 1
    return hashlib.sha256(b"\x01" + _root(leaves[:left]) + _root(leaves[left:])).digest()


Versions = dict[tuple[str, str], list[tuple[int, Mapping[str, Any]]]]


def _versions(entries: Sequence[Mapping[str, Any]], beside: Sequence[Mapping[str, str]]) -> Versions:
    """Every record's versions: where they are in the log, and what they say."""
    found: Versions = {}
    for index, (entry, values) in enumerate(zip(entries, beside, strict=True)):
        if entry["kind"] not in _RECORD_KINDS:
            continue
        where: Mapping[str, Any] = values if entry["kind"] in _WITHHELD_IDS else entry
        name = _RECORD_KINDS[entry["kind"]]
        _require(name in where, "export/redacted")
        versions = found.setdefault((entry["kind"], where[name]), [])
        versions.append((index, entry))
        _require(entry["record_version"] == len(versions), "export/record-version")
    return found


def _use(index: int, entry: Mapping[str, Any], versions: Versions) -> None:
    devices = entry["key"] == "device-store/devices"
    name = ("device-store-record", "devices") if devices else ("key-record", entry["key"])
    known = [one for at, one in versions.get(name, []) if at < index]
    _require(1 <= entry["key_version"] <= len(known), "export/use-of-unknown-key")
    if devices:
        return
    version = known[entry["key_version"] - 1]
    state = version["state"]
    for due in version["due"]:
        if int(entry["time"]) >= due["at"] * 10**9:
            state = _LEADS.get((state, due["event"]), state)
    request = entry["content_kind"] == "certification-request"
    _require(state == "active" or (state == "pre-activation" and request), "export/use-in-state")


def _limits(entries: Sequence[Mapping[str, Any]], versions: Versions) -> None:
    claims = Counter(
        (entry["key"], entry["key_version"])
        for entry in entries
        if entry["kind"] == "use" and "after" not in entry
    )
    for (kind, key), of_key in versions.items():
        so_far, limit = 0, None
        for number, (_, entry) in enumerate(of_key, 1):
            if kind == "key-record" and entry["because"] == {"rule": "schedule/usage-limit"}:
                _require(so_far == limit, "export/usage-limit")
            limit = entry.get("usage_limit")
            if limit is not None and claims[key, number]:
                so_far += claims[key, number]
                _require(so_far <= limit, "export/usage-limit")


def _said(entry: Mapping[str, Any], values: Mapping[str, str]) -> None:
    """What stands open in a record's entry, compared with its document."""
    kind = entry["kind"]
    if kind not in _RECORD_KINDS or "document" not in values:
        return
    document = _canonical(values["document"].encode(), "export/record-leaf")
    said = {
        "record_version": document["version"],
        "record_digest": hashlib.sha256(values["document"].encode()).hexdigest(),
    }
    if kind not in ("module-record", "device-store-record"):
        said["state"] = document["state"]
    if kind == "key-record":
        said |= {name: document[name] for name in ("key_class", "origin")}
        said |= {"key_system": document["system"], "usage_limit": document["life"]["usage_limit"]}
    _require(all(entry.get(name) == value for name, value in said.items()), "export/record-leaf")


def _records(records: Sequence[Mapping[str, Any]], versions: Versions) -> None:
    beside = {(one["kind"], one["record_id"]): one for one in records}
    _require(beside.keys() <= versions.keys(), "export/record-unknown")
    _require(versions.keys() <= beside.keys(), "export/record-missing")
    for identity, one in beside.items():
        at, newest = versions[identity][-1]
        digest = hashlib.sha256(printed(one["document"])).hexdigest()
        _require((one["leaf_index"], digest) == (at, newest["record_digest"]), "export/record-differs")


def _canonical(octets: bytes, rule: str) -> dict[str, Any]:
    try:
        found = json.loads(octets)
    except ValueError:
        raise Broken(rule) from None
    _require(isinstance(found, dict) and printed(found) == octets, rule)
    return found  # type: ignore[no-any-return]  # json.loads has no type


def _require(holds: bool, rule: str) -> None:
    if not holds:
        raise Broken(rule)
