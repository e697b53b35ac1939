"""The corridor for SMETS1 Devices' keys: real policies, a real store, keys of the published suite 0 vectors in a SoftHSM2 token."""

import json
import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import orjson

from cryptosvc.adapters.hsm.hsm import Pkcs11Hsm
from cryptosvc.adapters.hsm.provision import Provisioner
from cryptosvc.adapters.store.devices import StoredDeviceKeys
from cryptosvc.adapters.store.every_key import EveryKey
from cryptosvc.core.case import Principal, Request
from cryptosvc.core.content.base import Statement
from cryptosvc.core.content.dlms.profile import Model, Smets1Profile
from cryptosvc.core.content.forms import Profiles
from cryptosvc.core.content.gbcs.profile import GbcsProfile
from cryptosvc.core.content.x509.profile import default_profile
from cryptosvc.core.device_keys import DeviceKey, RowState
from cryptosvc.core.device_work import stepped
from cryptosvc.core.errors import CryptosvcError
from cryptosvc.core.names import ContentForm, Environment, Eui64, KeyId, RequestId, UserRole
from cryptosvc.core.registry import Grant
from cryptosvc.core.supply import SupplyProfile
from cryptosvc.core.transfer.mechanism import OaepHash
from cryptosvc.flow.explain import Explainer
from cryptosvc.flow.gather import Gatherer
from cryptosvc.flow.ports import DeviceKeyChange
from cryptosvc.flow.sign import NotSigned, Signed, Signer
from tests.corridor import caller_record
from tests.device_rows import SYSTEM, WORK, row
from tests.device_sealing import Storage, arrived, make_storage, sealer_of, wrapped_file_key
from tests.hsm_fixtures import TestToken
from tests.mac_corridor import policy_set
from tests.store_stand import Stand, new_database, open_stand

DEVICE = row(1).device
OTHER_DEVICE = row(2).device
CLIENT = bytes.fromhex("4d4d4d0000bc614e")
HLS_CLIENT = bytes.fromhex("4d4d4d0000000001")
METER = bytes.fromhex("4d4d4d0000000002")
GET = bytes.fromhex("c0010000080000010000ff0200")
GRANTS = tuple(
    Grant(operation=operation, key_class=f"smets1-{kind}")
    for operation, kind in (
        ("encrypt", "encryption"),
        ("mac", "encryption"),
        ("decrypt", "encryption"),
        ("wrap", "master"),
        ("accompany", "authentication"),
        ("accompany", "encryption"),
        ("encrypt", "dedicated"),
        ("mac", "dedicated"),
        ("decrypt", "dedicated"),
    )
)
PROFILE = Smets1Profile(frozenset({CLIENT, HLS_CLIENT}), (Model("maker", "m1", "1.0", category_1=True),))


def vectors(folder: Path) -> dict[str, dict[str, str]]:
    """The published suite 0 vectors."""
    found: dict[str, dict[str, str]] = json.loads((folder / "dlms_suite0.json").read_text())
    return found


def name(kind: str, version: int | None = None, device: Eui64 = DEVICE) -> KeyId:
    return KeyId(f"{device}.{kind}" + ("" if version is None else f".{version}"))


@dataclass(frozen=True)
class Wanted:
    """A key that a stand begins with."""

    kind: str
    value: bytes
    version: int = 1
    state: RowState = RowState.CURRENT
    device: int = 1


EK, AK = bytes(range(16)), bytes(range(0xD0, 0xE0))
KEYS = (
    Wanted("encryption", EK),
    Wanted("authentication", AK),
    Wanted("master", EK),
    Wanted("encryption", AK, version=2, state=RowState.NEXT),
    Wanted("encryption", EK, device=2),
    Wanted("authentication", AK, device=2),
)
"""Those of the vectors; the next encryption key is the one that is wrapped in them."""


class Smets1Walk:
    """One worker's corridor."""

    def __init__(self, stand: Stand, hsm: Pkcs11Hsm, profile: Smets1Profile = PROFILE) -> None:
        self.stand = stand
        self.hsm = hsm
        self.devices = StoredDeviceKeys(stand.ledger, stand.keys)
        profiles = Profiles(
            x509=default_profile(), gbcs=GbcsProfile(), duis=None, log_origin="test/log", smets1=profile
        )
        gatherer = Gatherer(
            EveryKey(stand.keys, self.devices),
            hsm,
            stand.clock,
            Environment.TEST,
            SupplyProfile(sensitive_variants=frozenset()),
            smets1=profile,
        )
        self.signer = Signer(gatherer, policy_set(), stand.ledger, hsm, stand.clock, profiles)
        self.explainer = Explainer(gatherer, policy_set(), stand.ledger, stand.clock, profiles)
        self.caller = replace(
            caller_record(*GRANTS),
            system=SYSTEM,
            user_roles=frozenset({UserRole.SMETS1_SERVICE_PROVIDER, UserRole.DUAL_CONTROL}),
        )

    @property
    def principal(self) -> Principal:
        return Principal(caller=self.caller, peer="ipv4:127.0.0.1:1")

    async def ask(self, requests: Sequence[Request]) -> list[Signed | NotSigned]:
        return await self.signer.sign(self.principal, requests)

    async def done(self, request: Request) -> Signed:
        (answer,) = await self.ask([request])
        assert isinstance(answer, Signed), answer.error
        return answer

    async def refusal(self, request: Request) -> CryptosvcError:
        (answer,) = await self.ask([request])
        assert isinstance(answer, NotSigned), "it was done"
        return answer.error

    async def entry(self, leaf_index: int) -> dict[str, object]:
        stored = await self.stand.ledger.entry(leaf_index)
        assert stored is not None
        found: dict[str, object] = orjson.loads(stored.entry)
        return found


def asked(
    form: ContentForm,
    text: bytes = GET,
    counter: int = 1,
    title: bytes = CLIENT,
    role: str = "S1SP",
    key_id: KeyId | None = None,
    second: KeyId | None = None,
) -> Request:
    """A request as the service would make it of what came."""
    payload = title + counter.to_bytes(4) + text
    if form is ContentForm.DLMS_PROTECTED:
        payload = title + text
    return Request(
        request_id=RequestId(secrets.token_hex(8)),
        key_id=key_id or name("encryption"),
        form=form,
        payload=payload,
        statement=Statement(user_role=role),
        second_key=name("authentication") if second is None else second,
    )


def sealed_rows(token: TestToken, storage: Storage, keys: Sequence[Wanted]) -> list[DeviceKey]:
    """Keys as an import would have wrapped them."""
    rows: list[DeviceKey] = []
    file_key = secrets.token_bytes(32)
    with Provisioner(token.config, token.locks) as provisioner:
        sealer = sealer_of(provisioner)
        handle = sealer.open_file_key(storage.transport, wrapped_file_key(storage, file_key), OaepHash.SHA_1)
        for one in keys:
            line = arrived(file_key, one.device, one.value, kind=one.kind, version=one.version)
            found = sealer.arrive(handle, line, storage.epoch, storage.binding)
            assert isinstance(found, DeviceKey)
            rows.append(replace(found, state=one.state))
    return rows


@asynccontextmanager
async def smets1_walk(
    token: TestToken, folder: Path, keys: Sequence[Wanted] = KEYS, profile: Smets1Profile = PROFILE
) -> AsyncIterator[Smets1Walk]:
    """A store with these keys, and a corridor over it."""
    storage = make_storage(token)
    stand = await open_stand(new_database(f"sqlite:///{folder}/s.db"), folder, first=True)
    hsm = Pkcs11Hsm([token.config], stand.clock, token.locks)
    rows = sealed_rows(token, storage, keys)
    hsm.start()
    try:
        walk = Smets1Walk(stand, hsm, profile)
        storing = [replace(one, system=SYSTEM) for one in (storage.epoch, storage.binding)]
        await stand.keys.change([*storing, walk.caller, WORK])
        after = stepped(WORK, position=len(rows), accepted=len(rows))
        generation = await stand.keys.generation()
        await walk.devices.change(DeviceKeyChange(rows, (), after, generation))
        yield walk
    finally:
        hsm.close()
        await stand.ledger.close()
