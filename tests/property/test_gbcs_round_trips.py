"""Generated Pre-Commands: what is written is read, and what is read is written again, octet for octet."""

from hypothesis import given, settings
from hypothesis import strategies as st

from cryptosvc.core.content.gbcs import asn1, codes, dlms, framing, gbz, precommand, structures
from cryptosvc.core.content.gbcs.asn1 import Expected
from cryptosvc.core.content.gbcs.items import ITEMS
from cryptosvc.core.content.gbcs.profile import GbcsProfile
from cryptosvc.core.content.gbcs.templates import GRAMMARS
from cryptosvc.core.errors import Malformed
from tests import precommands

PROFILE = GbcsProfile(access_control_brokers=frozenset({precommands.BROKER}))
MANY = settings(max_examples=300, deadline=None)
SAMPLES = (
    precommands.ecs43(),
    precommands.ecs38(),
    precommands.gcs32(),
    precommands.gcs28(),
    precommands.cs06(),
    precommands.cs04ac(precommands.BROKER, acting_for=bytes(16)),
    precommands.cs02b(
        precommands.der(0x30, precommands.der(0x30), precommands.der(0x30), precommands.der(0x03, b"\x00"))
    ),
)

eui64s = st.binary(min_size=8, max_size=8)
counters = st.integers(0, framing.HIGHEST_COUNTER)


def counted(tag: int, octets: bytes) -> bytes:
    return bytes((tag,)) + framing.emit_length(len(octets)) + octets


scalars = st.one_of(
    st.just(b"\x00"),
    st.integers(0, 0xFFFF).map(lambda value: b"\x12" + value.to_bytes(2)),
    st.integers(0, 0xFFFFFFFF).map(lambda value: b"\x06" + value.to_bytes(4)),
    st.binary(max_size=300).map(lambda octets: counted(0x09, octets)),
    st.binary(min_size=12, max_size=12).map(lambda octets: b"\x19" + octets),
    st.integers(0, 255).map(lambda value: b"\x16" + bytes((value,))),
)
data = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=5).map(
            lambda parts: b"\x02" + framing.emit_length(len(parts)) + b"".join(parts)
        ),
        inner.flatmap(
            lambda part: st.integers(0, 4).map(
                lambda count: b"\x01" + framing.emit_length(count) + part * count
            )
        ),
    ),
    max_leaves=12,
)
specs = st.builds(
    lambda choice, class_id, name, number: bytes((choice,)) + class_id.to_bytes(2) + name + bytes((number,)),
    st.sampled_from((dlms.SET, dlms.ACTION)),
    st.integers(0, 0xFFFF),
    st.binary(min_size=6, max_size=6),
    st.integers(0, 255),
)
components = st.builds(
    gbz.Component,
    cluster=st.integers(0, 0xFFFF).filter(
        lambda cluster: cluster != 0x0702
    ),  # Change Supply needs its own code
    command=st.integers(0, 255),
    zcl=st.binary(max_size=300),
    frame_control=st.sampled_from((0x00, 0x01, 0x08, 0x09, 0x10, 0x11, 0x18, 0x19)),
    from_date_time=st.sampled_from((b"", bytes(4), b"\xff" * 4)),
)


def whole(code: int, originator: bytes, target: bytes, counter: int, payload: bytes) -> None:
    message = framing.build(code=code, originator=originator, target=target, counter=counter, payload=payload)
    content = precommand.parse(message, PROFILE)
    assert precommand.emit(content) == message
    assert precommand.parse(message[:-1], PROFILE) == content
    assert content.signed_bytes == message[1:-1]
    assert content.counter == counter
    for extra in (b"\x00", b"\x01", b"\x40"):
        try:
            precommand.parse(message + extra, PROFILE)
        except Malformed:
            continue
        raise AssertionError("a trailing octet was accepted")


@MANY
@given(
    originator=eui64s,
    target=eui64s,
    counter=counters,
    items=st.lists(st.tuples(specs, data), min_size=1, max_size=6),
)
def test_dlms_round_trip(
    originator: bytes, target: bytes, counter: int, items: list[tuple[bytes, bytes]]
) -> None:
    whole(0x0055, originator, target, counter, dlms.emit(counter.to_bytes(8), items))


@MANY
@given(originator=eui64s, target=eui64s, counter=counters, parts=st.lists(components, min_size=1, max_size=6))
def test_gbz_round_trip(originator: bytes, target: bytes, counter: int, parts: list[gbz.Component]) -> None:
    whole(0x007D, originator, target, counter, gbz.emit(parts))


@MANY
@given(
    originator=eui64s,
    target=eui64s,
    counter=counters,
    image_hash=st.binary(min_size=1, max_size=64),
    at=st.none() | st.datetimes(),
)
def test_asn1_round_trip(
    originator: bytes, target: bytes, counter: int, image_hash: bytes, at: object
) -> None:
    time = b"" if at is None else precommands.der(0x18, f"{at:%Y%m%d%H%M%SZ}".rjust(15, "0").encode())
    payload = precommands.der(0x30, precommands.der(0x04, image_hash), precommands.unsigned(counter), time)
    whole(0x0012, originator, target, counter, payload)


@MANY
@given(code=st.sampled_from(sorted(ITEMS)), choices=st.data())
def test_every_item_of_every_use_case_is_read(code: int, choices: st.DataObject) -> None:
    """The table's own specifications, each with a datum that begins as it says."""
    picked = choices.draw(st.lists(st.sampled_from(sorted(ITEMS[code].items())), min_size=1, max_size=8))
    padding = {
        b"": b"\x00",
        b"\x09\x0c": b"\x09\x0c" + bytes(12),
        b"\x0a": b"\x0a\x01x",
        b"\x03": b"\x03\xff",
    }
    padding |= {b"\x05": b"\x05" + bytes(4), b"\x06": b"\x06" + bytes(4), b"\x12": b"\x12" + bytes(2)}
    items = [(what, padding.get(begins, begins)) for what, begins in picked]
    whole(code, bytes(8), bytes(8), 1, dlms.emit((1).to_bytes(8), items))


@MANY
@given(code=st.sampled_from(sorted(GRAMMARS)), choices=st.data())
def test_every_template_of_every_use_case_is_read(code: int, choices: st.DataObject) -> None:
    grammar = GRAMMARS[code]
    every = [
        (key, template) for key, templates in sorted(grammar.templates.items()) for template in templates
    ]
    size = choices.draw(st.integers(grammar.fewest, min(grammar.most, grammar.fewest + 5)))
    parts = []
    for _ in range(size):
        key, template = choices.draw(st.sampled_from(every))
        extra = choices.draw(st.binary(max_size=8)) if template.open_ended else b""
        zcl = bytearray(choices.draw(st.binary(min_size=template.octets, max_size=template.octets)))
        for at, run in template.fixed:
            zcl[at : at + len(run)] = run
        parts.append(
            gbz.Component(
                cluster=int.from_bytes(key[:2]),
                frame_control=key[2],
                command=key[3],
                zcl=bytes(zcl) + extra,
                from_date_time=bytes(4) if template.dated else b"",
            )
        )
    whole(code, bytes(8), bytes(8), 1, gbz.emit(parts))


def refused_or_read(message: bytes) -> None:
    """Nothing but Malformed comes out, and what is read is written again."""
    try:
        content = precommand.parse(message, PROFILE)
    except Malformed as refusal:
        assert refusal.rule.startswith("gbcs/")  # noqa: PT017 (either outcome is allowed; this is what one must say)
        return
    assert precommand.emit(content) in (message, message + b"\x00")


@settings(max_examples=1000, deadline=None)
@given(st.binary(max_size=400))
def test_random_octets_are_refused(message: bytes) -> None:
    refused_or_read(message)


@settings(max_examples=1500, deadline=None)
@given(
    code=st.sampled_from(sorted(codes.CODES)),
    start=st.sampled_from(
        (b"", b"\xd9\x20\x00\x00\x01\x00", b"\x01\x09", b"\x30", b"\x30\x20\x30", b"\x04\x08")
    ),
    rest=st.binary(max_size=200),
)
def test_random_payloads_of_every_code_are_refused_or_whole(code: bytes, start: bytes, rest: bytes) -> None:
    message = framing.build(
        code=int.from_bytes(code), originator=bytes(8), target=bytes(8), counter=1, payload=start + rest
    )
    refused_or_read(message)


@settings(max_examples=2000, deadline=None)
@given(
    message=st.sampled_from(SAMPLES),
    edits=st.lists(
        st.tuples(st.integers(0, 400), st.integers(0, 2), st.binary(min_size=1, max_size=3)),
        min_size=1,
        max_size=4,
    ),
)
def test_edited_messages_are_refused_or_whole(message: bytes, edits: list[tuple[int, int, bytes]]) -> None:
    for place, removed, inserted in edits:
        at = place % (len(message) + 1)
        message = message[:at] + inserted + message[at + removed :]
    refused_or_read(message)


@MANY
@given(code=st.sampled_from(sorted(structures.STRUCTURES)), payload=st.binary(max_size=120))
def test_asn1_raises_nothing_else(code: int, payload: bytes) -> None:
    try:
        asn1.read(
            payload, 0, len(payload), structures.STRUCTURES[code], Expected(1, structures.MODES.get(code))
        )
    except Malformed:
        return
    assert payload[0] in (0x04, 0x05, 0x30)
