"""The Hsm port: the same suite on the fake, and on SoftHSM2 and NSS softokn with sessions in the worker and apart."""

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from cryptosvc.adapters.clock import SystemClock
from cryptosvc.adapters.hsm.hsm import Pkcs11Hsm
from cryptosvc.adapters.hsm.provision import Provisioner
from cryptosvc.adapters.hsm.sessions_apart import MANY_SESSIONS
from cryptosvc.core.check import verify_p256
from cryptosvc.core.errors import Corrupt, Unavailable
from cryptosvc.core.keyclass import ceiling
from cryptosvc.core.names import ModuleName
from cryptosvc.core.record import Failed, Produced
from cryptosvc.core.registry import KeyRecord
from tests.claims import claim_to_sign, key_record
from tests.fakes.hsm import FakeHsm
from tests.hsm_fixtures import make_nss, make_softhsm, plant_pair

MODULE = ModuleName("module")


@dataclass
class Subject:
    """An implementation, and keys that are on its module.

    Someone made another key under the label and id of `doubled`. Tokens keep both; NSS files keys by their id, so there
    the newer one replaces the older. Neither may be signed with.
    """

    hsm: FakeHsm | Pkcs11Hsm
    first: KeyRecord
    second: KeyRecord
    doubled: KeyRecord
    log_key: KeyRecord
    doubled_rule: str = "hsm/object-ambiguous"


def fake() -> Iterator[Subject]:
    hsm = FakeHsm()
    points = [
        hsm.generate(label, bytes([number])) for number, label in enumerate(("first", "second", "doubled"))
    ]
    hsm.generate("doubled", b"\x02")
    hsm.generate_secret("log", b"\x03")
    yield _subject(hsm, points)


def on_token(make: Callable, folder, monkeypatch, sessions: int = 2) -> Iterator[Subject]:
    token = make(folder, sessions=sessions)
    monkeypatch.setenv("SOFTHSM2_CONF", token.conf)
    signing = ceiling("audit-signing").template
    with Provisioner(token.config, token.locks) as provisioner:
        points = [
            provisioner.generate(label, bytes([number]), signing)
            for number, label in enumerate(("first", "second", "doubled"))
        ]
        provisioner.generate("log", b"\x03", ceiling("log-authentication").template)
    plant_pair(token, "doubled", b"\x02")
    hsm = Pkcs11Hsm([token.config], SystemClock(), token.locks)
    hsm.start()
    try:
        yield _subject(hsm, points)
    finally:
        hsm.close()


def _subject(hsm: FakeHsm | Pkcs11Hsm, points: list[bytes]) -> Subject:
    first, second, doubled = (
        key_record(label=label, object_id=bytes([number]), public_point=point)
        for number, (label, point) in enumerate(zip(("first", "second", "doubled"), points, strict=True))
    )
    return Subject(hsm, first, second, doubled, key_record(label="log", object_id=b"\x03"))


@pytest.fixture(scope="module", params=["fake", "softhsm", "softhsm apart", "nss", "nss apart"])
def subject(request, tmp_path_factory):
    with pytest.MonkeyPatch.context() as monkeypatch:
        match request.param:
            case "fake":
                yield from fake()
            case "softhsm" | "softhsm apart":
                sessions = MANY_SESSIONS if "apart" in request.param else 2
                yield from on_token(make_softhsm, tmp_path_factory.mktemp("softhsm"), monkeypatch, sessions)
            case "nss" | "nss apart":
                sessions = MANY_SESSIONS if "apart" in request.param else 2
                for made in on_token(make_nss, tmp_path_factory.mktemp("nss"), monkeypatch, sessions):
                    made.doubled_rule = "hsm/public-point"
                    yield made


def test_facts_name_the_configured_module(subject):
    facts = subject.hsm.facts(MODULE)
    assert (facts.name, facts.country, facts.worker_country, facts.level) == (MODULE, "GB", "GB", 0)


def test_facts_of_a_module_that_is_not_configured_are_unavailable(subject):
    with pytest.raises(Unavailable) as caught:
        subject.hsm.facts(ModuleName("other"))
    assert caught.value.rule == "hsm/not-configured"


@pytest.mark.parametrize("size", [1, 2, 64])
async def test_signatures_come_in_order_and_verify(subject, size):
    keys = (subject.first, subject.second)
    claims = [claim_to_sign(keys[number % 2], b"payload %d" % number) for number in range(size)]
    answers = await subject.hsm.sign(claims)
    assert [answer.claim for answer in answers] == claims
    for number, answer in enumerate(answers):
        assert isinstance(answer, Produced)
        verify_p256(keys[number % 2].public_point, answer.signature, b"payload %d" % number)


async def test_concurrent_calls_get_their_own_answers(subject):
    batches = [
        [claim_to_sign(subject.first, b"%d/%d" % (call, n)) for n in range(call + 1)] for call in range(12)
    ]
    answered = await asyncio.gather(*map(subject.hsm.sign, batches))
    for batch, answers in zip(batches, answered, strict=True):
        for claim, answer in zip(batch, answers, strict=True):
            assert answer.claim is claim
            verify_p256(
                subject.first.public_point, answer.signature, claim.authorised.case.content.signed_bytes
            )


async def test_no_claims_no_answers(subject):
    assert list(await subject.hsm.sign([])) == []


async def test_items_fail_one_by_one(subject):
    elsewhere = key_record(label="first", public_point=subject.first.public_point, module="other")
    missing = key_record(label="no-such-key", object_id=b"\x77", public_point=subject.first.public_point)
    # A record that names another key's public point: the object was replaced, or the record was.
    replaced = key_record(
        label="first", object_id=b"\x00", public_point=subject.second.public_point, key_id="r"
    )
    keys = [subject.first, elsewhere, missing, subject.doubled, replaced, subject.first]
    answers = await subject.hsm.sign([claim_to_sign(key, b"x") for key in keys])
    assert isinstance(answers[0], Produced)
    assert isinstance(answers[5], Produced)
    failures = [(type(a.error), a.error.rule) for a in answers if isinstance(a, Failed)]
    assert failures == [
        (Unavailable, "hsm/not-configured"),
        (Unavailable, "hsm/object-missing"),
        (Corrupt, subject.doubled_rule),
        (Corrupt, "hsm/public-point"),
    ]


async def test_one_octet_of_label_or_id_makes_another_key(subject):
    for key in (
        key_record(label="firs", object_id=b"\x00", public_point=subject.first.public_point),
        key_record(label="first\0", object_id=b"\x00", public_point=subject.first.public_point),
        key_record(label="first", object_id=b"\x00\x00", public_point=subject.first.public_point),
        key_record(label="first", object_id=b"", public_point=subject.first.public_point),
    ):
        (answer,) = await subject.hsm.sign([claim_to_sign(key, b"x")])
        assert isinstance(answer, Failed)
        assert answer.error.rule == "hsm/object-missing"


def test_head_mac_is_hmac_sha256_of_one_key(subject):
    authenticator = subject.hsm.head_mac(subject.log_key)
    macs = {authenticator.mac(octets) for octets in (b"", b"a", b"b", b"x" * 5000)}
    assert {len(mac) for mac in macs} == {32}
    assert len(macs) == 4
    assert authenticator.mac(b"a") in macs
    authenticator.verify(b"a", authenticator.mac(b"a"))


def test_head_mac_refuses_another_head(subject):
    authenticator = subject.hsm.head_mac(subject.log_key)
    mac = authenticator.mac(b"head")
    for octets, claimed in ((b"heae", mac), (b"head", mac[:-1]), (b"head", b""), (b"head", bytes(32))):
        with pytest.raises(Corrupt) as caught:
            authenticator.verify(octets, claimed)
        assert caught.value.rule == "log/head-mac"


def test_head_mac_wants_a_symmetric_key_that_is_there(subject):
    with pytest.raises(Corrupt):
        subject.hsm.head_mac(subject.first)
    missing = subject.hsm.head_mac(key_record(label="no-such-key", object_id=b"\x55"))
    with pytest.raises(Unavailable) as caught:
        missing.mac(b"x")
    assert caught.value.rule == "hsm/object-missing"
