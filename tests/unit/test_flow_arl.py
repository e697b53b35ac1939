"""An Organisation ARL lists OCA Certificates only: those of the configuration, and those of the keys registered now."""

from dataclasses import replace
from datetime import timedelta

import pytest
from cryptography import x509

from cryptosvc.core.case import Case, Request
from cryptosvc.core.content import forms
from cryptosvc.core.content.x509.identity import known_oca, registered_oca
from cryptosvc.core.names import ContentForm, KeyId, Operation, RequestId, SystemName
from cryptosvc.core.registry import Grant, KeyRecord, KeyState
from cryptosvc.flow.ports import KeyView
from cryptosvc.flow.sign import NotSigned, Signed
from tests.certificates import AT, crl_tbs, issuing_authority, key_record, nanoseconds, root_authority
from tests.corridor import MODULE, PRIVATE, SYSTEM, Corridor, RegistryKeys, caller_record

ROOT = root_authority()
ISSUING = issuing_authority(ROOT)
OTHER_ROOT = root_authority("ZB")
ROOT_KEY = KeyId("root")
ISSUING_KEY = KeyId("issuing")
ROOT_GRANT = Grant(operation="sign", key_class="root-oca")


def root_record() -> KeyRecord:
    record = key_record("root-oca", ROOT.key.public_key(), ROOT.certificate, role=0)
    return replace(record, key_id=ROOT_KEY, module=MODULE, system=SYSTEM)


def issuing_record(certificate: bytes = ISSUING.certificate, state: KeyState = KeyState.ACTIVE) -> KeyRecord:
    record = key_record("issuing-oca", ISSUING.key.public_key(), certificate, role=7, state=state)
    return replace(record, key_id=ISSUING_KEY, module=MODULE, system=SystemName("another"))


def arl(request_id: str, number: int = 1, serial: int = 0x22) -> Request:
    """A list of one certificate of the root's; 0x22 is that of the Issuing OCA."""
    revoked = [(serial, AT - timedelta(hours=1), x509.ReasonFlags.ca_compromise)]
    return Request(
        request_id=RequestId(request_id),
        key_id=ROOT_KEY,
        form=ContentForm.TBS_CERT_LIST,
        payload=crl_tbs(ROOT.certificate, number=number, lasting=timedelta(days=30), revoked=revoked),
    )


@pytest.fixture
def corridor(monkeypatch: pytest.MonkeyPatch) -> Corridor:
    monkeypatch.setitem(PRIVATE, ROOT_KEY, ROOT.key)
    made = Corridor(caller=caller_record(ROOT_GRANT, Grant(operation="sign", key_class="issuing-oca")))
    made.clock.at = nanoseconds(AT)
    made.keys.records[ROOT_KEY] = root_record()
    return made


async def answer(corridor: Corridor, request: Request) -> Signed | NotSigned:
    (one,) = await corridor.signer.sign(corridor.principal, [request])
    return one


def register(keys: RegistryKeys, record: KeyRecord) -> None:
    keys.records[record.key_id] = record
    keys.generation += 1


async def test_the_certificate_of_a_key_registered_later_is_known_from_then_on(corridor: Corridor) -> None:
    before = await answer(corridor, arl("before"))
    assert isinstance(before, NotSigned)
    assert (before.error.rule, before.error.clause) == ("crl/unknown-oca", "G2.60(c)")
    assert "x509.known_oca" in before.error.message
    register(corridor.keys, issuing_record())
    assert isinstance(await answer(corridor, arl("after")), Signed)


@pytest.mark.parametrize("state", list(KeyState))
async def test_a_key_of_any_state_has_its_certificate_listed(corridor: Corridor, state: KeyState) -> None:
    register(corridor.keys, issuing_record(state=state))
    assert isinstance(await answer(corridor, arl("any")), Signed)


async def test_no_other_serial_number_and_no_other_issuer_is_known(corridor: Corridor) -> None:
    register(corridor.keys, issuing_record(issuing_authority(OTHER_ROOT).certificate))
    assert isinstance(await answer(corridor, arl("other-root")), NotSigned)
    register(corridor.keys, issuing_record())
    assert isinstance(await answer(corridor, arl("other-serial", serial=0x23)), NotSigned)


async def test_a_certificate_that_was_replaced_between_the_readings_is_judged_again(
    corridor: Corridor,
) -> None:
    register(corridor.keys, issuing_record())
    corridor.keys.class_moves.append(lambda keys: register(keys, issuing_record(b"")))
    refused = await answer(corridor, arl("moved"))
    assert isinstance(refused, NotSigned)
    assert refused.error.rule == "crl/unknown-oca"
    # and where the registry moved after the keys were read and before the certificates were
    corridor.keys.moves.append(lambda keys: register(keys, issuing_record()))
    generation = corridor.keys.generation
    assert isinstance(await answer(corridor, arl("moved-before")), Signed)
    assert [claim.authorised.case.generation for claim in corridor.ledger.claimed] == [generation + 1]


async def test_certificates_are_read_for_an_arl_and_for_nothing_else(corridor: Corridor) -> None:
    corridor.keys.records[ISSUING_KEY] = replace(issuing_record(), system=SYSTEM)
    crl = replace(arl("crl"), key_id=ISSUING_KEY, payload=crl_tbs(ISSUING.certificate))
    asked: list[frozenset[str]] = []
    read = corridor.keys.keys_of_classes

    async def counted(key_classes):
        asked.append(key_classes)
        return await read(key_classes)

    corridor.keys.keys_of_classes = counted  # type: ignore[method-assign]

    async def gathered(*requests: Request) -> list[frozenset]:
        items = [(one, forms.parse(one.form, one.payload, corridor.profiles)) for one in requests]
        cases = await corridor.gatherer.gather(corridor.principal, Operation.SIGN, items)
        assert all(isinstance(case, Case) for case in cases)
        return [case.registered_oca for case in cases if isinstance(case, Case)]

    assert await gathered(crl, crl) == [frozenset(), frozenset()]
    assert asked == []
    known = frozenset({known_oca(ROOT.certificate), known_oca(ISSUING.certificate)})
    assert await gathered(arl("1"), crl, arl("2")) == [known, frozenset(), known]
    assert asked == [frozenset({"root-oca", "issuing-oca"})]


async def test_a_case_is_as_old_as_the_oldest_of_what_it_was_made_from(corridor: Corridor) -> None:
    register(corridor.keys, issuing_record())
    older = KeyView(corridor.keys.generation - 1, {})

    async def remembered(_: frozenset[str]) -> KeyView:
        return older

    corridor.keys.keys_of_classes = remembered  # type: ignore[method-assign]
    listed = arl("old", serial=0x11)  # the root's own, which needs no registry
    item = (listed, forms.parse(listed.form, listed.payload, corridor.profiles))
    (case,) = await corridor.gatherer.gather(corridor.principal, Operation.SIGN, [item])
    assert isinstance(case, Case)
    assert case.generation == older.generation


def test_only_oca_certificates_of_oca_keys_are_named() -> None:
    stray = replace(root_record(), key_class="command-signing")
    broken = issuing_record(b"\x30\x00")
    assert registered_oca([stray, broken, issuing_record(b"")]) == frozenset()
    assert registered_oca([broken, root_record()]) == {known_oca(ROOT.certificate)}
