"""Dedicated keys of Application Associations, through the whole corridor: opened, used, over; and who may not use one."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import orjson
import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from cryptosvc.core import associations
from cryptosvc.core.canonical import canonical
from cryptosvc.core.case import Request
from cryptosvc.core.errors import Conflict, Corrupt, Forbidden, Malformed, WrongState
from cryptosvc.core.names import ContentForm, KeyId, SystemName
from cryptosvc.flow.sign import Signed
from tests.dlms_device import protected
from tests.hsm_fixtures import TestToken, make_softhsm
from tests.smets1_corridor import (
    AK,
    CLIENT,
    DEVICE,
    EK,
    GET,
    METER,
    OTHER_DEVICE,
    PROFILE,
    Smets1Walk,
    asked,
    name,
    smets1_walk,
)

pytestmark = pytest.mark.xdist_group("smets1")
OPEN = ContentForm.DLMS_ASSOCIATION
BOTH = ContentForm.DLMS_AUTHENTICATED_ENCRYPTION
SENT = ContentForm.DLMS_PROTECTED
INITIATE = bytes.fromhex("01000000065f1f0400007e1f04b0")
ANSWER = bytes.fromhex("c401000009060102030405ff")
DED_GET_RESPONSE = 0xD4
LAST = 2**32 - 2


@pytest.fixture
def token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TestToken:
    made = make_softhsm(tmp_path)
    monkeypatch.setenv("SOFTHSM2_CONF", made.conf)
    return made


@pytest.fixture
async def walk(token: TestToken, tmp_path: Path) -> AsyncIterator[Smets1Walk]:
    async with smets1_walk(token, tmp_path) as made:
        yield made


async def opened(walk: Smets1Walk, counter: int = 1) -> tuple[bytes, bytes, Signed]:
    """The dedicated key as the Device finds it, the association, and the answer."""
    answer = await walk.done(asked(OPEN, INITIATE, counter))
    apdu = answer.checked.artefact
    body = bytes.fromhex("30") + counter.to_bytes(4)
    assert apdu[:7] == bytes((0x21, len(apdu) - 2)) + body
    # the Device's side, in other software: suite 0 cuts the tag, so the stream is opened and then made again
    vector = CLIENT + counter.to_bytes(4)
    sealed = apdu[7:]
    stream = AESGCM(EK).encrypt(vector, bytes(len(sealed) - 12), None)
    plain = bytes(a ^ b for a, b in zip(sealed[:-12], stream, strict=False))
    assert AESGCM(EK).encrypt(vector, plain, b"\x30" + AK)[: len(sealed)] == sealed
    assert plain[:3] + plain[19:] == bytes.fromhex("010110") + INITIATE[2:]
    return plain[3:19], answer.checked.association, answer


def under(
    association: bytes, form: ContentForm, text: bytes = GET, counter: int = 1, **more: object
) -> Request:
    made = asked(form, text, counter, **({"key_id": name("dedicated")} | more))  # type: ignore[arg-type]
    return replace(made, association=association)


async def test_a_shift_under_a_dedicated_key(walk: Smets1Walk) -> None:
    key, association, answer = await opened(walk)
    assert (answer.checked.derivation, answer.checked.signature) == ("service", answer.checked.artefact[-12:])
    for counter, form, security in (
        (1, BOTH, 0x30),
        (2, ContentForm.DLMS_ENCRYPTION, 0x20),
        (3, ContentForm.DLMS_AUTHENTICATION, 0x10),
    ):
        sent = await walk.done(under(association, form, counter=counter))
        assert sent.checked.artefact == protected(security, CLIENT, counter, GET, ek=key, ak=AK, tag=0xD0)
        back = protected(security, METER, counter, ANSWER, ek=key, ak=AK, tag=DED_GET_RESPONSE)
        read = await walk.done(under(association, SENT, back, title=METER))
        assert read.checked.plaintexts == (ANSWER,)
    # in the log: which association, by an id that its opening tells, and nothing of the Device or the key
    entry = await walk.entry(sent.receipt.leaf_index)
    first = await walk.entry(answer.receipt.leaf_index)
    known = associations.association_id(walk.caller.caller_id, str(first["request_id"]))
    assert (entry["association"], entry["key_class"]) == (known, "smets1-dedicated")
    assert first["content_kind"] == "dlms-association"
    for one in (entry, first):
        assert str(DEVICE) not in orjson.dumps(one).decode()
        assert key.hex() not in orjson.dumps(one).decode()
    assert key not in association
    assert key.hex().encode() not in association


async def test_every_association_has_a_key_and_counters_of_its_own(walk: Smets1Walk) -> None:
    first, one, _ = await opened(walk, 1)
    second, two, _ = await opened(walk, 2)
    assert first != second
    for association in (one, two):
        await walk.done(under(association, BOTH, counter=5))
        for counter in (0, 4, 5):
            refused = await walk.refusal(under(association, BOTH, counter=counter))
            assert isinstance(refused, Conflict)
            assert refused.rule == "rising/dlms-invocation-counter"
    # the last message of an association: nothing is protected after it, and what comes back is still read
    await walk.done(under(one, BOTH, counter=LAST))
    assert (await walk.refusal(under(one, BOTH, counter=LAST))).rule == "rising/dlms-invocation-counter"
    assert (await walk.refusal(under(one, BOTH, counter=LAST + 1))).rule == "dlms/counter-exhausted"
    back = protected(0x30, METER, 1, ANSWER, ek=first, ak=AK, tag=DED_GET_RESPONSE)
    assert (await walk.done(under(one, SENT, back, title=METER))).checked.plaintexts == (ANSWER,)
    # an answer of the one does not verify under the other
    assert (await walk.refusal(under(two, SENT, back, title=METER))).rule == "dlms/not-verified"


async def test_a_message_is_read_with_the_kind_of_key_its_tag_says(walk: Smets1Walk) -> None:
    key, association, _ = await opened(walk)
    globally = protected(0x30, METER, 1, ANSWER)
    refused = await walk.refusal(under(association, SENT, globally, title=METER))
    assert (refused.rule, type(refused)) == ("dlms/other-key", Forbidden)
    dedicated = protected(0x30, METER, 1, ANSWER, ek=key, ak=AK, tag=DED_GET_RESPONSE)
    assert (await walk.refusal(asked(SENT, dedicated, title=METER))).rule == "dlms/other-key"


async def test_an_edited_association_is_none(walk: Smets1Walk) -> None:
    _, association, _ = await opened(walk)
    document = orjson.loads(association)
    other = orjson.loads((await opened(walk, 2))[1])
    later = {"expires_at": document["expires_at"] + 1}
    changes = [later, {"opened_at": 0}, {"association": "00" * 12}, {"manufacturer": "x"}, {"version": 2}]
    changes += [{"blob": other["blob"]}, {"tag": other["tag"]}, {"blob": other["blob"], "tag": other["tag"]}]
    for change in changes:
        edited = canonical(document | change)
        refused = await walk.refusal(under(edited, BOTH, counter=9))
        assert isinstance(refused, Corrupt), change
        assert refused.rule == "device-key/not-bound"
    for edited in (
        b"{}",
        b"[]",
        b"x",
        association[:-1],
        association + b" ",
        canonical(document | {"more": 1}),
    ):
        assert (await walk.refusal(under(edited, BOTH, counter=9))).rule == "association/seal"
    # a row of the device store is no association, and an association no row
    rows = await walk.devices.of_devices({DEVICE})
    row = rows[1][DEVICE][0]
    forged = associations.DedicatedKey(
        **{field: getattr(row, field) for field in type(row).__dataclass_fields__ if field != "kind"},
        kind="dedicated",
        association="00" * 12,
        opened_at=1,
        expires_at=2**40,
    )
    refused = await walk.refusal(under(associations.emit(forged), BOTH, counter=9))
    assert refused.rule == "device-key/not-bound"
    await walk.done(under(association, BOTH, counter=1))


async def test_an_association_is_of_one_device_one_system_and_one_time(
    token: TestToken, tmp_path: Path
) -> None:
    async with smets1_walk(token, tmp_path, profile=replace(PROFILE, association_seconds=2)) as walk:
        walk.stand.clock.at -= walk.stand.clock.at % 1_000_000_000  # seconds are counted
        _, association, _ = await opened(walk)
        other = name("dedicated", device=OTHER_DEVICE), name("authentication", device=OTHER_DEVICE)
        refused = await walk.refusal(under(association, BOTH, key_id=other[0]))
        assert refused.rule == "key/not-granted"
        assert (await walk.refusal(under(association, BOTH, second=other[1]))).rule == "dlms/other-device"
        for key_id in (name("encryption"), name("dedicated", 1)):
            assert (await walk.refusal(under(association, BOTH, key_id=key_id))).rule == "key/not-granted"
        alone = asked(BOTH, key_id=name("dedicated"))
        assert (await walk.refusal(alone)).rule == "key/not-granted"
        document = orjson.loads(association)
        unknown = canonical(document | {"wrapping": "another-epoch"})
        assert (await walk.refusal(under(unknown, BOTH))).rule == "key/not-granted"
        mine, walk.caller = walk.caller, replace(walk.caller, system=SystemName("another"))
        assert (await walk.refusal(under(association, BOTH))).rule in {"key/not-granted", "caller/changed"}
        walk.caller = mine
        await walk.done(under(association, BOTH))
        walk.stand.clock.at += 1_900_000_000
        await walk.done(under(association, BOTH, counter=2))
        walk.stand.clock.at += 1_100_000_000
        back = protected(0x30, METER, 1, ANSWER, tag=DED_GET_RESPONSE)
        for one in (under(association, BOTH, counter=3), under(association, SENT, back, title=METER)):
            refused = await walk.refusal(one)
            assert isinstance(refused, WrongState)
            assert (refused.rule, refused.clause) == ("association/over", "G2.44A(c)")


async def test_what_opens_an_association_is_that_request_and_no_other(walk: Smets1Walk) -> None:
    with_key = bytes.fromhex("010110") + bytes(16) + INITIATE[2:]
    for text in (
        with_key,
        INITIATE[:-1],
        INITIATE + b"\x00",
        GET,
        b"\x01" + bytes(13),
        INITIATE[:4] + b"\x05" + INITIATE[5:],
    ):
        refused = await walk.refusal(asked(OPEN, text))
        assert isinstance(refused, Malformed)
        assert (refused.rule, refused.field) == ("dlms/initiate-request", "dlms_association")
    assert (await walk.refusal(asked(OPEN, INITIATE, title=METER))).rule == "dlms/system-title"
    assert (await walk.refusal(asked(OPEN, INITIATE, second=KeyId("")))).rule == "dlms/second-key"
    assert (await walk.refusal(asked(OPEN, INITIATE, role="IS"))).rule == "caller/user-role"
    await opened(walk, 7)
    for form, text in (
        (OPEN, INITIATE),
        (BOTH, GET),
    ):  # one counter for all that is done with the encryption key
        assert (await walk.refusal(asked(form, text, 7))).rule == "rising/dlms-invocation-counter"
    _, association, _ = await opened(walk, 8)
    assert (await walk.refusal(under(association, OPEN, INITIATE))).rule == "ceiling/purpose"
    assert (
        await walk.refusal(under(association, ContentForm.DLMS_CHALLENGE, b"P6wRJ21F"))
    ).rule == "ceiling/purpose"
