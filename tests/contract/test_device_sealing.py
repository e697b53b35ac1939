"""Device keys in a module: wrapped, bound to their rows, opened; the same on SoftHSM, NSS softokn and kryoptic."""

import secrets
from collections.abc import Iterator
from dataclasses import replace

import pytest

from cryptosvc.adapters.hsm.constants import Cka
from cryptosvc.adapters.hsm.cryptoki import FALSE, TRUE
from cryptosvc.adapters.hsm.opened_keys import OpenedKeys
from cryptosvc.adapters.hsm.provision import Provisioner
from cryptosvc.core.device_keys import DeviceKey, SealedKeyRecord, sealed_record
from cryptosvc.core.errors import Corrupt, Malformed, WrongState
from cryptosvc.core.names import KeyId
from cryptosvc.core.registry import KeyRecord, KeyState
from cryptosvc.core.transfer.mechanism import OaepHash
from tests.device_rows import row
from tests.device_sealing import (
    Storage,
    arrive_one,
    arrived,
    check_value,
    make_storage,
    sealer_of,
    wrapped_file_key,
)
from tests.hsm_fixtures import make_nss, make_softhsm
from tests.kryoptic import make_kryoptic

pytestmark = pytest.mark.xdist_group("device-sealing")
_MAKERS = {"softhsm": make_softhsm, "nss": make_nss, "kryoptic": make_kryoptic}
KEY = bytes(range(16))
_IDENTITY = {
    "device": row(2).device,
    "kind": "authentication",
    "version": 2,
    "system": "another",
    "check_value": bytes(3),
    "blob": bytes(24),
    "tag": bytes(32),
}


@pytest.fixture(scope="module", params=sorted(_MAKERS))
def module(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Provisioner, Storage]]:
    made = _MAKERS[request.param](tmp_path_factory.mktemp(request.param))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SOFTHSM2_CONF", made.conf)
        storage = make_storage(made)
        with Provisioner(made.config, made.locks) as provisioner:
            yield provisioner, storage


def sealed(made: DeviceKey, storage: Storage, **changes: KeyRecord) -> SealedKeyRecord:
    keys = {"wrapping": storage.epoch, "binding": storage.binding} | changes
    record = sealed_record(
        made, KeyId(str(replace(made.name, version=None))), 1, keys["wrapping"], keys["binding"]
    )
    # what a key of the class may do is the class's: any symmetric one shows it
    return replace(record, key_class="storage-wrapping")


def test_a_key_arrives_under_the_epoch_and_is_the_one_that_was_sent(
    module: tuple[Provisioner, Storage],
) -> None:
    provisioner, storage = module
    sealer = sealer_of(provisioner)
    made = arrive_one(sealer, storage, KEY)
    assert (made.wrapping, made.binding, made.check_value) == ("epoch-1", "binding-1", check_value(KEY))
    assert KEY not in made.blob
    handle = sealer.open(sealed(made, storage))
    functions, session = provisioner._library.functions, provisioner._session
    assert functions.attribute(session, handle, Cka.EXTRACTABLE) == FALSE
    assert functions.attribute(session, handle, Cka.TOKEN) == FALSE
    assert functions.attribute(session, handle, Cka.ENCRYPT) == FALSE
    assert functions.attribute(session, handle, Cka.WRAP) == TRUE
    sealer.destroy(handle)


@pytest.mark.parametrize("field", sorted(_IDENTITY))
def test_octets_moved_to_another_row_or_edited_are_refused_by_the_module(
    module: tuple[Provisioner, Storage], field: str
) -> None:
    provisioner, storage = module
    sealer = sealer_of(provisioner)
    made = arrive_one(sealer, storage, KEY)
    moved = sealed(replace(made, **{field: _IDENTITY[field]}), storage)  # type: ignore[arg-type]  # a test's table
    with pytest.raises(Corrupt) as refusal:
        sealer.open(moved)
    assert refusal.value.rule == "device-key/not-bound"
    with pytest.raises(Corrupt):
        sealer.re_wrap(moved, storage.next_epoch, storage.binding)


def test_what_is_no_key_or_another_key_does_not_arrive_and_the_rest_does(
    module: tuple[Provisioner, Storage],
) -> None:
    provisioner, storage = module
    sealer = sealer_of(provisioner)
    file_key = secrets.token_bytes(32)
    handle = sealer.open_file_key(storage.transport, wrapped_file_key(storage, file_key), OaepHash.SHA_1)
    good = arrived(file_key, 1)
    bad = [
        replace(good, wrapped=bytes(24)),
        replace(good, wrapped=good.wrapped[:-1] + bytes([good.wrapped[-1] ^ 1])),
        replace(good, wrapped=good.wrapped[:16]),
        replace(good, row=replace(good.row, check_value=bytes(3))),
        arrived(file_key, 1, secrets.token_bytes(32)),
        arrived(secrets.token_bytes(32), 1),
    ]
    for one in bad:
        assert isinstance(sealer.arrive(handle, one, storage.epoch, storage.binding), Malformed)
    assert isinstance(sealer.arrive(handle, good, storage.epoch, storage.binding), DeviceKey)
    with pytest.raises(Malformed):
        sealer.open_file_key(storage.transport, bytes(384), OaepHash.SHA_1)


def test_a_key_moves_to_another_epoch_and_stays_the_same(module: tuple[Provisioner, Storage]) -> None:
    provisioner, storage = module
    sealer = sealer_of(provisioner)
    made = arrive_one(sealer, storage, KEY)
    moved = sealer.re_wrap(sealed(made, storage), storage.next_epoch, storage.binding)
    assert isinstance(moved, DeviceKey)
    assert (moved.wrapping, moved.check_value) == ("epoch-2", made.check_value)
    assert moved.blob != made.blob
    again = sealer.re_wrap(
        sealed(moved, storage, wrapping=storage.next_epoch), storage.epoch, storage.binding
    )
    assert again == made


def test_a_new_key_is_made_in_the_module_and_differs_every_time(module: tuple[Provisioner, Storage]) -> None:
    provisioner, storage = module
    sealer = sealer_of(provisioner)
    bare = replace(row(1), check_value=b"", blob=b"", tag=b"")
    one, other = (sealer.generate(bare, storage.epoch, storage.binding) for _ in range(2))
    assert one.check_value != other.check_value
    sealer.destroy(sealer.open(sealed(one, storage)))


def test_opened_keys_are_bounded_and_destroyed_when_they_make_room(
    module: tuple[Provisioner, Storage],
) -> None:
    provisioner, storage = module
    functions, session = provisioner._library.functions, provisioner._session
    sealer = sealer_of(provisioner)
    cache = OpenedKeys(functions, 3)
    cache.begin(session, provisioner.mechanisms)
    keys = [
        sealed(arrive_one(sealer, storage, secrets.token_bytes(16), number), storage) for number in range(5)
    ]
    handles = [cache.handle(key) for key in keys[:3]]
    assert [cache.handle(key) for key in keys[:3]] == handles
    assert cache.unwrapped == 3
    cache.handle(keys[3])  # keys[0] makes room
    assert functions.C_DestroyObject(session, handles[0]) != 0
    cache.handle(keys[1])
    cache.handle(keys[4])  # keys[2] does, since keys[1] was used
    assert functions.C_DestroyObject(session, handles[2]) != 0
    assert cache.handle(keys[1]) == handles[1]
    assert cache.unwrapped == 5
    suspended = replace(keys[1], wrapping=replace(storage.epoch, state=KeyState.SUSPENDED))
    with pytest.raises(WrongState):  # although it is an object
        cache.handle(suspended)
    cache.forget()
    assert functions.C_DestroyObject(session, handles[1]) != 0
    assert cache.handle(keys[1]) is not None
    assert cache.unwrapped == 6
    cache.forget()
