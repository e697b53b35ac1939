"""What is not done with a SMETS1 Device's keys, each a refusal with a rule of its own, recorded; a real token, a real store."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from cryptosvc.adapters.hsm.constants import Cka, Cko
from cryptosvc.adapters.hsm.cryptoki import FALSE, number
from cryptosvc.adapters.hsm.hsm import Pkcs11Hsm
from cryptosvc.core.content.base import Statement
from cryptosvc.core.content.dlms.profile import Model, Smets1Profile
from cryptosvc.core.content.dlms.protection import parse_protected
from cryptosvc.core.device_keys import RowState
from cryptosvc.core.errors import Conflict, CryptosvcError, Forbidden, Malformed, Unavailable, WrongState
from cryptosvc.core.names import ContentForm, Environment, KeyId
from cryptosvc.flow.sign import NotSigned, Signed
from tests.dlms_device import protected
from tests.hsm_fixtures import TestToken, make_softhsm
from tests.smets1_corridor import (
    AK,
    CLIENT,
    DEVICE,
    EK,
    GET,
    KEYS,
    METER,
    OTHER_DEVICE,
    PROFILE,
    Smets1Walk,
    Wanted,
    asked,
    name,
    smets1_walk,
)

pytestmark = pytest.mark.xdist_group("smets1")
BOTH = ContentForm.DLMS_AUTHENTICATED_ENCRYPTION
ENCRYPTED = ContentForm.DLMS_ENCRYPTION
AUTHENTICATED = ContentForm.DLMS_AUTHENTICATION
CHALLENGE = ContentForm.DLMS_CHALLENGE
SENT = ContentForm.DLMS_PROTECTED
CHANGE = ContentForm.DLMS_KEY_CHANGE
ANSWER = bytes.fromhex("c401000009060102030405ff")
MORE = (Wanted("hls-secret", AK), Wanted("encryption", bytes(16), version=3, state=RowState.RETIRED))


@pytest.fixture
def token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TestToken:
    made = make_softhsm(tmp_path)
    monkeypatch.setenv("SOFTHSM2_CONF", made.conf)
    return made


@pytest.fixture
async def walk(token: TestToken, tmp_path: Path) -> AsyncIterator[Smets1Walk]:
    async with smets1_walk(token, tmp_path, (*KEYS, *MORE)) as made:
        yield made


async def test_a_counter_only_rises_whatever_is_done_and_by_whichever_name(walk: Smets1Walk) -> None:
    await walk.done(asked(BOTH, counter=10))
    for form, text in ((BOTH, GET), (ENCRYPTED, GET), (AUTHENTICATED, GET), (CHALLENGE, b"P6wRJ21F")):
        for key_id in (name("encryption"), name("encryption", 1)):
            for counter in (0, 9, 10):
                refused = await walk.refusal(asked(form, text, counter, key_id=key_id))
                assert isinstance(refused, Conflict)
                assert refused.rule == "rising/dlms-invocation-counter"
    for number_, form in enumerate((ENCRYPTED, AUTHENTICATED, BOTH), 11):
        await walk.done(asked(form, counter=number_, key_id=name("encryption", 1)))
    await walk.done(asked(CHALLENGE, b"P6wRJ21F", 14))
    assert isinstance(await walk.refusal(asked(BOTH, counter=14)), Conflict)
    # another Device's key counts for itself
    other = name("encryption", device=OTHER_DEVICE), name("authentication", device=OTHER_DEVICE)
    await walk.done(asked(BOTH, counter=10, key_id=other[0], second=other[1]))


async def test_of_many_that_ask_at_once_for_one_counter_one_gets_it(walk: Smets1Walk) -> None:
    requests = [asked(BOTH, counter=5, key_id=name("encryption", one % 2 or None)) for one in range(16)]
    answers = [one for batch in await asyncio.gather(*(walk.ask([one]) for one in requests)) for one in batch]
    assert sum(isinstance(one, Signed) for one in answers) == 1
    refused = [one.error for one in answers if isinstance(one, NotSigned)]
    assert {one.rule for one in refused if isinstance(one, Conflict)} == {"rising/dlms-invocation-counter"}
    together = await walk.ask([asked(BOTH, counter=one) for one in (7, 6, 8, 8)])
    assert [isinstance(one, Signed) for one in together] == [True, False, True, False]


async def test_the_last_counter_is_never_used(walk: Smets1Walk) -> None:
    refused = await walk.refusal(asked(BOTH, counter=2**32 - 1))
    assert isinstance(refused, WrongState)
    assert (refused.rule, refused.field) == ("dlms/counter-exhausted", "invocation_counter")
    await walk.done(asked(BOTH, counter=2**32 - 2))
    assert (await walk.refusal(asked(BOTH, counter=2**32 - 2))).rule == "rising/dlms-invocation-counter"


async def test_what_does_not_verify_is_said_in_two_words(walk: Smets1Walk) -> None:
    sent = protected(0x30, METER, 7, ANSWER)
    clear = protected(0x10, METER, 7, ANSWER)
    flipped = [bytes((*sent[:at], sent[at] ^ 1, *sent[at + 1 :])) for at in range(3, len(sent))]
    flipped += [bytes((*clear[:at], clear[at] ^ 1, *clear[at + 1 :])) for at in range(3, len(clear))]
    shorter, longer = sent[:-1], sent + b"\x00"  # of which the length says so too
    wrong = [*flipped, bytes((0xCC, sent[1] - 1)) + shorter[2:], bytes((0xCC, sent[1] + 1)) + longer[2:]]
    wrong.append(protected(0x30, METER, 7, ANSWER, ak=EK))
    wrong.append(protected(0x30, METER, 7, ANSWER, ek=AK))
    wrong.append(protected(0x30, CLIENT, 7, ANSWER))
    answers = await walk.ask([asked(SENT, one, title=METER) for one in wrong])
    for one in answers:
        assert isinstance(one, NotSigned)
        assert (str(one.error), one.error.rule) == ("not verified", "dlms/not-verified")
    entry = await walk.entry(answers[0].receipt.leaf_index)
    assert (entry["kind"], entry["outcome"], entry["rule"]) == ("use", "forbidden", "dlms/not-verified")
    # the key of another Device
    other = name("encryption", device=OTHER_DEVICE), name("authentication", device=OTHER_DEVICE)
    foreign = protected(0x30, METER, 7, ANSWER, ek=AK)
    refused = await walk.refusal(asked(SENT, foreign, title=METER, key_id=other[0], second=other[1]))
    assert refused.rule == "dlms/not-verified"


@pytest.mark.parametrize(
    ("sent", "rule"),
    [
        (b"", "dlms/not-an-answer"),
        (b"\xcc", "dlms/length"),
        (protected(0x30, METER, 7, ANSWER) + b"\x00", "dlms/length"),
        (protected(0x30, METER, 7, ANSWER)[:-1], "dlms/length"),
        (protected(0x30, METER, 7, ANSWER, tag=0xC8), "dlms/not-an-answer"),
        (b"\xcc\x81\x12" + bytes(18), "dlms/length"),
        (b"\xcc\x11\x30" + bytes(16), "dlms/truncated"),
        (b"\xcc\x05\x20" + bytes(4), "dlms/truncated"),
        (b"\xcc\x00", "dlms/security"),
        (b"\xcc\x20\x31" + bytes(31), "dlms/security"),
        (b"\xcc\x20\x70" + bytes(31), "dlms/security"),
        (b"\xcc\x20\xb0" + bytes(31), "dlms/security"),
        (b"\xcc\x20\x00" + bytes(31), "dlms/security"),
        (b"\xdb\x08" + CLIENT + protected(0x30, METER, 7, ANSWER)[1:], "dlms/system-title"),
        (b"\xdb\x07" + METER[:7] + protected(0x30, METER, 7, ANSWER)[1:], "dlms/system-title"),
        (b"\xdb\x08" + METER, "dlms/length"),
    ],
)
def test_what_is_not_whole_or_not_of_the_suite_is_malformed(sent: bytes, rule: str) -> None:
    with pytest.raises(Malformed) as refusal:
        parse_protected(METER + sent)
    assert (refusal.value.rule, refusal.value.field) == (rule, "dlms_protected")


async def test_system_titles_are_held_to_whose_they_are(walk: Smets1Walk) -> None:
    general = b"\xdb\x08" + METER + protected(0x30, METER, 7, ANSWER)[1:]
    assert (await walk.done(asked(SENT, general, title=METER))).checked.plaintexts == (ANSWER,)
    refused = [
        await walk.refusal(asked(BOTH, title=METER)),
        # what was protected under our own title is never read: else reading would be writing
        await walk.refusal(asked(SENT, protected(0x20, CLIENT, 99, GET), title=CLIENT)),
        await walk.refusal(asked(SENT, protected(0x30, CLIENT, 99, ANSWER), title=CLIENT)),
    ]
    assert {(type(one), one.rule) for one in refused} == {(Forbidden, "dlms/system-title")}


async def test_a_model_that_is_titled_by_its_eui64_is_held_to_it(token: TestToken, tmp_path: Path) -> None:
    profile = replace(PROFILE, models=(Model("maker", "m1", "1.0", titled_by_eui64=True),))
    async with smets1_walk(token, tmp_path, profile=profile) as walk:
        sent = protected(0x30, METER, 7, ANSWER)
        assert (await walk.refusal(asked(SENT, sent, title=METER))).rule == "dlms/system-title"
        sent = protected(0x30, DEVICE.octets, 7, ANSWER)
        assert (await walk.done(asked(SENT, sent, title=DEVICE.octets))).checked.plaintexts == (ANSWER,)


async def test_without_a_system_title_of_our_own_nothing_is_protected(
    token: TestToken, tmp_path: Path
) -> None:
    async with smets1_walk(token, tmp_path, profile=Smets1Profile()) as walk:
        for title in (CLIENT, METER, bytes(8)):
            assert (await walk.refusal(asked(BOTH, title=title))).rule == "dlms/system-title"


async def test_keys_of_two_devices_or_of_another_kind_do_not_go_together(walk: Smets1Walk) -> None:
    elsewhere = name("authentication", device=OTHER_DEVICE)
    for form, rule in ((BOTH, "dlms/other-device"), (AUTHENTICATED, "dlms/other-device")):
        assert (await walk.refusal(asked(form, second=elsewhere))).rule == rule
    assert (await walk.refusal(asked(BOTH, second=KeyId("")))).rule == "dlms/second-key"
    assert (await walk.refusal(asked(BOTH, second=name("encryption", 2)))).rule == "dlms/second-kind"
    assert (await walk.refusal(asked(BOTH, second=name("authentication", 9)))).rule == "key/not-granted"
    for kind in ("authentication", "master", "hls-secret"):
        refused = await walk.refusal(asked(BOTH, key_id=name(kind)))
        assert isinstance(refused, Forbidden)
    walk.caller = replace(
        walk.caller, grants=tuple(one for one in walk.caller.grants if one.operation != "accompany")
    )
    assert (await walk.refusal(asked(BOTH, counter=2))).rule == "key/not-granted"
    # what is only encrypted needs no other key, and so no grant for one
    await walk.stand.keys.change([replace(walk.caller, version=2)])
    walk.caller = replace(walk.caller, version=2)
    assert (await walk.done(asked(ENCRYPTED, counter=3))).checked.signature == b""


async def test_a_key_change_wraps_the_key_that_is_named_and_no_other(walk: Smets1Walk) -> None:
    async def change(payload: bytes, second: KeyId, kind: str = "master") -> CryptosvcError:
        request = asked(CHANGE, key_id=name(kind), second=second)
        return await walk.refusal(replace(request, payload=payload))

    for payload, second, rule in (
        (b"encryption.1", name("encryption", 2), "dlms/new-key"),
        (b"encryption", name("encryption", 2), "dlms/new-key"),
        (b"encryption.0", name("encryption", 2), "dlms/new-key"),
        (b"\xff", name("encryption", 2), "dlms/new-key"),
        (b"encryption.1", name("encryption", 1, OTHER_DEVICE), "dlms/other-device"),
        (b"encryption.2", KeyId(""), "dlms/second-key"),
    ):
        refused = await change(payload, second)
        assert refused.rule == rule, payload
    granted = replace(
        walk.caller.grants[0], operation="accompany", key_class="smets1-master", key_ids=frozenset()
    )
    walk.caller = replace(walk.caller, version=2, grants=(*walk.caller.grants, granted))
    await walk.stand.keys.change([walk.caller])
    assert (await change(b"master.1", name("master", 1))).rule == "dlms/new-key"
    # a retired key is sent to no Device
    assert isinstance(await change(b"encryption.3", name("encryption", 3)), WrongState)
    assert isinstance(await change(b"encryption.2", name("encryption", 2), "encryption"), Forbidden)


async def test_states_of_a_version_are_held(walk: Smets1Walk) -> None:
    for version in (2, 3):
        assert isinstance(await walk.refusal(asked(BOTH, key_id=name("encryption", version))), WrongState)
    sent = protected(0x30, METER, 7, ANSWER, ek=bytes(16))
    answer = await walk.done(asked(SENT, sent, title=METER, key_id=name("encryption", 3)))
    assert answer.checked.plaintexts == (ANSWER,)
    assert isinstance(
        await walk.refusal(asked(SENT, sent, title=METER, key_id=name("encryption", 2))), WrongState
    )


async def test_what_is_stated_wrongly_or_asked_in_no_role_is_refused(walk: Smets1Walk) -> None:
    for role in ("", "DCC"):
        refused = await walk.refusal(asked(BOTH, role=role))
        assert refused.rule in ("policy/refused", "caller/user-role")
    for statement in (
        Statement(user_role="S1SP", service_reference_variant="7.1"),
        Statement(user_role="S1SP", user_id="90-B3-D5-1F-30-01-00-00"),
    ):
        refused = await walk.refusal(replace(asked(BOTH), statement=statement))
        assert refused.rule in ("dlms/statement", "caller/user-id")
    challenge = await walk.refusal(asked(CHALLENGE, GET))
    assert challenge.rule == "dlms/challenge-is-request"
    for octets in (bytes(7), bytes(65)):
        assert (await walk.refusal(asked(CHALLENGE, octets))).rule == "dlms/challenge"
    assert (await walk.refusal(asked(BOTH, GET + b"\x00"))).rule == "dlms/trailing"
    assert (await walk.refusal(asked(BOTH, b""))).rule == "dlms/truncated"


async def test_the_record_names_no_device_and_holds_no_plaintext(walk: Smets1Walk) -> None:
    answer = await walk.done(asked(BOTH, counter=3))
    stored = await walk.stand.ledger.entry(answer.receipt.leaf_index)
    assert stored is not None
    entry = await walk.entry(answer.receipt.leaf_index)
    assert (entry["derivation"], entry["operation"], entry["user_role"]) == ("service", "encrypt", "S1SP")
    assert (entry["clause"], entry["key"]) == ("G2.44(c), (e)", "device-store/devices")
    assert str(DEVICE).encode() not in stored.entry
    for kept in ("device_key", "second_device_key"):
        assert kept in entry["commitments"]  # type: ignore[operator]
        assert kept.encode() in stored.withheld
    assert f"{DEVICE}.authentication.1".encode() in stored.withheld
    facts = entry["facts"]
    assert facts == {
        "counter": "3",
        "items": "get 8/0-0:1.0.0.255/2",
        "request": "get-request",
        "security": "authenticated-encrypted",
        "system_title": CLIENT.hex(),
    }
    read = await walk.done(asked(SENT, protected(0x30, METER, 7, ANSWER), title=METER))
    stored = await walk.stand.ledger.entry(read.receipt.leaf_index)
    assert stored is not None
    assert ANSWER.hex().encode() not in stored.entry + stored.withheld
    assert METER.hex().encode() not in stored.entry
    explained = await walk.explainer.explain(walk.principal, asked(BOTH, counter=3))
    assert explained.refusal is not None
    assert explained.refusal.rule == "rising/dlms-invocation-counter"
    explained = await walk.explainer.explain(walk.principal, asked(BOTH, counter=4))
    assert explained.authorised is not None
    await walk.done(asked(BOTH, counter=4))


async def test_no_readable_key_is_left_in_the_module(walk: Smets1Walk) -> None:
    await walk.done(asked(BOTH, counter=1))
    await walk.done(asked(SENT, protected(0x10, METER, 7, ANSWER), title=METER))
    request = asked(CHANGE, key_id=name("master"), second=name("encryption", 2))
    await walk.done(replace(request, payload=b"encryption.2"))
    (pool,) = walk.hsm._pools.values()
    opened = pool.require_open()
    functions = pool.library.functions
    secret, passing = (Cka.CLASS, number(Cko.SECRET_KEY)), (Cka.TOKEN, FALSE)
    assert functions.find(opened.login_session, [secret, (Cka.SENSITIVE, FALSE)], 10) == []
    # storage keys may leave under a trusted key (G2.22G); what is opened under them may not
    assert functions.find(opened.login_session, [secret, passing, (Cka.EXTRACTABLE, b"\x01")], 10) == []


async def test_in_live_no_authentication_key_leaves_its_module(token: TestToken, tmp_path: Path) -> None:
    live = token.with_config(environment=Environment.LIVE)
    async with smets1_walk(token, tmp_path) as walk:
        walk.hsm.close()
        hsm = Pkcs11Hsm([live.config], walk.stand.clock, live.locks)
        hsm.start()
        try:
            there = Smets1Walk(walk.stand, hsm)
            for request in (
                asked(BOTH, counter=1),
                asked(AUTHENTICATED, counter=2),
                asked(CHALLENGE, secrets.token_bytes(8), 3),
                asked(SENT, protected(0x30, METER, 7, ANSWER), title=METER),
            ):
                refused = await there.refusal(request)
                assert isinstance(refused, Unavailable)
                assert refused.rule == "hsm/authentication-key-outside"
            # what needs none is done
            assert (await there.done(asked(ENCRYPTED, counter=4))).checked.derivation == "module"
            sent = protected(0x20, METER, 7, ANSWER)
            assert (await there.done(asked(SENT, sent, title=METER))).checked.plaintexts == (ANSWER,)
        finally:
            hsm.close()
