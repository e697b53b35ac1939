#!/usr/bin/env python3
"""A second verifier of log exports and evidence bundles: nothing but Python's own library and `cryptography`.

    python3 verify_log.py FILE LOG-KEY.pem [KEPT-CHECKPOINT]    exit code 0 where everything holds, 4 where a rule does not

Written from docs/log-format.md, which explains each rule named here; it shares nothing with the service. It leaves to
`audit verify` what needs the service's tables: deriving every change, uses and limits of keys, what answers a query.
"""

# fmt: off
import base64, hashlib, json, re, sys  # noqa: E401, I001  # an auditor counts the lines
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

RECORD = re.compile("(key|caller|custodian|proposal|module|transfer|device-store|device-source|device-work)-record")
BASE64 = "(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{3}=|[A-Za-z0-9+/]{2}==)?"
NOTE = re.compile(f"(([!-*,-~]+)\n(0|[1-9][0-9]*)\n({BASE64})\n)\n((?:— [^ \n]+ {BASE64}\n)+)")
BUNDLE = ["absent", "certificates", "checkpoint", "completeness", "consistency", "entries", "format", "made_by", "public_key", "query", "since", "version"]
ALONE, RUN, TELLING = re.compile(b"[0-9a-f]{64}\t?\n"), re.compile("([0-9]{1,16})-([0-9]{1,16})"), {"sealed", "archived", "returned"}
UNREADABLE = (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError)
class Broken(Exception):
    """A rule does not hold; the text is its name."""

def verify(file, key, kept=""):
    """Verify a file, opened in binary, with the log's key and the text of a checkpoint kept: (origin, size, root)."""
    head = canonical((line := file.readline())[:-1], "export/format")
    try:
        return (verify_bundle if "query" in head else verify_export)(head, line, file, key, kept)
    except UNREADABLE:
        raise Broken("bundle/format" if "query" in head else "export/entry") from None

def verify_export(head, _, file, key, kept):
    require((sorted(head), head.get("format"), head.get("version")) == (["format", "origin", "size", "version"], "cryptosvc-log-export", 1), "export/format")
    notes, records, versions, leaves, first, gap, missing, sealed, gone = [], {}, {}, [], {}, False, set(), [], {}
    while (line := file.readline()) != b"\n":
        one = canonical(line[:-1], "export/format")
        require(one.keys() in ({"checkpoint"}, {"document", "kind", "leaf_index", "record_id"}), "export/format")
        notes += [read_note(one["checkpoint"], key, head["origin"])] if "checkpoint" in one else []
        if "document" in one:
            records[one["kind"], one["record_id"]] = one["leaf_index"], hash_of(printed(one["document"])).hex()
    for line in file:
        require(line.endswith(b"\n"), "export/truncated")
        octets, _, withheld = line[:-1].partition(b"\t")
        entry, name = ({}, None) if (alone := ALONE.fullmatch(line)) else read_entry(octets, withheld)
        first = first or entry
        hear(entry, len(leaves), sealed, gone)
        missing |= {len(leaves)} if alone else set()
        if name:
            gap = gap or entry["record_version"] != versions.get(name, (0, 0))[0] + 1
            versions[name] = entry["record_version"], (len(leaves), entry.get("record_digest"))
        leaves.append(bytes.fromhex(octets.decode()) if alone else hash_of(b"\0" + octets))
    require(len(leaves) == head["size"], "export/truncated")
    require(notes, "export/no-checkpoint")
    for _, size, root in sorted(notes + ([read_note(kept, key, head["origin"])] if kept else [])):
        require(size <= len(leaves), "export/truncated")
        require(root_of(leaves[:size]) == root, "export/root")
    require(max(notes)[1] == len(leaves), "export/unsigned-entries")
    require(not leaves or first.get("kind") == "genesis", "export/genesis")
    require(not gap, "export/record-version")
    require(missing <= {at for key_id, run in sealed if gone.get(key_id) in {"archived", "destroyed"} for at in run}, "export/erased")
    require(records.keys() <= versions.keys(), "export/record-unknown")
    require(all(versions[name][1] == said for name, said in records.items()), "export/record-differs")
    require(records.keys() == versions.keys(), "export/record-missing")
    return head["origin"], len(leaves), root_of(leaves)

def hear(entry, index, sealed, gone):
    """Entries may be hashes alone that are sealed under a key which is destroyed, or archived in a file which did not return."""
    kind, said = entry.get("kind"), entry if entry.get("kind") not in TELLING else entry["facts"]
    state = said.get("state") if kind == "key-record" else kind if kind in TELLING else ""
    name = said["sha256"] if state in {"archived", "returned"} else said.get("key")
    gone.update({name: state} if state in {"destroyed", "archived", "returned"} else {})
    for one in said["leaves"].split(",") if state in {"sealed", "archived"} and said.get("leaves") else ():
        start, stop = map(int, RUN.fullmatch(one).groups())
        require(start < stop <= index, "export/entry")
        sealed.append((name, range(start, stop)))

def verify_bundle(head, line, file, key, kept):
    require(sorted(head) == BUNDLE and (head["format"], head["version"]) == ("cryptosvc-evidence-bundle", 1), "bundle/format")
    newest = _, size, root = read_note(head["checkpoint"], key)
    require(head["public_key"] == spki_of(key).hex(), "bundle/key")
    require_grown(head, newest, key, kept)
    digest, last = hashlib.sha256(line), -1
    for _ in range(head["entries"]):
        require((line := file.readline()).endswith(b"\n"), "bundle/truncated")
        digest.update(line)
        where, octets, withheld = line[:-1].split(b"\t")
        index, path = (place := canonical(where, "bundle/format"))["leaf_index"], hashes_in(place["hashes"])
        require(place.keys() == {"answer", "hashes", "leaf_index"}, "bundle/format")
        require(last < index < size, "bundle/order")
        read_entry(octets, withheld)
        require(climb(hash_of(b"\0" + octets), index, size - 1, path)[1] == root, "merkle/inclusion")
        last = index
    made = re.fullmatch(b'{"signature":"([0-9a-f]+)"}\n', file.readline())
    require(made and not file.read(1), "bundle/truncated")
    maker = x509.load_der_x509_certificate(bytes.fromhex(head["made_by"])).public_key()
    require_verified(maker, bytes.fromhex(made[1].decode()), digest.digest(), "bundle/signature")
    return newest

def require_grown(head, newest, key, kept):
    """The checkpoint extends the one the bundle begins with, and that is the one that was kept."""
    require(head["since"] or kept == head["consistency"] == "", "bundle/since")
    if not head["since"]:
        return
    old, path = read_note(head["since"], key, newest[0]), hashes_in(head["consistency"])
    require(not kept or read_note(kept, key, newest[0]) == old, "bundle/since")
    require(0 < old[1] <= newest[1], "bundle/rolled-back")
    number, last = old[1] - 1, newest[1] - 1
    while number & 1 or number == last != 0:
        number, last = number >> 1, last >> 1
    begun, *path = (path or [b""]) if number else [old[2], *path]  # a whole subtree, or all of it, opens its own path
    require(climb(begun, number, last, path) == (old[2], newest[2]), "merkle/consistency")
def climb(upto, number, last, path):
    """RFC 6962 2.1: roots of the tree up to this node, and of all of it, from the siblings on the way, lowest first."""
    found = upto
    for sibling in path:
        require(last > 0, "merkle/proof-length")
        if number & 1 or number == last:
            upto, found = node(sibling, upto), node(sibling, found)
            while number and not number & 1:
                number, last = number >> 1, last >> 1
        else:
            found = node(found, sibling)
        number, last = number >> 1, last >> 1
    require(last == 0, "merkle/proof-length")
    return upto, found
def root_of(level):  # RFC 6962 2.1: hashed in pairs, level by level; what is left over goes up as it is
    while len(level) > 1:
        pairs = [level[at : at + 2] for at in range(0, len(level), 2)]
        level = [node(*pair) if len(pair) > 1 else pair[0] for pair in pairs]
    return level[0] if level else hash_of(b"")

def read_entry(octets, withheld):
    """Read an entry; each value beside it is the one it commits to. Gives kind and id of the record that it is of."""
    entry = canonical(octets, "export/entry")
    require(entry.get("v") == 1, "export/entry-version")
    beside = canonical(withheld, "export/withheld") if withheld else {}
    try:
        require(all(bytes.fromhex(salt).hex() == salt for salt, _ in beside.values()), "export/withheld")
        said = {name: bytes.fromhex(salt) + f"\0{name}\0{value + ''}".encode() for name, (salt, value) in beside.items()}
        committed = {name: entry["commitments"].get(name) for name in beside}
    except UNREADABLE:
        raise Broken("export/withheld") from None
    require(committed == {name: hash_of(one).hex() for name, one in said.items()}, "export/commitment")
    if not (kind := RECORD.fullmatch(str(entry.get("kind")))):
        return entry, None
    values, name = {one: pair[1] for one, pair in beside.items()}, kind[1]
    require(name in (where := values if name in {"caller", "custodian"} else entry), "export/redacted")
    digest = hash_of(values["document"].encode()).hex() if "document" in values else entry.get("record_digest")
    require(digest == entry.get("record_digest"), "export/record-leaf")
    return entry, (kind[0], where[name])
def read_note(note, key, origin=""):
    """Origin, size and root of a C2SP checkpoint in the one form that it has, of this log and signed by the log's key."""
    found = NOTE.fullmatch(note)
    require(found and len(note.encode()) <= 8192, "checkpoint/form")
    names, texts = zip(*(line.split(" ")[1:] for line in found[5].split("\n")[:-1]), strict=True)
    root, *signatures = decoded = [base64.b64decode(one) for one in (found[4], *texts)]
    again = [base64.b64encode(one).decode() for one in decoded]
    require(again == [found[4], *texts] and len(root) == 32 and min(map(len, decoded)) > 4, "checkpoint/form")
    require(found[2] == (origin or found[2]), "checkpoint/origin")
    wanted = found[2], hash_of(spki_of(key))[:4]
    mine = [made[4:] for name, made in zip(names, signatures, strict=True) if (name, made[:4]) == wanted]
    require(mine, "checkpoint/unsigned")
    for signature in mine:
        require_verified(key, signature, found[1].encode(), "checkpoint/signature")
    return found[2], int(found[3]), root
def require_verified(key, signature, octets, rule):
    try:
        key.verify(signature, octets, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        raise Broken(rule) from None
def canonical(octets, rule):
    """Read a JSON object that is printed as RFC 8785 prints it."""
    try:
        found = json.loads(octets, parse_constant=int)
        require(isinstance(found, dict) and printed(found) == octets, rule)
    except UNREADABLE:
        raise Broken(rule) from None
    return found
def require(holds, rule):
    if not holds:
        raise Broken(rule)
def printed(value): return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
def spki_of(key): return key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
def hash_of(octets): return hashlib.sha256(octets).digest()
def hashes_in(text): return [bytes.fromhex(one) for one in re.findall("." * 64, re.fullmatch("([0-9a-f]{64})*", text)[0])]
def node(left, right): return hash_of(b"\1" + left + right)

if __name__ == "__main__":
    len(sys.argv) in {3, 4} or sys.exit(__doc__)
    with Path(sys.argv[1]).open("rb") as opened:
        try:
            key_read, *kept_read = [Path(one).read_bytes() for one in sys.argv[2:]]
            result = verify(opened, serialization.load_pem_public_key(key_read), *(one.decode() for one in kept_read))
        except Broken as broken:
            sys.exit(print(f"does not hold: {broken}") or 4)
    print(f"verified: {result[0]}, {result[1]} entries, root {result[2].hex()}")
