"""Destroyed key material does not come back with a backup: device keys of an epoch that is gone open no more (G2.16)."""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from cryptosvc.adapters.hsm.provision import Provisioner
from cryptosvc.adapters.store import snapshot
from cryptosvc.adapters.store.engine import migrate, open_store
from cryptosvc.core import rewound
from cryptosvc.core.device_keys import DeviceKey, SealedKeyRecord, require_opens, sealed_record
from cryptosvc.core.errors import CryptosvcError, WrongState
from cryptosvc.core.life import UnixSeconds
from tests.device_sealing import Storage, arrive_one, make_storage, sealer_of
from tests.hsm_fixtures import TestToken, make_softhsm

pytestmark = pytest.mark.xdist_group("backed-up-keys")
SECRET = bytes.fromhex("000102030405060708090a0b0c0d0e0f")


@pytest.fixture
def token(tmp_path: Path) -> Iterator[TestToken]:
    made = make_softhsm(tmp_path / "softhsm")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SOFTHSM2_CONF", made.conf)
        yield made


def sealed(row: DeviceKey, storage: Storage) -> SealedKeyRecord:
    return sealed_record(row, storage.epoch.key_id, 1, storage.epoch, storage.binding)


def test_a_wrapped_key_in_a_backup_is_useless_once_its_epoch_is_destroyed(token: TestToken, tmp_path: Path):
    storage = make_storage(token)
    with Provisioner(token.config, token.locks) as provisioner:
        row = arrive_one(sealer_of(provisioner), storage, SECRET)
    # 1 the store is backed up while the key is there
    urls = [f"sqlite:///{tmp_path / name}.db" for name in ("store", "backup", "restored")]
    for url in urls:
        migrate(url)
    with closing(open_store(urls[0])) as store, store.writing() as session:
        session.run(
            "INSERT INTO device_key (device, kind, version, state, system, manufacturer, model, firmware, wrapping, binding,"
            " check_value, blob, work, tag) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            *(row.device.octets, row.kind, row.version, row.state.value, row.system, row.manufacturer),
            *(
                row.model,
                row.firmware,
                row.wrapping,
                row.binding,
                row.check_value,
                row.blob,
                row.work,
                row.tag,
            ),
        )
    for before, after in pairwise(urls):
        with (
            closing(open_store(before)) as store,
            closing(open_store(after)) as other,
            store.reading() as session,
            other.writing() as into,
        ):
            snapshot.copied(session, into, shared=False, progress=lambda *_: None)
    # 2 the restored row is the very row, and opens while its epoch is there
    with closing(open_store(urls[2])) as store, store.reading() as session:
        ((blob, tag),) = session.rows("SELECT blob, tag FROM device_key")
    back = replace(row, blob=blob, tag=tag)
    assert back == row
    with Provisioner(token.config, token.locks) as provisioner:
        sealer = sealer_of(provisioner)
        sealer.destroy(sealer.open(sealed(back, storage)))
        # 3 the epoch is destroyed in the module
        assert provisioner.destroy(storage.epoch.label, storage.epoch.object_id) == 1
    with Provisioner(token.config, token.locks) as provisioner:
        with pytest.raises(CryptosvcError):
            sealer_of(provisioner).open(sealed(back, storage))
        # 4 nor under another epoch of the module, whoever says so
        other_epoch = replace(storage, epoch=storage.next_epoch)
        with pytest.raises(CryptosvcError):
            sealer_of(provisioner).open(
                sealed(replace(back, wrapping=storage.next_epoch.key_id), other_epoch)
            )
    # 5 and the record of the epoch, which the backup has as it was, is destroyed by the certificate that was issued
    gone = rewound.destroyed_since(storage.epoch, UnixSeconds(1_800_000_000))
    with pytest.raises(WrongState) as refused:
        require_opens(sealed(back, replace(storage, epoch=gone)))
    assert refused.value.rule == "device-key/epoch-state"
