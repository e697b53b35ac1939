"""A tree of tag-length-value that can be broken at any node: where near-misses of DER payloads come from.

Written for the tests alone; it knows nothing of the project's own walk.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field


def tlv(tag: int, *parts: bytes) -> bytes:
    """One element, minimal length."""
    content = b"".join(parts)
    return bytes([tag]) + length(len(content)) + content


def length(size: int) -> bytes:
    """Minimal length octets."""
    if size < 0x80:
        return bytes([size])
    octets = size.to_bytes((size.bit_length() + 7) // 8)
    return bytes([0x80 | len(octets)]) + octets


@dataclass
class Tlv:
    """One element; `raw` stands for it where it is set. An extension's OCTET STRING has what it wraps as a child."""

    tag: int
    content: bytes
    children: list["Tlv"] = field(default_factory=list)
    raw: bytes | None = None

    def dump(self) -> bytes:
        if self.raw is not None:
            return self.raw
        if self.children:
            return tlv(self.tag, *(child.dump() for child in self.children))
        return tlv(self.tag, self.content)

    def at(self, *path: int) -> "Tlv":
        node = self
        for index in path:
            node = node.children[index]
        return node

    def nodes(self, path: tuple[int, ...] = ()) -> Iterator[tuple[tuple[int, ...], "Tlv"]]:
        yield path, self
        for index, child in enumerate(self.children):
            yield from child.nodes((*path, index))


def parse(encoded: bytes) -> Tlv:
    """Read one element that is known to be DER."""
    node, rest = _parse(encoded)
    assert not rest
    return node


def _parse(encoded: bytes) -> tuple[Tlv, bytes]:
    tag, size, at = encoded[0], encoded[1], 2
    if size & 0x80:
        at += size & 0x7F
        size = int.from_bytes(encoded[2:at])
    content, rest = encoded[at : at + size], encoded[at + size :]
    node = Tlv(tag, content)
    if tag & 0x20:
        while content:
            child, content = _parse(content)
            node.children.append(child)
        last = node.children[-1] if node.children else None
        if tag == 0x30 and last and last.tag == 0x04 and node.children[0].tag == 0x06:
            last.children.append(parse(last.content))
    return node, rest


def replaced(payload: bytes, path: tuple[int, ...], raw: bytes) -> bytes:
    """`payload` with the element at `path` replaced by these bytes; lengths around it are made to fit."""
    tree = parse(payload)
    tree.at(*path).raw = raw
    return tree.dump()


def inserted(payload: bytes, path: tuple[int, ...], raw: bytes) -> bytes:
    """`payload` with these bytes after the element at `path`."""
    tree = parse(payload)
    node = tree.at(*path)
    node.raw = node.dump() + raw
    return tree.dump()


def found(payload: bytes, encoded_oid: bytes) -> tuple[int, ...]:
    """Path of the SEQUENCE that begins with this OID: an extension, an attribute."""
    for path, node in parse(payload).nodes():
        if node.tag == 0x30 and node.children and node.children[0].dump() == encoded_oid:
            return path
    raise AssertionError("no such element in the specimen")


def mutants(payload: bytes) -> Iterator[tuple[str, tuple[int, ...], bytes]]:
    """Break every element in every way that fits its type: (how, where, the whole broken payload)."""
    tree = parse(payload)
    nodes = list(tree.nodes())
    siblings = {path: tree.at(*path[:-1]).children for path, _ in nodes if path}
    for path, node in nodes:
        good = node.dump()
        for how, raw in _broken(node, good):
            node.raw = raw
            yield how, path, tree.dump()
            node.raw = None
        if path:
            for how, raw in (("delete", b""), ("duplicate", good + good), ("null-after", good + b"\x05\x00")):
                node.raw = raw
                yield how, path, tree.dump()
                node.raw = None
            if path[-1] + 1 < len(siblings[path]):
                follower = siblings[path][path[-1] + 1]
                node.raw, follower.raw = follower.dump(), good
                yield "swap", path, tree.dump()
                node.raw = follower.raw = None


def _broken(node: Tlv, good: bytes) -> Iterator[tuple[str, bytes]]:
    size = good[1] & 0x7F if good[1] & 0x80 else 0
    content = good[2 + size :]
    octets = (len(content).bit_length() + 7) // 8 or 1
    tag = good[:1]
    longer = max(octets, size) + (0 if len(content) < 0x80 else 1)
    yield "long-length", tag + bytes([0x80 | longer]) + len(content).to_bytes(longer) + content
    yield "longest-length", tag + b"\x84" + len(content).to_bytes(4) + content
    yield "indefinite", tag + b"\x80" + content + b"\x00\x00"
    yield "length-past-end", tag + b"\x84\x7f\xff\xff\xff" + content
    yield "content-zero-after", tlv(node.tag, content, b"\x00")
    yield "content-cut", tlv(node.tag, content[:-1])
    yield "content-empty", tlv(node.tag)
    yield "constructed-flip", bytes([node.tag ^ 0x20]) + good[1:]
    yield "class-private", bytes([node.tag | 0xC0]) + good[1:]
    yield "class-context", bytes([node.tag & 0x3F | 0x80]) + good[1:]
    yield "tag-next", bytes([node.tag + 1]) + good[1:]
    yield "high-tag", bytes([node.tag | 0x1F, node.tag & 0x1F]) + good[1:]
    yield "wrapped", tlv(0x30, good)
    match node.tag:
        case 0x01:
            for octet in (0x00, 0x01, 0x7F, 0xFE):
                yield f"boolean-{octet:02x}", bytes([1, 1, octet])
            yield "boolean-two", b"\x01\x02\xff\xff"
        case 0x02 | 0x0A:
            yield "integer-padded", tlv(node.tag, b"\x00", content)
            yield "integer-padded-ff", tlv(node.tag, b"\xff", content)
            yield "integer-negative", tlv(node.tag, b"\xff" if len(content) == 1 else b"\x80" + content[1:])
        case 0x03:
            for unused in (1, 7, 8, 0xFF):
                if content[:1] != bytes([unused]):
                    yield f"unused-{unused}", tlv(3, bytes([unused]), content[1:])
        case 0x06:
            yield "oid-padded", tlv(6, b"\x80", content)
            yield "oid-cut-arc", tlv(6, content[:-1], bytes([content[-1] | 0x80]))
            yield "oid-other", tlv(6, content[:-1], bytes([content[-1] ^ 0x40]))
        case 0x0C | 0x13:
            for name, other in (
                ("utf8", 0x0C),
                ("printable", 0x13),
                ("ia5", 0x16),
                ("t61", 0x14),
                ("bmp", 0x1E),
            ):
                if other != node.tag:
                    yield f"string-{name}", tlv(other, content)
            for name, bad in (
                ("nul", b"\x00"),
                ("utf8", b"\xff"),
                ("overlong", b"\xc0\xaf"),
                ("at", b"@\x7f"),
            ):
                yield f"string-bad-{name}", tlv(node.tag, content, bad)
        case 0x17 | 0x18:
            yield from _times(content)


def _times(content: bytes) -> Iterator[tuple[str, bytes]]:
    digits = content[:-1]
    yield "time-as-generalized", tlv(0x18, b"20", content)
    yield "time-fraction", tlv(0x18, b"20", digits, b".0Z")
    for name, text in (
        ("no-zone", digits),
        ("offset", digits + b"+0000"),
        ("no-seconds", digits[:-2] + b"Z"),
        ("lower-case", digits + b"z"),
        ("space", digits[:-1] + b" Z"),
        ("month-13", digits[:2] + b"13" + digits[4:] + b"Z"),
        ("month-00", digits[:2] + b"00" + digits[4:] + b"Z"),
        ("day-32", digits[:4] + b"32" + digits[6:] + b"Z"),
        ("feb-30", digits[:2] + b"0230" + digits[6:] + b"Z"),
        ("hour-24", digits[:6] + b"24" + digits[8:] + b"Z"),
        ("minute-60", digits[:8] + b"60" + digits[10:] + b"Z"),
        ("second-60", digits[:10] + b"60Z"),
    ):
        yield f"time-{name}", tlv(0x17, text)
