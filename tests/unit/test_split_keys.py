"""Keys in parts and keys with back-ups, under dual control: who may, what is refused, and what destruction accounts for."""

from dataclasses import replace

import pytest

from cryptosvc.core import lifecycle
from cryptosvc.core.acts.base import Made
from cryptosvc.core.errors import CryptosvcError, Forbidden, WrongState
from cryptosvc.core.keyclass import DEVICE_CLASSES, KEY_CLASSES, SPLIT_CLASSES
from cryptosvc.core.life import Event
from cryptosvc.core.names import ContentKind, Environment, Operation
from cryptosvc.core.reconcile import Held, Kind, Scene, differences
from cryptosvc.core.registry import KeyState
from cryptosvc.flow.govern import Mover
from tests.govern_stand import Stand

ALL = ("ben", "cat", "dan")
SHARES = {"threshold": 2, "parts": 3, "holders": "hal,hana,hugh"}
SOME = {"holders": "hal,hana"}


class Module:
    """What a ceremony has the module do."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.gives: bytes | None = None

    def movers(self, stand: Stand) -> dict[str, Mover]:
        async def split(statement, _records) -> Made:
            self.asked.append(statement.act)
            return await stand.vault.destroy(stand.key(statement.subject))

        async def recombine(statement, _records) -> Made:
            self.asked.append(statement.act)
            point = stand.key(statement.subject).public_point if self.gives is None else self.gives
            return Made(point, ())

        return {"key.split": split, "key.recombine": recombine}


async def stand_with(key_class: str = "recovery", *, active: bool = True) -> tuple[Stand, Module]:
    stand, module = await Stand().begin(), Module()
    stand.governor = stand.another(module.movers(stand))
    await stand.ordered("key-1", key_class)
    if active:
        await stand.carry("key.activate", "key-1", ALL)
    return stand, module


async def refusal_of(stand: Stand, act: str, **parameters: object) -> CryptosvcError:
    with pytest.raises(CryptosvcError) as caught:
        await stand.carry(act, "key-1", ALL, **parameters)  # type: ignore[arg-type]  # a test's keywords
    return caught.value


@pytest.mark.parametrize("key_class", SPLIT_CLASSES)
async def test_a_key_is_split_put_together_and_split_again_and_the_log_derives_it(key_class):
    stand, module = await stand_with(key_class)
    for _ in range(2):
        await stand.carry("key.split", "key-1", ALL, **SHARES)
        assert stand.key("key-1").state is KeyState.SPLIT
        stand.later(5)
        await stand.carry("key.recombine", "key-1", ALL, **SOME)
        assert stand.key("key-1").state is KeyState.ACTIVE
        stand.later(5)
    assert module.asked == ["key.split", "key.recombine"] * 2
    assert stand.replay().records == stand.ledger.records


def test_a_key_in_parts_does_nothing():
    assert lifecycle.ALLOWED[KeyState.SPLIT] == frozenset()
    for operation in (Operation.SIGN, Operation.MAC):
        with pytest.raises(WrongState):
            lifecycle.require(KeyState.SPLIT, operation, ContentKind.GBCS_PRE_COMMAND)


async def test_nobody_splits_a_key_over_the_wire():
    stand, _ = await stand_with()
    stand.governor = stand.another()  # the service's own: it has no movers
    refused = await refusal_of(stand, "key.split", **SHARES)
    assert (refused.rule, refused.clause) == ("split/in-ceremony", "G2.44B")
    assert stand.key("key-1").state is KeyState.ACTIVE


@pytest.mark.parametrize("key_class", sorted(set(KEY_CLASSES) - set(SPLIT_CLASSES) - DEVICE_CLASSES))
async def test_keys_of_other_classes_are_not_split(key_class):
    stand, module = await stand_with(key_class)
    refused = await refusal_of(stand, "key.split", **SHARES)
    assert (refused.rule, refused.clause) == ("split/class", "G2.44B")
    assert module.asked == []


@pytest.mark.parametrize("key_class", sorted(DEVICE_CLASSES))
async def test_a_key_of_a_device_is_no_key_of_the_registry(key_class):
    with pytest.raises(Forbidden) as refused:
        await stand_with(key_class)
    assert (refused.value.rule, refused.value.field) == ("device-key/not-in-registry", "class")


@pytest.mark.parametrize("shares", [(1, 3), (4, 3), (0, 0), (2, 17)])
async def test_numbers_that_make_no_sense_are_refused(shares):
    stand, module = await stand_with()
    threshold, parts = shares
    refused = await refusal_of(stand, "key.split", threshold=threshold, parts=parts, holders="hal")
    assert refused.rule == "split/shares"
    assert module.asked == []


@pytest.mark.parametrize("active", [False])
async def test_a_key_that_is_not_in_use_is_not_split(active):
    stand, _ = await stand_with(active=active)
    assert (await refusal_of(stand, "key.split", **SHARES)).rule == "lifecycle/event"


async def test_what_is_put_together_is_the_key_that_was_split():
    stand, module = await stand_with()
    await stand.carry("key.split", "key-1", ALL, **SHARES)
    module.gives = b"\x04" + bytes(64)
    refused = await refusal_of(stand, "key.recombine", **SOME)
    assert (refused.rule, refused.clause) == ("split/other-key", "G2.44B(a)")
    assert stand.key("key-1").state is KeyState.SPLIT


async def test_in_test_there_is_no_evidence_and_in_live_there_is():
    stand, _ = await stand_with()
    assert (await refusal_of(stand, "key.split", evidence="0a" * 32, **SHARES)).rule == "split/evidence"
    key = stand.key("key-1")
    live = replace(key, version=key.version + 1, environment=Environment.LIVE)
    await stand.keys.change([live])
    assert (await refusal_of(stand, "key.split", **SHARES)).rule == "split/evidence"


async def test_destruction_accounts_for_parts_and_back_ups():
    stand, _ = await stand_with()
    await stand.carry("key.back-up", "key-1", ALL, copy="tape-7", place="the safe", evidence="0a" * 32)
    await stand.carry("key.split", "key-1", ALL, **SHARES)
    assert (await refusal_of(stand, "key.destroy")).rule == "lifecycle/event"
    await stand.carry("key.deactivate", "key-1", ALL)
    seen = {"parts_destroyed": "Wim saw all three burnt", "backups_destroyed": "tape-7: Wim saw it shredded"}
    assert (await refusal_of(stand, "key.destroy")).rule == "split/parts-destroyed"
    parts = {"parts_destroyed": seen["parts_destroyed"]}
    assert (await refusal_of(stand, "key.destroy", **parts)).rule == "destruction/backups"
    await stand.carry("key.destroy", "key-1", ALL, **seen)
    assert stand.key("key-1").state is KeyState.DESTROYED
    assert stand.replay().records == stand.ledger.records


async def test_destruction_of_a_whole_key_says_nothing_of_parts():
    stand, _ = await stand_with(active=False)
    with pytest.raises(Forbidden) as refused:
        await stand.carry("key.destroy", "key-1", ALL, parts_destroyed="there were none")
    assert refused.value.rule == "split/parts-destroyed"


async def test_an_object_of_a_key_in_parts_is_found_by_a_comparison():
    stand, _ = await stand_with()
    await stand.carry("key.split", "key-1", ALL, **SHARES)
    key = stand.key("key-1")
    assert key.life.when(Event.SPLIT) is not None
    assert key.life.in_parts
    held = [Held(key.module, "private-key", key.label, key.object_id, b"")]
    scene = Scene(
        keys=[key],
        held=held,
        attributes={},
        modules={},
        identities={str(key.module): {}},
        proposals=[],
        own=frozenset(),
    )
    assert Kind.NOT_IN_PARTS in {one.kind for one in differences(scene)}
    gone = replace(scene, held=[])
    assert not {Kind.NOT_IN_PARTS, Kind.MISSING_OBJECT} & {one.kind for one in differences(gone)}
