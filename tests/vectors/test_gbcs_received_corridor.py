"""Real Responses and Alerts, and real top-ups, through the corridor: real policies, a real store, published keys.

Every MAC of the test data verifies and what is inside comes back; every encrypted attribute decrypts for its party and
stands in no record; every token comes out as its supplier sent it. Whatever is not as it has to be is refused.
"""

import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import orjson
import pytest

from cryptosvc.adapters.policy import CedarPolicy
from cryptosvc.core.content.base import Statement
from cryptosvc.core.content.gbcs import mac, top_up
from cryptosvc.core.content.gbcs.parties import Parties
from cryptosvc.core.errors import Conflict, Forbidden, Malformed, Refusal, WrongState
from cryptosvc.core.names import ContentForm, RequestId, UserRole
from cryptosvc.core.registry import KeyState
from cryptosvc.flow.sign import NotSigned, Signed
from tests.mac_corridor import IN_FORCE, parties_of, policy_set
from tests.mac_keys import certificate, private
from tests.received_corridor import (
    Received,
    ReceivedWalk,
    ask,
    key_of,
    record_of,
    with_attributes,
    with_macs,
)
from tests.store_stand import SetClock, new_database, open_stand

SUPPLIER = bytes.fromhex("90b3d51f30010000")
ANSWER, ENCRYPTED = ContentForm.GBCS_MESSAGE, ContentForm.ENCRYPTED_RESPONSE
Fresh = Callable[..., AsyncIterator[ReceivedWalk]]


@pytest.fixture(scope="module")
def answers(gbcs_data: Path) -> list[Received]:
    return with_macs(gbcs_data)


@pytest.fixture(scope="module")
def encrypted(gbcs_data: Path) -> list[Received]:
    return with_attributes(gbcs_data)


@pytest.fixture(scope="module")
def policy() -> CedarPolicy:
    return policy_set()


@pytest.fixture(scope="module")
def parties(gbcs_data: Path) -> Parties:
    return parties_of(gbcs_data)


@pytest.fixture
def fresh(gbcs_data: Path, tmp_path: Path, policy: CedarPolicy, parties: Parties) -> Fresh:
    @asynccontextmanager
    async def walk(
        of: set[bytes], at: int = IN_FORCE, kind: str = "ka", **changes: object
    ) -> AsyncIterator[ReceivedWalk]:
        stand = await open_stand(
            new_database(f"sqlite:///{tmp_path}/store.db"), tmp_path, first=True, clock=SetClock(at)
        )
        try:
            keys = {key_of(party, kind): private(gbcs_data, party, kind) for party in sorted(of)}
            found = ReceivedWalk(stand, policy, keys, parties)
            if kind == "pp-ka":
                found.caller = replace(found.caller, user_roles=frozenset({UserRole.IMPORT_SUPPLIER}))
            records = [replace(record_of(gbcs_data, party, kind), **changes) for party in sorted(of)]
            await stand.keys.change([*records, found.caller])
            yield found
        finally:
            await stand.ledger.close()

    return walk


async def entry_of(walk: ReceivedWalk, answer: Signed | NotSigned) -> tuple[dict[str, object], bytes]:
    stored = await walk.stand.ledger.entry(answer.receipt.leaf_index)
    assert stored is not None
    return orjson.loads(stored.entry), stored.entry + stored.withheld


async def test_every_response_and_alert_verifies_and_what_is_inside_comes_back(
    fresh: Fresh, answers: list[Received], gbcs_data: Path
) -> None:
    assert len(answers) > 100
    async with fresh({one.party for one in answers}) as walk:
        done = await walk.apply([ask(gbcs_data, one, ANSWER) for one in answers])
        for one, answer in zip(answers, done, strict=True):
            assert isinstance(answer, Signed), (one.name, answer.error)
            assert answer.checked.artefact == one.inner
            assert answer.checked.signature == one.whole[-12:]
            assert answer.checked.plaintexts == ()
        entry, everything = await entry_of(walk, done[0])
    assert (entry["operation"], entry["content_kind"]) == ("verify-mac", "gbcs-answer")
    assert (entry["clause"], entry["policies"]) == ("G2.45", ["dcc-key-agreement-verifies-answer"])
    assert entry["facts"]["party"] == answers[0].party.hex("-").upper()
    assert "target" not in entry["facts"]
    assert answers[0].device.hex("-").upper().encode() in everything


async def test_every_encrypted_attribute_decrypts_and_stands_in_no_record(
    fresh: Fresh, encrypted: list[Received], gbcs_data: Path
) -> None:
    async with fresh({one.party for one in encrypted}) as walk:
        done = await walk.apply([ask(gbcs_data, one, ENCRYPTED) for one in encrypted])
        attributes = 0
        for one, answer in zip(encrypted, done, strict=True):
            assert isinstance(answer, Signed), (one.name, answer.error)
            assert (answer.checked.signature, answer.checked.artefact) == (b"", b"")
            plain = answer.checked.plaintexts
            attributes += len(plain)
            _, everything = await entry_of(walk, answer)
            shown = repr(answer)
            for text in (each for each in plain if len(each) > 5):
                assert text not in everything
                assert text.hex().encode() not in everything
                assert repr(text)[2:-1] not in shown
        again = await walk.apply(
            [ask(gbcs_data, encrypted[0], ENCRYPTED, "inside", payload=encrypted[0].inner)]
        )
        entry, _ = await entry_of(walk, done[0])
    assert attributes == sum(one.inner.count(bytes.fromhex("3100000000")) for one in encrypted) > 14
    assert isinstance(again[0], Signed)
    assert again[0].checked.plaintexts == done[0].checked.plaintexts
    assert (entry["operation"], entry["content_kind"]) == ("decrypt", "encrypted-attributes")


def flipped(octets: bytes, at: int) -> bytes:
    return octets[:at] + bytes((octets[at] ^ 1,)) + octets[at + 1 :]


async def test_what_does_not_verify_says_no_more_and_is_recorded(
    fresh: Fresh, answers: list[Received], gbcs_data: Path
) -> None:
    one = next(each for each in answers if "_RESPONSE_" in each.name)
    whole = one.whole
    in_counter, in_payload = whole.index(one.inner) + 9, len(whole) - 20
    async with fresh({one.party}) as walk:
        for at in (-1 + len(whole), len(whole) - 12, in_counter, in_payload):
            (answer,) = await walk.apply(
                [ask(gbcs_data, one, ANSWER, f"flip {at}", payload=flipped(whole, at))]
            )
            assert isinstance(answer, NotSigned)
            if isinstance(answer.error, Malformed):  # the flip was in a length or tag of the frame
                assert at == in_payload
                continue
            assert isinstance(answer.error, Forbidden)
            assert (str(answer.error), answer.error.rule) == ("not verified", "gbcs/mac-not-verified")
            entry, _ = await entry_of(walk, answer)
            assert (entry["kind"], entry["rule"]) == ("use", "gbcs/mac-not-verified")
            assert entry["outcome"] == answer.error.reason.value.lower()
        # the claim is closed and the message itself still verifies
        (good,) = await walk.apply([ask(gbcs_data, one, ANSWER, "good")])
        assert isinstance(good, Signed)


async def test_a_flipped_attribute_gives_nothing_of_the_response(
    fresh: Fresh, encrypted: list[Received], gbcs_data: Path
) -> None:
    one = encrypted[0]
    at = one.inner.index(b"\x31\x00\x00\x00\x00") + 6
    async with fresh({one.party}) as walk:
        refused = await walk.refusal(ask(gbcs_data, one, ENCRYPTED, "flip", payload=flipped(one.inner, at)))
        assert (str(refused), refused.rule) == ("not verified", "gbcs/mac-not-verified")


async def test_whose_message_and_whose_certificate_it_is(
    fresh: Fresh, answers: list[Received], gbcs_data: Path
) -> None:
    one = next(each for each in answers if "_RESPONSE_" in each.name)
    other = next(each for each in answers if each.party != one.party)
    stranger = next(each for each in answers if each.device != one.device)
    cases: dict[str, tuple[dict[str, object], type[Refusal], str]] = {
        "no certificate": ({"device_certificate": b""}, Malformed, "gbcs/no-device-certificate"),
        "not one": ({"device_certificate": b"0\x03\x02\x01\x05"}, Malformed, ""),
        "another device": (
            {"device_certificate": certificate(gbcs_data, stranger.device)},
            Forbidden,
            "gbcs/other-device",
        ),
        "the party's": (
            {"device_certificate": certificate(gbcs_data, one.party)},
            Forbidden,
            "gbcs/other-device",
        ),
        "key of another": ({"key_id": key_of(other.party)}, Forbidden, "gbcs/other-party"),
        "short tag": ({"payload": one.whole[:-1]}, Malformed, "gbcs/mac-length"),
        "long tag": ({"payload": one.whole + b"\x00"}, Malformed, "gbcs/mac-length"),
        "no mac": ({"payload": one.inner}, Malformed, "gbcs/no-mac"),
        "variant": (
            {"statement": Statement(service_reference_variant="4.8.1")},
            Malformed,
            "gbcs/service-reference-variant",
        ),
        "user": (
            {"statement": Statement(user_id=other.party.hex("-").upper())},
            Forbidden,
            "caller/user-id",
        ),
    }
    async with fresh({one.party, other.party}) as walk:
        for name, (changes, kind, rule) in cases.items():
            refused = await walk.refusal(ask(gbcs_data, one, ANSWER, name, **changes))
            assert isinstance(refused, kind), name
            assert refused.rule == (rule or refused.rule), name
        assert not walk.hsm.signed
        # the system title inside is another device's: its certificate is wanted, and then the MAC is not its
        swapped = one.whole.replace(one.device, stranger.device)
        refused = await walk.refusal(ask(gbcs_data, one, ANSWER, "swapped", payload=swapped))
        assert refused.rule == "gbcs/other-device"
        refused = await walk.refusal(
            ask(
                gbcs_data,
                one,
                ANSWER,
                "swapped both",
                payload=swapped,
                device_certificate=certificate(gbcs_data, stranger.device),
            )
        )
        assert refused.rule == "gbcs/mac-not-verified"


async def test_a_device_certificate_that_is_not_in_force_verifies_nothing(
    fresh: Fresh, answers: list[Received], gbcs_data: Path
) -> None:
    early = int(datetime(2001, 1, 1, tzinfo=UTC).timestamp()) * 1_000_000_000
    async with fresh({answers[0].party}, at=early) as walk:
        refused = await walk.refusal(ask(gbcs_data, answers[0], ANSWER))
        assert isinstance(refused, WrongState)
        assert refused.rule == "gbcs/not-in-force"


@pytest.mark.parametrize("state", [KeyState.SUSPENDED, KeyState.DEACTIVATED, KeyState.COMPROMISED])
async def test_what_was_protected_before_is_read_after_unless_the_key_is_compromised(
    fresh: Fresh, answers: list[Received], gbcs_data: Path, state: KeyState
) -> None:
    async with fresh({answers[0].party}, state=state) as walk:
        (answer,) = await walk.apply([ask(gbcs_data, answers[0], ANSWER)])
        assert isinstance(answer, Signed) is (state is not KeyState.COMPROMISED)


async def test_who_has_no_grant_learns_nothing(
    fresh: Fresh, encrypted: list[Received], gbcs_data: Path
) -> None:
    one = encrypted[0]
    async with fresh({one.party}) as walk:
        walk.caller = replace(walk.caller, version=2, grants=walk.caller.grants[:1])  # verify alone
        await walk.stand.keys.change([walk.caller])
        refused = await walk.refusal(ask(gbcs_data, one, ENCRYPTED))
        assert (refused.rule, walk.hsm.signed) == ("key/not-granted", [])


def top_ups(folder: Path) -> list[tuple[top_up.Token, str]]:
    found: list[tuple[top_up.Token, str]] = []
    for path in sorted((folder / "rtds").rglob("*_COMMAND_*.HEX")):
        whole = bytes.fromhex(path.read_text())
        if whole[0] != 0xDD:
            continue
        apdu = mac.read_back(whole, 65_535).apdu
        digits = re.search(rb"[0-9]{20}", apdu.payload)
        if apdu.code in (0x0007, 0x0097) and digits is not None:
            token = top_up.Token(apdu.originator, apdu.target, apdu.counter, top_up.ValueClass.POUNDS, 10)
            found.append((token, digits[0].decode()))
    return found


async def test_every_top_up_comes_out_as_its_supplier_sent_it_and_a_counter_has_one_value(
    fresh: Fresh, gbcs_data: Path
) -> None:
    tokens = top_ups(gbcs_data)
    assert len({digits for _, digits in tokens}) >= 2
    model = Received("", b"", b"", SUPPLIER, tokens[0][0].target)
    stated = Statement(service_reference_variant="2.2", user_role="IS")

    async with fresh({token.originator for token, _ in tokens}, kind="pp-ka") as walk:
        for number, (token, digits) in enumerate(tokens):
            asked = ask(
                gbcs_data,
                model,
                ContentForm.TOP_UP,
                f"top-up {number}",
                payload=token.additional,
                key_id=key_of(token.originator, "pp-ka"),
                device_certificate=certificate(gbcs_data, token.target),
                statement=stated,
            )
            (answer,) = await walk.apply([asked])
            assert isinstance(answer, Signed), answer.error
            assert answer.checked.artefact == digits.encode()
            assert len(answer.checked.signature) == 4
        entry, _ = await entry_of(walk, answer)
        assert (entry["clause"], entry["facts"]["value"]) == ("G3.22", "10")
        dearer = replace(token, value=11).additional
        refused = await walk.refusal(replace(asked, payload=dearer, request_id=RequestId("dearer")))
        assert isinstance(refused, Conflict)
        assert refused.rule == "once/gbcs-mac"
        for name, changes, rule in (
            ("no variant", {"statement": Statement(user_role="IS")}, "gbcs/service-reference-variant"),
            ("no role", {"statement": Statement(service_reference_variant="2.2")}, "policy/refused"),
            ("other form", {"payload": token.additional[:-1]}, "utrn/form"),
            ("other counter", {"payload": flipped(token.additional, 31)}, "utrn/form"),
            ("a low counter", {"payload": flipped(token.additional, 30)}, "utrn/counter"),
            ("from another", {"payload": flipped(token.additional, 7)}, "gbcs/other-party"),
            ("to another", {"payload": flipped(token.additional, 15)}, "gbcs/other-device"),
            ("no response", {"payload": flipped(token.additional, 22)}, "utrn/form"),
        ):
            refused = await walk.refusal(replace(asked, request_id=RequestId(name), **changes))
            assert refused.rule == rule, name


async def test_a_token_is_of_an_active_key(fresh: Fresh, gbcs_data: Path) -> None:
    token, _ = top_ups(gbcs_data)[0]
    async with fresh({token.originator}, kind="pp-ka", state=KeyState.DEACTIVATED) as walk:
        model = Received("", b"", b"", token.originator, token.target)
        asked = ask(
            gbcs_data,
            model,
            ContentForm.TOP_UP,
            "late",
            payload=token.additional,
            key_id=key_of(token.originator, "pp-ka"),
            statement=Statement(service_reference_variant="2.2", user_role="IS"),
        )
        assert isinstance(await walk.refusal(asked), WrongState)
