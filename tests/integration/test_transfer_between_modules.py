"""Keys moved between real modules, step by step under dual control: SoftHSM2 to SoftHSM2, and to NSS softokn."""

import asyncio
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from cryptosvc.adapters.crate import FolderCrate
from cryptosvc.adapters.hsm.carriage import Pkcs11Carriage
from cryptosvc.adapters.hsm.transfer_token import TransferToken
from cryptosvc.adapters.hsm.vault import Pkcs11Vault
from cryptosvc.core.acts.base import Made
from cryptosvc.core.errors import CryptosvcError
from cryptosvc.core.handover.beside import claims_name
from cryptosvc.core.handover.claimed import Claimed, emit
from cryptosvc.core.names import Environment, KeyId
from cryptosvc.core.proposal import ProposalState
from cryptosvc.core.registry import KeyState
from cryptosvc.core.transfer.mechanism import Mechanism, OaepHash, Trust
from cryptosvc.core.transfer.states import TransferState
from cryptosvc.flow.govern import Ended
from cryptosvc.flow.transfer import Movers
from tests.fakes.promises import NOTHING
from tests.govern_stand import HANDS_IN, Stand
from tests.governance import Room, person
from tests.hsm_fixtures import TestToken, make_nss, make_softhsm
from tests.transfers import (
    CUSTODIANS,
    KEYS,
    QUORUM,
    STORAGE,
    THEIR_ORIGIN,
    THERE,
    TRANSFER,
    End,
    Pair,
    pma_people,
)

pytestmark = pytest.mark.xdist_group("wrapping")
VENDORS: dict[str, Callable[..., TestToken]] = {"softhsm": make_softhsm, "nss": make_nss}


@dataclass
class RealEnd(End):
    """An end whose module is a real one; SoftHSM reads where its tokens are when it is opened."""

    token: TestToken | None = None
    folder: Path = Path()

    def enter(self) -> TestToken:
        assert self.token is not None
        os.environ["SOFTHSM2_CONF"] = self.token.conf
        return self.token

    @property
    def real(self) -> Movers:
        token = self.enter()
        so_pin = token.folder / "so-pin"
        carriage = Pkcs11Carriage([token.config], token.locks, so_pin if so_pin.exists() else None)
        vault = Pkcs11Vault([token.config], token.locks)
        return Movers(carriage, FolderCrate(self.folder), self.promises, vault, Environment.TEST)

    def claims_of(self, key_id: str) -> str:
        octets = emit(self.promises.taken.get(KeyId(key_id), NOTHING))
        FolderCrate(self.folder).put(claims_name(key_id), octets)
        return super().claims_of(key_id)

    async def carry(self, step: str, **parameters: object) -> Ended:
        self.enter()
        self.stand.governor = self.stand.another(movers=self.real.by_act())
        return await super().carry(step, **parameters)  # type: ignore[arg-type]  # a test's keywords

    def labels(self) -> set[str]:
        """What lies in the module."""
        token = self.enter()
        with TransferToken(token.config, token.locks) as opened:
            return {one.label for one in opened.objects()}


@dataclass
class RealPair(Pair):
    """Approved by the trust that SoftHSM enforces."""

    def plan(self, **changes: object):  # type: ignore[no-untyped-def]  # as Pair.plan
        return super().plan(**{"mechanism": Mechanism(OaepHash.SHA_1, Trust.ENFORCED), **changes})


async def two_real_ends(folder: Path, destination: str, keys: Mapping[str, str] = KEYS) -> RealPair:
    pma = pma_people()
    for end in ("here", "there"):
        (folder / end).mkdir()
    here = make_softhsm(folder / "here", name="soft")
    there = VENDORS[destination](folder / "there", name="soft")
    source = RealEnd(
        Stand(
            room=Room(people={name: person(name) for name in CUSTODIANS} | pma),
            vault=Pkcs11Vault([here.config], here.locks),  # type: ignore[arg-type]  # the real one
        ),
        token=here,
        folder=folder / "package",
    )
    stand = Stand(
        room=Room(
            people={name: person(name, system=THERE) for name in CUSTODIANS}
            | {name: replace(one, record=replace(one.record, system=THERE)) for name, one in pma.items()},
            system=THERE,
            origin=THEIR_ORIGIN,
        )
    )
    stand.setting = replace(stand.setting, system=THERE, origin=THEIR_ORIGIN)
    target = RealEnd(stand, token=there, folder=folder / "package")
    for end in (source, target):
        await end.stand.begin()
    source.enter()
    for name, key_class in keys.items():
        await source.stand.ordered(name, key_class)
        await source.stand.carry("key.activate", name)
    return RealPair(source, target, pma, keys=keys)


@pytest.fixture(autouse=True)
def softhsm_conf(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOFTHSM2_CONF", "")


def state(pair: Pair, side: str) -> set[KeyState]:
    return {getattr(pair, side).stand.key(name).state for name in pair.keys}


@pytest.mark.parametrize("destination", VENDORS)
async def test_keys_move_and_nothing_of_them_stays(tmp_path: Path, destination: str) -> None:
    pair = await two_real_ends(tmp_path, destination)
    source, target = pair.source, pair.destination
    assert isinstance(source, RealEnd)
    assert isinstance(target, RealEnd)
    await pair.approved()
    assert target.labels() >= {f"transport-{TRANSFER}"}
    await source.carry("export", **pair.export())
    assert state(pair, "source") == {KeyState.IN_TRANSFER}
    assert dict(source.record.facts)["trust"] == "enforced"
    await target.carry("import", **pair.importing())
    assert state(pair, "destination") == {KeyState.ACTIVE}
    assert target.labels() == set(KEYS)
    await source.carry("receipt", **pair.receiving())
    assert source.labels() == set(KEYS)
    await source.carry("dispose", scope=pair.scope())
    assert source.labels() == set()
    assert state(pair, "source") == {KeyState.DESTROYED}
    # the objects are what the records say, as far as the module reads them back as it was told
    differs = {name for name, _ in target.record.facts if name.startswith("differs:")}
    assert differs == ({f"differs:{name}" for name in KEYS} if destination == "nss" else set())
    for end in (source, target):
        end.stand.replay()


@pytest.mark.parametrize("destination", VENDORS)
async def test_storage_keys_move_and_say_what_they_are(tmp_path: Path, destination: str) -> None:
    pair = await two_real_ends(tmp_path, destination, STORAGE)
    await pair.exported()
    await pair.destination.carry("import", **pair.importing())
    target = pair.destination
    assert isinstance(target, RealEnd)
    assert target.labels() == set(STORAGE)
    assert state(pair, "destination") == {KeyState.ACTIVE}
    await pair.source.carry("receipt", **pair.receiving())
    await pair.source.carry("dispose", scope=pair.scope())
    assert state(pair, "source") == {KeyState.DESTROYED}
    for end in (pair.source, target):
        end.stand.replay()


async def test_a_damaged_package_leaves_nothing_and_is_imported_whole_afterwards(tmp_path: Path) -> None:
    pair = await two_real_ends(tmp_path, "softhsm")
    await pair.exported()
    target = pair.destination
    assert isinstance(target, RealEnd)
    blob = tmp_path / "package" / "key-command-1.blob"
    whole = blob.read_bytes()
    blob.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(CryptosvcError) as refused:
        await target.carry("import", **pair.importing())
    assert refused.value.rule == "transfer/blob"
    assert b'"refusal"' in target.stand.ledger.leaves[-1].entry
    blob.unlink()
    with pytest.raises(CryptosvcError) as refused:
        await target.carry("import", **pair.importing())
    assert refused.value.rule == "transfer/blob"
    # one key's blob in the place of another's, its manifest agreeing: the key does not prove itself, and is destroyed
    other = (tmp_path / "package" / "key-broker-1.blob").read_bytes()
    blob.write_bytes(other)
    facts = dict(pair.source.record.facts)
    swapped = tuple(
        replace(one, blob=facts["blob:broker-1"]) for one in packed(pair) if one.record.key_id == "command-1"
    )
    kept = tuple(one for one in packed(pair) if one.record.key_id != "command-1")
    with pytest.raises(CryptosvcError) as refused:
        await target.carry("import", **pair.importing(pair.package(keys=(*kept, *swapped))))
    assert refused.value.rule == "transfer/not-proven"
    assert b'"refusal"' in target.stand.ledger.leaves[-1].entry
    assert target.labels() == {f"transport-{TRANSFER}"}
    assert target.record.state is TransferState.OFFERED
    blob.write_bytes(whole)
    await target.carry("import", **pair.importing())
    assert target.labels() == set(KEYS)


async def test_claims_that_cannot_be_taken_leave_nothing_in_the_module(tmp_path: Path) -> None:
    pair = await two_real_ends(tmp_path, "softhsm")
    key = KeyId("command-1")
    pair.source.promises.taken[key] = Claimed(once=((7, b"a" * 20),), rising=(("crl-number", 9),), used=0)
    await pair.exported()
    target = pair.destination
    assert isinstance(target, RealEnd)
    importing = pair.importing()
    blob = tmp_path / "package" / f"{claims_name(key)}.blob"
    whole = blob.read_bytes()
    for damaged in (whole[:-1] + b"b", None):
        blob.unlink()
        if damaged is not None:
            blob.write_bytes(damaged)
            blob.chmod(0o600)
        with pytest.raises(CryptosvcError) as refused:
            await target.carry("import", **importing)
        assert refused.value.rule == "transfer/blob"
        assert target.labels() == {f"transport-{TRANSFER}"}
        blob.write_bytes(whole)
    # other bytes were signed under one of its fingerprints here: it does not come, and no other key of the package either
    target.promises.taken[key] = Claimed(once=((7, b"c" * 20),), rising=(), used=0)
    with pytest.raises(CryptosvcError) as refused:
        await target.carry("import", **importing)
    assert refused.value.rule == "transfer/claims"
    assert b'"refusal"' in target.stand.ledger.leaves[-1].entry
    assert target.labels() == {f"transport-{TRANSFER}"}
    assert target.record.state is TransferState.OFFERED
    target.promises.taken.clear()
    await target.carry("import", **importing)
    assert target.promises.taken[key] == pair.source.promises.taken[key]
    assert target.labels() == set(KEYS)


def packed(pair: Pair):  # type: ignore[no-untyped-def]  # the keys of a package
    from cryptosvc.core.handover.notices import PackedKey

    facts = dict(pair.source.record.facts)
    return [
        PackedKey(
            record=pair.source.stand.key(name),
            blob=facts[f"blob:{name}"],
            claims=pair.source.claims_of(name),
        )
        for name in sorted(KEYS)
    ]


async def test_a_transfer_that_is_declined_comes_back(tmp_path: Path) -> None:
    pair = await two_real_ends(tmp_path, "softhsm")
    await pair.exported()
    target = pair.destination
    assert isinstance(target, RealEnd)
    await target.carry("decline")
    assert target.labels() == set()
    with pytest.raises(CryptosvcError):
        await target.carry("import", **pair.importing())
    await pair.source.carry(
        "roll-back",
        not_imported=pair.not_imported().hex(),
        destination_key=target.spki.hex(),
        scope=pair.scope(),
    )
    assert state(pair, "source") == {KeyState.SUSPENDED}


async def test_steps_that_died_with_their_process_are_resumed(tmp_path: Path) -> None:
    pair = await two_real_ends(tmp_path, "softhsm")
    await pair.approved()
    for side, step, give in (
        ("source", "export", pair.export),
        ("destination", "import", pair.importing),
    ):
        end = getattr(pair, side)
        proposal = await end.stand.approved(f"transfer.{step}", TRANSFER, QUORUM, **give())
        act, mover = f"transfer.{step}", end.real.by_act()[f"transfer.{step}"]

        async def dies_after(statement, records, mover=mover):  # type: ignore[no-untyped-def]  # a mover
            made: Made = await mover(statement, records)
            raise asyncio.CancelledError(made)

        end.stand.governor = end.stand.another(movers={act: dies_after})
        with pytest.raises(asyncio.CancelledError):
            await end.stand.governor.execute(HANDS_IN, proposal)
        assert end.stand.proposal(proposal).state is ProposalState.EXECUTING
        if side == "source":
            shutil.rmtree(tmp_path / "package")  # not even the blobs are needed again
            assert state(pair, "source") == {KeyState.ACTIVE}
        else:
            assert end.labels() == set(KEYS)  # the transport key is gone, no record is there
        end.stand.governor = end.stand.another(movers=end.real.by_act())
        await end.stand.governor.resume(HANDS_IN, proposal)
    assert state(pair, "source") == {KeyState.IN_TRANSFER}
    assert state(pair, "destination") == {KeyState.ACTIVE}
    for end in (pair.source, pair.destination):
        end.stand.replay()


async def test_a_decline_that_died_once_the_transport_key_was_gone_is_resumed(tmp_path: Path) -> None:
    pair = await two_real_ends(tmp_path, "softhsm")
    await pair.exported()
    target = pair.destination
    assert isinstance(target, RealEnd)
    proposal = await target.stand.approved("transfer.decline", TRANSFER, QUORUM)
    mover = target.real.by_act()["transfer.decline"]

    async def dies_after(statement, records):  # type: ignore[no-untyped-def]  # a mover
        raise asyncio.CancelledError(await mover(statement, records))

    target.stand.governor = target.stand.another(movers={"transfer.decline": dies_after})
    with pytest.raises(asyncio.CancelledError):
        await target.stand.governor.execute(HANDS_IN, proposal)
    assert target.labels() == set()
    # it is no notice yet, and the package opens no more
    assert target.record.state is TransferState.OFFERED
    with pytest.raises(CryptosvcError):
        await target.carry("import", **pair.importing())
    assert target.labels() == set()
    target.stand.governor = target.stand.another(movers=target.real.by_act())
    await target.stand.governor.resume(HANDS_IN, proposal)
    assert target.record.state is TransferState.DECLINED
    assert dict(target.record.facts)["transport_left"] == "0"
    target.stand.replay()
