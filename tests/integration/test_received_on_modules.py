"""Published Responses, Alerts, attributes and top-ups with a supplier's keys in a module: SoftHSM2 and kryoptic."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import orjson
import pytest

from cryptosvc.adapters.hsm.hsm import Pkcs11Hsm
from cryptosvc.core.content.base import Statement
from cryptosvc.core.content.gbcs import mac, top_up
from cryptosvc.core.names import ContentForm, UserRole
from cryptosvc.flow.sign import Signed
from tests.integration.test_mac_on_modules import MAKERS, put_published_key
from tests.mac_corridor import IN_FORCE, MODULE, parties_of, policy_set
from tests.mac_keys import private
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
OBJECTS = {"ka": b"\x51", "pp-ka": b"\x52"}

pytestmark = pytest.mark.xdist_group("agreement")


@asynccontextmanager
async def walking(
    vendor: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[ReceivedWalk]:
    token = MAKERS[vendor][0](tmp_path, name=MODULE)
    monkeypatch.setenv("SOFTHSM2_CONF", token.conf)
    for kind, object_id in OBJECTS.items():
        put_published_key(token, folder, SUPPLIER, kind, f"supplier-{kind}", object_id)
    clock = SetClock(IN_FORCE)
    stand = await open_stand(new_database(f"sqlite:///{tmp_path}/s.db"), tmp_path, first=True, clock=clock)
    hsm = Pkcs11Hsm([token.config], clock, token.locks)
    hsm.start()
    try:
        keys = {key_of(SUPPLIER): private(folder, SUPPLIER)}
        walk = ReceivedWalk(stand, policy_set(), keys, parties_of(folder), hsm)
        walk.caller = replace(walk.caller, user_roles=frozenset({UserRole.IMPORT_SUPPLIER}))
        records = [
            replace(record_of(folder, SUPPLIER, kind), label=f"supplier-{kind}", object_id=object_id)
            for kind, object_id in OBJECTS.items()
        ]
        await stand.keys.change([*records, walk.caller])
        yield walk
    finally:
        hsm.close()
        await stand.ledger.close()


@pytest.mark.parametrize("vendor", list(MAKERS))
async def test_a_supplier_reads_what_its_devices_sent_and_authenticates_top_ups(
    gbcs_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, vendor: str
) -> None:
    derivation = MAKERS[vendor][1]
    answers = [one for one in with_macs(gbcs_data) if one.party == SUPPLIER]
    encrypted = [one for one in with_attributes(gbcs_data) if one.party == SUPPLIER]
    assert (len(answers) > 20, len(encrypted) > 3) == (True, True)
    async with walking(vendor, gbcs_data, tmp_path, monkeypatch) as walk:
        # MACs
        done = await walk.apply([ask(gbcs_data, one, ContentForm.GBCS_MESSAGE) for one in answers])
        for one, answer in zip(answers, done, strict=True):
            assert isinstance(answer, Signed), (one.name, answer.error)
            assert (answer.checked.artefact, answer.checked.derivation) == (one.inner, derivation)
        # attributes, of which some Responses have several
        done = await walk.apply([ask(gbcs_data, one, ContentForm.ENCRYPTED_RESPONSE) for one in encrypted])
        for one, answer in zip(encrypted, done, strict=True):
            assert isinstance(answer, Signed), (one.name, answer.error)
            assert len(answer.checked.plaintexts) == one.inner.count(bytes.fromhex("3100000000"))
            stored = await walk.stand.ledger.entry(answer.receipt.leaf_index)
            assert stored is not None
            assert orjson.loads(stored.entry)["derivation"] == derivation
        # a bit of a MAC and a bit of an attribute
        bad_mac = answers[0].whole[:-1] + bytes((answers[0].whole[-1] ^ 1,))
        at = encrypted[0].inner.index(bytes.fromhex("3100000000")) + 5
        bad_attribute = bytearray(encrypted[0].inner)
        bad_attribute[at] ^= 1
        for name, of, form, payload in (
            ("bad mac", answers[0], ContentForm.GBCS_MESSAGE, bad_mac),
            ("bad attribute", encrypted[0], ContentForm.ENCRYPTED_RESPONSE, bytes(bad_attribute)),
        ):
            refused = await walk.refusal(ask(gbcs_data, of, form, name, payload=payload))
            assert (str(refused), refused.rule) == ("not verified", "gbcs/mac-not-verified")


@pytest.mark.parametrize("vendor", list(MAKERS))
async def test_a_published_top_up_comes_out_of_a_module(
    gbcs_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, vendor: str
) -> None:
    (path,) = sorted((gbcs_data / "rtds").rglob("CS01a_2.2_SUCCESS_COMMAND_GBCS.HEX"))[:1]
    apdu = mac.read_back(bytes.fromhex(path.read_text()), 65_535).apdu
    assert apdu.originator == SUPPLIER
    token = top_up.Token(SUPPLIER, apdu.target, apdu.counter, top_up.ValueClass.POUNDS, 10)
    async with walking(vendor, gbcs_data, tmp_path, monkeypatch) as walk:
        (answer,) = await walk.apply(
            [
                ask(
                    gbcs_data,
                    Received("", b"", b"", SUPPLIER, apdu.target),
                    ContentForm.TOP_UP,
                    "top-up",
                    payload=token.additional,
                    key_id=key_of(SUPPLIER, "pp-ka"),
                    statement=Statement(service_reference_variant="2.2", user_role="IS"),
                )
            ]
        )
        assert isinstance(answer, Signed), answer.error
        assert len(answer.checked.artefact) == 20
        assert answer.checked.artefact in apdu.payload
