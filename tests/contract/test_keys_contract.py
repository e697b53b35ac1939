"""What every Keys must hold to: the fake, SQLite and PostgreSQL."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import orjson
import pytest

from cryptosvc.adapters.store.registry import StoredRegistry
from cryptosvc.core.errors import Conflict
from cryptosvc.core.names import KeyId, SystemName
from cryptosvc.core.record import Claim
from cryptosvc.core.registry import CallerState, KeyState, record_digest
from cryptosvc.flow.ports import Ledger, Stale
from tests.fakes.ledger import FakeKeys, FakeLedger
from tests.store_stand import CALLER, KEY, ORIGIN, SCOPE, SetClock, authorised, new_database, open_stand

Subject = tuple[Ledger, FakeKeys | StoredRegistry]


@pytest.fixture(params=["fake", "sqlite", "postgres"])
async def subject(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Subject]:
    if request.param == "fake":
        ledger = FakeLedger(ORIGIN, SCOPE, SetClock())
        yield ledger, FakeKeys(ledger)
        return
    url = f"sqlite:///{tmp_path}/store.db"
    if request.param == "postgres":
        url = request.getfixturevalue("postgres_server").make_database()
    stand = await open_stand(new_database(url), tmp_path, first=True)
    yield stand.ledger, stand.keys
    await stand.ledger.close()


async def test_what_is_registered_is_found(subject: Subject) -> None:
    _, keys = subject
    second = replace(KEY, key_id=KeyId("key-2"))
    await keys.change([KEY, second, CALLER])
    view = await keys.keys([KEY.key_id, KeyId("nobody")])
    assert view.keys == {KEY.key_id: KEY}
    assert (await keys.keys([second.key_id, KEY.key_id])).keys == {KEY.key_id: KEY, second.key_id: second}
    assert await keys.caller(CALLER.certificate_sha256) == CALLER
    assert await keys.caller(b"\x01" * 32) is None


async def test_each_change_is_a_leaf_that_commits_to_the_record(subject: Subject) -> None:
    ledger, keys = subject
    await keys.change([KEY, CALLER])
    suspended = replace(KEY, version=2, state=KeyState.SUSPENDED)
    await keys.change([suspended])
    found = [await ledger.entry(index) for index in (1, 2, 3)]
    entries = [orjson.loads(stored.entry) for stored in found if stored is not None]
    assert [entry["kind"] for entry in entries] == ["key-record", "caller-record", "key-record"]
    digests = [record_digest(one).hex() for one in (KEY, CALLER, suspended)]
    assert [entry["record_digest"] for entry in entries] == digests
    assert (await ledger.head()).size == 4


async def test_a_change_moves_the_generation_and_makes_claims_stale(subject: Subject) -> None:
    ledger, keys = subject
    await keys.change([KEY])
    before = await keys.keys([KEY.key_id])
    await keys.change([replace(KEY, version=2, state=KeyState.SUSPENDED)])
    after = await keys.keys([KEY.key_id])
    assert after.generation > before.generation
    assert after.keys[KEY.key_id].state == KeyState.SUSPENDED
    stale, fresh = await ledger.claim(
        [authorised(generation=before.generation), authorised(generation=after.generation)]
    )
    assert isinstance(stale, Stale)
    assert isinstance(fresh, Claim)


async def test_versions_run_without_a_gap(subject: Subject) -> None:
    _, keys = subject
    for wrong in (replace(KEY, version=2), replace(KEY, version=0)):
        with pytest.raises(Conflict) as caught:
            await keys.change([wrong])
        assert caught.value.rule == "registry/version"
    await keys.change([KEY])
    for version in (1, 3):
        with pytest.raises(Conflict):
            await keys.change([replace(KEY, version=version)])
    assert (await keys.keys([KEY.key_id])).keys == {KEY.key_id: KEY}


async def test_a_change_is_whole_or_not_at_all(subject: Subject) -> None:
    ledger, keys = subject
    with pytest.raises(Conflict):
        await keys.change([KEY, replace(CALLER, version=2)])
    assert (await keys.keys([KEY.key_id])).keys == {}
    assert (await ledger.head()).size == 1


async def test_two_callers_never_share_a_certificate(subject: Subject) -> None:
    _, keys = subject
    await keys.change([CALLER])
    with pytest.raises(Conflict) as caught:
        await keys.change([replace(CALLER, caller_id="other")])
    assert caught.value.rule == "registry/certificate"


async def test_a_revoked_caller_is_still_found_and_its_old_record_claims_nothing(subject: Subject) -> None:
    ledger, keys = subject
    await keys.change([KEY, CALLER])
    await keys.change([replace(CALLER, version=2, state=CallerState.REVOKED)])
    found = await keys.caller(CALLER.certificate_sha256)
    assert found is not None
    assert found.state == CallerState.REVOKED
    generation = (await keys.keys([])).generation
    (answer,) = await ledger.claim([authorised(generation=generation, caller=CALLER)])
    assert isinstance(answer, Conflict)
    assert answer.rule == "caller/changed"


async def test_keys_of_a_system_are_sorted_and_of_that_system(subject: Subject) -> None:
    _, keys = subject
    other = replace(KEY, key_id=KeyId("key-0"), system=SystemName("elsewhere"))
    many = [replace(KEY, key_id=KeyId(f"key-{number}")) for number in (3, 1, 2)]
    await keys.change([*many, other])
    assert [one.key_id for one in await keys.keys_of(KEY.system)] == ["key-1", "key-2", "key-3"]
    assert await keys.keys_of(SystemName("elsewhere")) == [other]
    assert await keys.keys_of(SystemName("nowhere")) == []


async def test_keys_of_classes_are_those_of_every_system_and_state_as_of_the_latest_generation(
    subject: Subject,
) -> None:
    _, keys = subject
    wanted = frozenset({"root-oca", "issuing-oca"})
    assert (await keys.keys_of_classes(wanted)).keys == {}
    root = replace(
        KEY,
        key_id=KeyId("root"),
        key_class="root-oca",
        system=SystemName("elsewhere"),
        state=KeyState.DESTROYED,
    )
    await keys.change([KEY, CALLER, root])
    found = await keys.keys_of_classes(wanted)
    assert (found.generation, found.keys) == ((await keys.keys([])).generation, {root.key_id: root})
    issuing = replace(KEY, key_id=KeyId("issuing"), key_class="issuing-oca")
    changed = replace(root, version=2, certificate=b"another")
    await keys.change([issuing, changed])
    later = await keys.keys_of_classes(wanted)
    assert (later.generation, later.keys) == (
        found.generation + 1,
        {issuing.key_id: issuing, root.key_id: changed},
    )
    assert await keys.keys_of_classes(wanted) == later
    assert (await keys.keys_of_classes(frozenset({KEY.key_class}))).keys == {KEY.key_id: KEY}


async def test_a_change_may_ask_that_nothing_else_changed(subject: Subject) -> None:
    _, keys = subject
    await keys.change([KEY])
    generation = await keys.generation()
    await keys.change([CALLER])
    with pytest.raises(Conflict) as caught:
        await keys.change([replace(KEY, version=2, state=KeyState.SUSPENDED)], at_generation=generation)
    assert caught.value.rule == "registry/moved"
    assert (await keys.keys({KEY.key_id})).keys[KEY.key_id] == KEY
    await keys.change(
        [replace(KEY, version=2, state=KeyState.SUSPENDED)], at_generation=await keys.generation()
    )
    assert (await keys.keys({KEY.key_id})).keys[KEY.key_id].state is KeyState.SUSPENDED
