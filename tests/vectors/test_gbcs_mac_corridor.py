"""Real Commands through the corridor: real policies, a real store, and the published keys of the test parties.

Each Command of the test data that carries a MAC comes back from what is inside it, identical to its last octet; those that
share originator, target and counter get one MAC in each ledger; and everything that is not as it has to be gets none.
"""

from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import orjson
import pytest

from cryptosvc.adapters.policy import CedarPolicy
from cryptosvc.core.content.base import Statement
from cryptosvc.core.content.gbcs.parties import Parties
from cryptosvc.core.content.x509.identity import read_certificate
from cryptosvc.core.errors import Conflict, Forbidden, Malformed, WrongState
from cryptosvc.core.names import RemotePartyRole, RequestId
from cryptosvc.core.registry import Grant, KeyState
from cryptosvc.flow.sign import NotSigned, Signed
from tests.mac_corridor import (
    BROKER_OCTETS,
    IN_FORCE,
    Asked,
    Walk,
    asked_of,
    broker_record,
    parties_of,
    policy_set,
)
from tests.mac_keys import certificate, private
from tests.store_stand import SetClock, new_database, open_stand


@pytest.fixture(scope="module")
def asked(gbcs_data: Path) -> list[Asked]:
    return asked_of(gbcs_data)


@pytest.fixture(scope="module")
def parties(gbcs_data: Path) -> Parties:
    return parties_of(gbcs_data)


@pytest.fixture(scope="module")
def policy() -> CedarPolicy:
    return policy_set()


Fresh = Callable[..., AsyncIterator[Walk]]


@pytest.fixture
def fresh(gbcs_data: Path, tmp_path: Path, policy: CedarPolicy, parties: Parties) -> Fresh:
    @asynccontextmanager
    async def walk(name: str = "it", at: int = IN_FORCE, **changes: object) -> AsyncIterator[Walk]:
        folder = tmp_path / name
        folder.mkdir()
        stand = await open_stand(
            new_database(f"sqlite:///{folder}/store.db"), folder, first=True, clock=SetClock(at)
        )
        try:
            key = private(gbcs_data, BROKER_OCTETS)
            record = broker_record(gbcs_data)
            found = Walk(stand, policy, key, parties)
            await stand.keys.change([replace(record, **changes), found.caller])
            yield found
        finally:
            await stand.ledger.close()

    return walk


async def test_every_command_comes_back_identical_and_is_recorded(fresh: Fresh, asked: list[Asked]) -> None:
    by_tuple: dict[str, list[Asked]] = defaultdict(list)
    for one in asked:
        by_tuple[one.command.promise.value].append(one)
    assert sum(map(len, by_tuple.values())) > 150
    for turn in range(max(map(len, by_tuple.values()))):
        nth = [found[turn] for found in by_tuple.values() if turn < len(found)]
        async with fresh(f"turn-{turn}") as walk:
            answers = await walk.apply([one.request for one in nth])
            for one, answer in zip(nth, answers, strict=True):
                assert isinstance(answer, Signed), (one, answer.error)
                assert answer.checked.artefact == one.whole, one
                assert answer.checked.signature == one.whole[-12:]
            stored = await walk.stand.ledger.entry(answers[0].receipt.leaf_index)
            assert stored is not None
            entry = orjson.loads(stored.entry)
            assert (entry["operation"], entry["content_kind"]) == ("mac", "gbcs-command")
            assert (entry["derivation"], entry["clause"]) == ("service", "G2.44(b)")
            assert entry["policies"] == ["key-agreement-authenticates-command"]
            assert entry["facts"]["device_chain"] == "not-checked"


async def test_a_second_message_under_a_tuple_gets_no_mac_and_the_same_one_the_same(
    fresh: Fresh, asked: list[Asked]
) -> None:
    by_tuple: dict[str, dict[bytes, Asked]] = defaultdict(dict)
    for one in asked:
        by_tuple[one.command.promise.value][one.command.promise.digest] = one
    shared = [list(found.values()) for found in by_tuple.values() if len(found) > 1]
    assert len(shared) > 5
    async with fresh() as walk:
        for first, *others in shared:
            (done,) = await walk.apply([first.request])
            assert isinstance(done, Signed)
            for other in others:
                refused = await walk.refusal(other.request)
                assert isinstance(refused, Conflict)
                assert (refused.rule, refused.clause) == ("once/gbcs-mac", "G2.44(b)")
            again = replace(first.request, request_id=RequestId(f"{first.request.request_id[:50]} again"))
            (same,) = await walk.apply([again])
            assert isinstance(same, Signed)
            assert same.checked.artefact == first.whole


def critical(asked: list[Asked]) -> Asked:
    return next(one for one in asked if one.command.pre_command.code.text == "0081")


def other(asked: list[Asked]) -> Asked:
    return next(one for one in asked if not one.command.signature)


async def test_a_signature_of_somebody_else_or_over_other_bytes_gets_no_mac(
    fresh: Fresh, asked: list[Asked]
) -> None:
    one = critical(asked)
    octets = one.request.payload
    async with fresh() as walk:
        for name, changed in {
            "signature": octets[:-1] + bytes((octets[-1] ^ 1,)),
            "nobody": octets[:12] + bytes(8) + octets[20:],
            "other counter": octets[:3] + b"\x01" + octets[4:],
        }.items():
            refused = await walk.refusal(replace(one.request, payload=changed, request_id=RequestId(name)))
            assert isinstance(refused, Forbidden), name
            assert (refused.rule, refused.clause) == ("gbcs/inner-signature", "G2.44(b)")
        assert not walk.hsm.signed


async def test_the_device_certificate_is_the_targets_for_key_agreement(
    fresh: Fresh, asked: list[Asked], gbcs_data: Path
) -> None:
    one = critical(asked)
    target = one.command.agreement.recipient
    device = one.request.device_certificate
    cases = {
        "none": (b"", "gbcs/no-device-certificate"),
        "another": (certificate(gbcs_data, bytes.fromhex("00db123456789001")), "gbcs/other-device"),
        "signing": (certificate(gbcs_data, target, "ds"), "gbcs/device-usage"),
        "organisation": (certificate(gbcs_data, BROKER_OCTETS), "gbcs/other-device"),
    }
    async with fresh() as walk:
        for name, (encoded, rule) in cases.items():
            request = replace(one.request, device_certificate=encoded, request_id=RequestId(name))
            refused = await walk.refusal(request)
            assert (refused.rule, refused.field) == (rule, "device_certificate"), name
        request = replace(one.request, device_certificate=device[:-1])
        assert isinstance(await walk.refusal(request), Malformed)


async def test_out_of_force_nothing_gets_a_mac(fresh: Fresh, asked: list[Asked], gbcs_data: Path) -> None:
    one = critical(asked)
    day = 86_400_000_000_000
    own = read_certificate(certificate(gbcs_data, BROKER_OCTETS))
    supplier = read_certificate(certificate(gbcs_data, one.command.agreement.initiator, "ds"))
    device = read_certificate(one.request.device_certificate)
    for name, at, certified, rule in (
        ("own", own.not_after + day, True, "key-certificate/expired"),
        ("own early", own.not_before - day, True, "key-certificate/not-yet-valid"),
        ("originator", supplier.not_after + day, False, "gbcs/not-in-force"),
        ("device", device.not_before - day, False, "gbcs/not-in-force"),
    ):
        async with fresh(name, at, **({} if certified else {"certificate": b""})) as walk:
            refused = await walk.refusal(one.request)
            assert isinstance(refused, WrongState), name
            assert refused.rule == rule, name


async def test_the_brokers_certificate_is_for_key_agreement_and_its_own(
    fresh: Fresh, asked: list[Asked], gbcs_data: Path
) -> None:
    signing = certificate(gbcs_data, BROKER_OCTETS, "ds")
    async with fresh("ds", certificate=signing) as walk:
        assert (await walk.refusal(critical(asked).request)).rule == "key-certificate/other-key"
    async with fresh(
        "point", certificate=signing, public_point=read_certificate(signing).public_point
    ) as walk:
        assert (await walk.refusal(critical(asked).request)).rule == "key-certificate/key-usage"


async def test_a_null_signed_critical_code_and_a_signed_other_code_are_refused(
    fresh: Fresh, asked: list[Asked]
) -> None:
    signed, unsigned = critical(asked), other(asked)
    async with fresh() as walk:
        bare = replace(signed.request, payload=signed.request.payload[:-65] + b"\x00")
        assert (await walk.refusal(bare)).rule == "gbcs/signature-missing"
        forged = replace(unsigned.request, payload=unsigned.request.payload[:-1] + b"\x40" + bytes(64))
        assert (await walk.refusal(forged)).rule == "gbcs/not-critical"
        finished = replace(signed.request, payload=signed.whole, request_id=RequestId("f"))
        assert (await walk.refusal(finished)).rule == "gbcs/mac-wrapped"


async def test_only_the_brokers_active_key_makes_macs_and_only_for_who_is_granted(
    fresh: Fresh, asked: list[Asked]
) -> None:
    request = critical(asked).request
    async with fresh("suspended", state=KeyState.SUSPENDED) as walk:
        assert isinstance(await walk.refusal(request), WrongState)
    async with fresh("supplier", role=RemotePartyRole.SUPPLIER) as walk:
        assert (await walk.refusal(request)).rule == "gbcs/not-the-broker"
    async with fresh("signing", key_class="command-signing") as walk:
        assert (await walk.refusal(request)).rule == "key/not-granted"
    async with fresh("sign-only") as walk:
        walk.caller = replace(walk.caller, grants=(Grant(operation="sign", key_class="key-agreement"),))
        assert (await walk.refusal(request)).rule == "key/not-granted"


async def test_what_is_said_beside_the_command_is_about_it(fresh: Fresh, asked: list[Asked]) -> None:
    request = critical(asked).request
    said = {
        "gbcs/service-reference-variant": Statement(service_reference_variant="1.1.1"),
        "caller/user-id": Statement(service_reference_variant="7.2", user_id="00-00-00-00-00-00-00-00"),
        "caller/user-role": Statement(service_reference_variant="7.2", user_role="IS"),
    }
    async with fresh() as walk:
        for rule, statement in said.items():
            asked_for = replace(request, statement=statement, request_id=RequestId(rule))
            assert (await walk.refusal(asked_for)).rule == rule


async def test_what_is_no_mac_is_not_released(fresh: Fresh, asked: list[Asked]) -> None:
    async with fresh() as walk:
        walk.hsm.spoil = lambda made, _: made[:-1]
        (answer,) = await walk.apply([critical(asked).request])
        assert isinstance(answer, NotSigned)
        assert answer.error.rule == "check/mac"
