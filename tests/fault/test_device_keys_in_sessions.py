"""Device keys in the sessions that work: opened once, used again, opened anew after the module was lost, refused if moved."""

import secrets
import time
from collections.abc import Iterator
from ctypes import c_void_p, cast, pointer
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.ciphers import algorithms
from cryptography.hazmat.primitives.cmac import CMAC

from cryptosvc.adapters.clock import SystemClock
from cryptosvc.adapters.hsm.constants import Ckm
from cryptosvc.adapters.hsm.cryptoki import Mechanism
from cryptosvc.adapters.hsm.hsm import Pkcs11Hsm
from cryptosvc.adapters.hsm.pool import Pool
from cryptosvc.adapters.hsm.provision import Provisioner
from cryptosvc.adapters.hsm.work import MacWork
from cryptosvc.core.device_keys import SealedKeyRecord, sealed_record
from cryptosvc.core.errors import Corrupt, Unavailable, WrongState
from cryptosvc.core.names import KeyId
from cryptosvc.core.registry import KeyState
from tests.device_sealing import Storage, arrive_one, make_storage, sealer_of
from tests.hsm_fixtures import TestToken, make_softhsm

pytestmark = pytest.mark.xdist_group("device-keys-in-sessions")
_CMAC = Mechanism(Ckm.AES_CMAC)
_CLASS = "log-authentication"
"""A class whose keys sign: what an AES key does under it is CMAC."""


class CmacWork(MacWork):
    """One AES-CMAC."""

    mechanism: c_void_p = cast(pointer(_CMAC), c_void_p)
    octets = 16


def cmac(key: bytes, octets: bytes) -> bytes:
    made = CMAC(algorithms.AES(key))
    made.update(octets)
    return made.finalize()


def used(pool: Pool, key: SealedKeyRecord, octets: bytes = b"octets") -> bytes:
    """What a session makes with a key."""
    work = CmacWork(key, octets)
    pool.submit(work)  # type: ignore[arg-type]  # as `HeadMac` does
    return work.wait(10)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[TestToken, Storage]]:
    with pytest.MonkeyPatch.context() as patch:
        token = make_softhsm(tmp_path_factory.mktemp("t"))
        patch.setenv("SOFTHSM2_CONF", token.conf)
        yield token, make_storage(token)


def sealed(token: TestToken, storage: Storage, keys: dict[int, bytes]) -> dict[int, SealedKeyRecord]:
    with Provisioner(token.config, token.locks) as provisioner:
        rows = {
            number: arrive_one(sealer_of(provisioner), storage, key, number) for number, key in keys.items()
        }
    return {
        number: replace(
            sealed_record(row, KeyId(str(row.name)), 1, storage.epoch, storage.binding), key_class=_CLASS
        )
        for number, row in rows.items()
    }


def test_each_device_gets_its_own_key_however_few_can_be_open(made: tuple[TestToken, Storage]) -> None:
    token, storage = made
    keys = {number: secrets.token_bytes(16) for number in range(6)}
    records = sealed(token, storage, keys)
    few = token.with_config(open_device_keys=2, sessions=1)
    hsm = Pkcs11Hsm([few.config], SystemClock(), few.locks)
    hsm.start()
    try:
        pool = hsm._pool(few.config.name)
        for _ in range(3):
            for number, record in records.items():
                assert used(pool, record) == cmac(keys[number], b"octets")
        (opened,) = {lane._opened_keys for lane in pool._lanes}
        assert opened.unwrapped == 18
        before = opened.unwrapped
        for _ in range(5):
            assert used(pool, records[0], b"again") == cmac(keys[0], b"again")
        assert opened.unwrapped == before + 1
        moved = replace(records[1], row=replace(records[1].row, device=records[2].row.device))
        with pytest.raises(Corrupt) as refusal:
            used(pool, moved)
        assert refusal.value.rule == "device-key/not-bound"
        suspended = replace(records[0], wrapping=replace(storage.epoch, state=KeyState.SUSPENDED))
        with pytest.raises(WrongState):
            used(pool, suspended)
        assert used(pool, records[1]) == cmac(keys[1], b"octets")
    finally:
        hsm.close()


def test_keys_are_opened_anew_after_the_module_was_lost(made: tuple[TestToken, Storage]) -> None:
    """What a call does that finds the module gone; p11-kit, which can be killed, does not hand wrapping on."""
    token, storage = made
    key = secrets.token_bytes(16)
    record = sealed(token, storage, {1: key})[1]
    hsm = Pkcs11Hsm([token.with_config(sessions=1).config], SystemClock(), token.locks)
    hsm.start()
    try:
        pool = hsm._pool(token.config.name)
        assert used(pool, record) == used(pool, record) == cmac(key, b"octets")
        opened = pool._lanes[0]._opened_keys
        assert opened.unwrapped == 1
        first = pool.require_open()
        pool.lost(first, "the test says so")
        with pytest.raises(Unavailable):
            used(pool, record)
        end = time.monotonic() + 20
        while pool.opened is None:
            assert time.monotonic() < end
            time.sleep(0.02)
        assert pool.opened is not first
        assert used(pool, record) == cmac(key, b"octets")
        assert opened.unwrapped == 2
    finally:
        hsm.close()
