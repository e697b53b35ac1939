"""Keys agreed in a module: the same suite on SoftHSM2, NSS softokn (service derives) and kryoptic (module derives).

What a module makes is held against pyca, which knows both parties' keys: the published ones, imported nowhere, play the
Device; the module's own key plays the Access Control Broker.
"""

import asyncio
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from cryptosvc.adapters.clock import SystemClock
from cryptosvc.adapters.hsm import agreeing
from cryptosvc.adapters.hsm.agreeing import Derivation
from cryptosvc.adapters.hsm.agreement_work import Done, Job
from cryptosvc.adapters.hsm.constants import Cka, Cko
from cryptosvc.adapters.hsm.cryptoki import number
from cryptosvc.adapters.hsm.hsm import Pkcs11Hsm
from cryptosvc.adapters.hsm.provision import Provisioner
from cryptosvc.core.content.gbcs import agreement
from cryptosvc.core.content.gbcs.agreement import Agreement, Purpose
from cryptosvc.core.errors import Corrupt, Forbidden, Unavailable
from cryptosvc.core.keyclass import Algorithm, Template, Usage
from cryptosvc.core.names import Environment, UnixNanoseconds
from cryptosvc.core.registry import KeyRecord
from tests.claims import key_record
from tests.hsm_fixtures import TestToken, make_nss, make_softhsm
from tests.kryoptic import make_kryoptic
from tests.mac_keys import derived, shared_secret, tag

DERIVES = Template(Algorithm.EC_P256, frozenset({Usage.DERIVE}), transferable=False)
SIGNS = Template(Algorithm.EC_P256, frozenset({Usage.SIGN}), transferable=False)
MAKERS = {"softhsm": make_softhsm, "nss": make_nss, "kryoptic": make_kryoptic}
DEVICE = ec.derive_private_key(0xD5, ec.SECP256R1())
OTHER_DEVICE = ec.derive_private_key(0xD6, ec.SECP256R1())

pytestmark = pytest.mark.xdist_group("agreement")


@dataclass
class Subject:
    hsm: Pkcs11Hsm
    token: TestToken
    ours: KeyRecord
    signer: KeyRecord
    derivation: Derivation


def point(key: ec.EllipticCurvePrivateKey) -> bytes:
    form = serialization.PublicFormat.UncompressedPoint
    return key.public_key().public_bytes(serialization.Encoding.X962, form)


@pytest.fixture(scope="module", params=list(MAKERS))
def subject(request, tmp_path_factory) -> Iterator[Subject]:
    folder = tmp_path_factory.mktemp(request.param)
    token = MAKERS[request.param](folder)
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setenv("SOFTHSM2_CONF", token.conf)
        with Provisioner(token.config, token.locks) as provisioner:
            ours = provisioner.generate("ours", b"\x01", DERIVES)
            signer = provisioner.generate("signer", b"\x02", SIGNS)
        hsm = Pkcs11Hsm([token.config], SystemClock(), token.locks)
        hsm.start()
        try:
            yield Subject(
                hsm,
                token,
                key_record(label="ours", object_id=b"\x01", public_point=ours, key_id="ours"),
                key_record(label="signer", object_id=b"\x02", public_point=signer, key_id="signer"),
                Derivation.MODULE if request.param == "kryoptic" else Derivation.SERVICE,
            )
        finally:
            hsm.close()


def job(
    key: KeyRecord, number: int = 1000, additional: bytes = b"\x11" + bytes(60), **changes: object
) -> Job:
    of = Agreement(
        b"\x90\xb3\xd5\x1f\x30\x00\x00\x02", Purpose.COMMAND, number, b"\x00\xdb\x12\x34\x56\x78\x90\xa0"
    )
    deadline = UnixNanoseconds(time.time_ns() + 20_000_000_000)
    made = Job(key=key, peer=point(DEVICE), agreement=of, additional=additional, deadline=deadline)
    return replace(made, **changes)


def expected(asked: Job, device: ec.EllipticCurvePrivateKey = DEVICE) -> bytes:
    secret = shared_secret(device, asked.key.public_point)
    return tag(derived(secret, asked.agreement), asked.agreement, asked.additional)


@pytest.mark.parametrize("size", [1, 2, 64])
async def test_macs_come_in_order_and_are_what_other_software_makes(subject: Subject, size: int) -> None:
    jobs = [job(subject.ours, number, b"\x11" + bytes(number * 7)) for number in range(size)]
    answers = await subject.hsm.agree(jobs)
    assert answers == [Done(expected(one), subject.derivation) for one in jobs]


async def test_concurrent_calls_get_their_own_answers(subject: Subject) -> None:
    batches = [[job(subject.ours, 100 * call + n) for n in range(call + 1)] for call in range(8)]
    for batch, answers in zip(batches, await asyncio.gather(*map(subject.hsm.agree, batches)), strict=True):
        assert [answer.octets for answer in answers] == [expected(one) for one in batch]


async def test_every_part_of_the_agreement_and_each_peer_makes_another_key(subject: Subject) -> None:
    first = job(subject.ours)
    of = first.agreement
    others = [
        replace(first, agreement=replace(of, number=of.number + 1)),
        replace(first, agreement=replace(of, purpose=Purpose.RESPONSE)),
        replace(first, agreement=replace(of, recipient=bytes(8))),
        replace(first, agreement=replace(of, initiator=bytes(8))),
        replace(first, peer=point(OTHER_DEVICE)),
    ]
    answers = await subject.hsm.agree([first, *others])
    assert len({answer.octets for answer in answers}) == len(answers)
    assert answers[-1].octets == expected(others[-1], OTHER_DEVICE)


async def test_an_attribute_decrypts_and_a_wrong_tag_is_only_not_verified(subject: Subject) -> None:
    asked = job(subject.ours, additional=b"\x31")
    key = derived(shared_secret(DEVICE, subject.ours.public_point), asked.agreement)
    encryptor = Cipher(
        algorithms.AES128(key), modes.GCM(asked.agreement.vector, min_tag_length=12)
    ).encryptor()
    encryptor.authenticate_additional_data(b"\x31")
    ciphertext = encryptor.update(b"the register") + encryptor.finalize()
    sealed = replace(asked, ciphertext=ciphertext, tag=encryptor.tag[: agreement.TAG_OCTETS])
    wrong = replace(sealed, tag=bytes(agreement.TAG_OCTETS))
    right, refused, after = await subject.hsm.agree([sealed, wrong, sealed])
    assert right == after == Done(b"the register", subject.derivation)
    assert isinstance(refused, Forbidden)
    assert (str(refused), refused.rule) == ("not verified", "gbcs/mac-not-verified")


async def test_items_fail_one_by_one(subject: Subject) -> None:
    missing = key_record(
        label="none", object_id=b"\x77", public_point=subject.ours.public_point, key_id="none"
    )
    asked = [
        job(subject.ours),
        job(missing),
        job(subject.ours, deadline=UnixNanoseconds(1)),
        job(subject.ours),
    ]
    answers = await subject.hsm.agree(asked)
    assert [answers[0].octets, answers[3].octets] == [expected(asked[0]), expected(asked[3])]
    assert [answer.rule for answer in answers[1:3]] == ["hsm/object-missing", "hsm/deadline"]


async def test_a_key_that_may_not_derive_derives_nothing(subject: Subject) -> None:
    (answer,) = await subject.hsm.agree([job(subject.signer)])
    assert isinstance(answer, Corrupt)
    assert answer.rule == "hsm/not-for-derivation"
    (answer,) = await subject.hsm.agree([job(subject.ours)])
    assert isinstance(answer, Done)


async def test_nothing_is_left_on_the_token(subject: Subject) -> None:
    await subject.hsm.agree([job(subject.ours, number) for number in range(10)])
    pool = subject.hsm._pools[subject.token.config.name]
    opened = pool.require_open()
    secrets = [(Cka.CLASS, number(Cko.SECRET_KEY))]
    assert pool.library.functions.find(opened.login_session, secrets, 10) == []


async def test_in_live_no_shared_secret_leaves_its_module(subject: Subject) -> None:
    live = replace(subject.token.config, environment=Environment.LIVE)
    hsm = Pkcs11Hsm([live], SystemClock(), subject.token.locks)
    hsm.start()
    try:
        answers = await hsm.agree([job(subject.ours), job(subject.ours, 1001)])
    finally:
        hsm.close()
    if subject.derivation is Derivation.MODULE:
        assert [answer.octets for answer in answers] == [
            expected(job(subject.ours)),
            expected(job(subject.ours, 1001)),
        ]
    else:
        assert [(type(answer), answer.rule, answer.clause) for answer in answers] == [
            (Unavailable, "hsm/no-kdf", "G2.44(b)")
        ] * 2


def test_what_passed_through_the_process_is_overwritten() -> None:
    secret = bytearray(range(32))
    agreeing.wipe(secret)
    assert secret == bytes(32)
