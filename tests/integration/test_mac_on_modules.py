"""The published Commands with their MACs made by a module: SoftHSM2 (the service derives), kryoptic (the module does)."""

import ctypes
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import orjson
import pytest

from cryptosvc.adapters.hsm import provision
from cryptosvc.adapters.hsm.constants import Cka
from cryptosvc.adapters.hsm.cryptoki import packed
from cryptosvc.adapters.hsm.hsm import Pkcs11Hsm
from cryptosvc.adapters.hsm.provision import P256_PARAMETERS, Provisioner
from cryptosvc.core.errors import Unavailable
from cryptosvc.core.keyclass import ceiling
from cryptosvc.core.names import Environment
from cryptosvc.flow.sign import NotSigned, Signed
from tests.hsm_fixtures import TestToken, make_softhsm
from tests.kryoptic import make_kryoptic
from tests.mac_corridor import (
    BROKER_OCTETS,
    IN_FORCE,
    MODULE,
    Asked,
    Walk,
    asked_of,
    broker_record,
    parties_of,
    policy_set,
)
from tests.mac_keys import point, private
from tests.store_stand import SetClock, new_database, open_stand

pytestmark = pytest.mark.xdist_group("agreement")
MAKERS: dict[str, tuple[Callable[..., TestToken], str]] = {
    "softhsm": (make_softhsm, "service"),
    "kryoptic": (make_kryoptic, "module"),
}
LABEL, OBJECT_ID = "broker-ka", b"\x42"


def put_published_key(
    token: TestToken,
    folder: Path,
    party: bytes = BROKER_OCTETS,
    kind: str = "ka",
    label: str = LABEL,
    object_id: bytes = OBJECT_ID,
) -> None:
    """Create a party's published key on a token, with the attributes of classes that derive."""
    template = ceiling("key-agreement").template
    scalar = private(folder, party, kind).private_numbers().private_value.to_bytes(32)
    of_the_pair = (
        [
            *provision.wanted(label, object_id, template),
            (Cka.EC_PARAMS, P256_PARAMETERS),
            (Cka.VALUE, scalar),
        ],
        [
            *provision.wanted_public(label, object_id, template),
            (Cka.EC_POINT, b"\x04\x41" + point(folder, party, kind)),
        ],
    )
    with Provisioner(token.config, token.locks) as provisioner:
        for attributes in of_the_pair:
            handle = ctypes.c_ulong()
            code = provisioner._library.functions.C_CreateObject(
                provisioner._session, packed(attributes), len(attributes), ctypes.byref(handle)
            )
            assert code == 0, hex(code)
        adopted = provisioner.adopt(label, object_id, template)
        assert (adopted.public_point, adopted.differences) == (point(folder, party, kind), ())


def of_different_tuples(folder: Path) -> list[Asked]:
    found: dict[str, Asked] = {}
    for one in asked_of(folder):
        found.setdefault(one.command.promise.value, one)
    return list(found.values())


@pytest.mark.parametrize("vendor", list(MAKERS))
async def test_published_commands_come_out_of_a_module_identical(
    gbcs_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, vendor: str
) -> None:
    make, derivation = MAKERS[vendor]
    token = make(tmp_path, name=MODULE)
    monkeypatch.setenv("SOFTHSM2_CONF", token.conf)
    put_published_key(token, gbcs_data)
    clock = SetClock(IN_FORCE)
    stand = await open_stand(new_database(f"sqlite:///{tmp_path}/s.db"), tmp_path, first=True, clock=clock)
    hsm = Pkcs11Hsm([token.config], clock, token.locks)
    live = Pkcs11Hsm([replace(token.config, environment=Environment.LIVE)], clock, token.locks)
    hsm.start()
    live.start()
    try:
        key, parties = private(gbcs_data, BROKER_OCTETS), parties_of(gbcs_data)
        walk = Walk(stand, policy_set(), key, parties, hsm)
        record = replace(broker_record(gbcs_data), label=LABEL, object_id=OBJECT_ID)
        await stand.keys.change([record, walk.caller])
        asked = of_different_tuples(gbcs_data)
        assert len(asked) > 30
        by_derivation: dict[str, int] = defaultdict(int)
        for one, answer in zip(asked, await walk.apply([one.request for one in asked]), strict=True):
            assert isinstance(answer, Signed), (one, answer.error)
            assert answer.checked.artefact == one.whole, one
            stored = await stand.ledger.entry(answer.receipt.leaf_index)
            assert stored is not None
            by_derivation[orjson.loads(stored.entry)["derivation"]] += 1
        assert by_derivation == {derivation: len(asked)}
        # the same module in environment live: only what derives by itself makes a MAC
        in_live = Walk(stand, policy_set(), key, parties, live)
        (answer,) = await in_live.apply([replace(asked[0].request, request_id="live")])
        if derivation == "module":
            assert isinstance(answer, Signed)
            assert answer.checked.artefact == asked[0].whole
        else:
            assert isinstance(answer, NotSigned)
            assert isinstance(answer.error, Unavailable)
            assert answer.error.rule == "hsm/no-kdf"
    finally:
        live.close()
        hsm.close()
        await stand.ledger.close()
