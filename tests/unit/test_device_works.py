"""Works on device keys: what a quorum approves, how far a step may go, and what a replay holds steps to."""

from collections.abc import Mapping
from dataclasses import replace

import pytest

from cryptosvc.core import device_work
from cryptosvc.core.acts.base import Made, Turn
from cryptosvc.core.acts.table import ACTS, act
from cryptosvc.core.canonical import JsonValue
from cryptosvc.core.device_records import SourceState, WorkKind, WorkState
from cryptosvc.core.errors import Corrupt, Malformed, WrongState
from cryptosvc.core.life import UnixSeconds
from cryptosvc.core.registry import KeyState, Record, record_id, record_kind
from tests.claims import key_record
from tests.govern_stand import Stand
from tests.governance import DEVICE_SOURCE, DEVICE_STORE, DEVICE_WORK, SYSTEM, Room, person

AT = UnixSeconds(1_800_000_000)
IMPORT = {"source": "maker", "manifest_sha256": "ab" * 32, "keys": 2, "on_bad_line": "report"}


def carried_out(
    name: str, subject: str, parameters: Mapping[str, JsonValue], *records: Record
) -> tuple[Record, ...]:
    about = {(record_kind(one), record_id(one)): one for one in records}
    found = about.get((act(name).kind, subject))
    version = found.version if found else 0
    given = Room().statement(name, subject, version, **parameters)
    return act(name).after(Turn(statement=given, at=AT, records=about, made=Made()))


def test_an_import_is_approved_for_one_file_of_a_registered_source() -> None:
    (work,) = carried_out("device-work.import", "import-1", IMPORT, DEVICE_SOURCE)
    assert work == replace(DEVICE_WORK, system=work.system, facts=())
    revoked = replace(DEVICE_SOURCE, state=SourceState.REVOKED)
    for records in ([], [revoked], [DEVICE_SOURCE, DEVICE_WORK]):
        with pytest.raises(WrongState):
            carried_out("device-work.import", "import-1", IMPORT, *records)
    for wrong in ({"manifest_sha256": "ab"}, {"on_bad_line": "ignore"}, {"keys": 0}):
        with pytest.raises(Malformed):
            carried_out("device-work.import", "import-1", IMPORT | wrong, DEVICE_SOURCE)


def test_works_on_one_key_name_it_and_an_epoch_is_a_key_of_its_class() -> None:
    name = "90-B3-D5-1F-30-01-00-00.encryption"
    for kind in (WorkKind.ROTATE, WorkKind.DESTROY):
        (work,) = carried_out(f"device-work.{kind}", "w", {"key": name})
        assert (work.kind, work.subject, work.state) == (kind, name, WorkState.APPROVED)
        with pytest.raises(Malformed):
            carried_out(f"device-work.{kind}", "w", {"key": f"{name}.1"})
    epoch = replace(key_record(), key_id="epoch-1", key_class="storage-wrapping")
    (work,) = carried_out("device-work.re-wrap", "w", {"epoch": "epoch-1"}, epoch)
    assert work.subject == "epoch-1"
    with pytest.raises(Malformed):
        carried_out(
            "device-work.re-wrap", "w", {"epoch": "epoch-1"}, replace(epoch, key_class="log-authentication")
        )


def test_an_epoch_that_device_keys_need_is_not_destroyed() -> None:
    epoch = replace(key_record(), key_id="epoch-1", key_class="storage-wrapping", state=KeyState.DEACTIVATED)
    with pytest.raises(WrongState) as refusal:
        carried_out("key.destroy", "epoch-1", {}, epoch, DEVICE_STORE)
    assert refusal.value.rule == "device-key/epoch-in-use"
    left = replace(DEVICE_STORE, needed=(("binding-1", 2), ("epoch-2", 2)))
    (gone,) = carried_out("key.destroy", "epoch-1", {}, epoch, left)
    assert gone.state is KeyState.DESTROYED


def test_steps_go_forward_within_what_was_approved() -> None:
    begun = device_work.stepped(DEVICE_WORK, position=1, accepted=1)
    device_work.require_step(DEVICE_WORK, begun)
    device_work.require_step(begun, device_work.stepped(begun, position=2, accepted=1, done=True))
    done = replace(begun, state=WorkState.DONE)
    for before, after in (
        (begun, replace(begun, position=0, accepted=0)),
        (begun, replace(begun, position=3)),
        (begun, replace(begun, accepted=2)),
        (begun, replace(begun, subject="cd" * 32)),
        (begun, replace(begun, facts=())),
        (begun, replace(begun, state=WorkState.APPROVED)),
        (done, done),
    ):
        with pytest.raises(Corrupt):
            device_work.require_step(before, after)


def test_the_store_changes_by_what_the_work_accepted() -> None:
    after = replace(DEVICE_STORE, version=2, keys=3, needed=(("binding-1", 3), ("epoch-1", 3)))
    device_work.require_store_step(DEVICE_WORK, 1, DEVICE_STORE, after)
    for accepted, wrong in (
        (2, after),
        (1, replace(after, version=3)),
        (1, replace(after, system="other")),
        (1, replace(after, needed=(("binding-1", 3), ("epoch-1", 2)))),
    ):
        with pytest.raises(Corrupt):
            device_work.require_store_step(DEVICE_WORK, accepted, DEVICE_STORE, wrong)
    leaving = replace(DEVICE_WORK, kind=WorkKind.RE_WRAP, subject="epoch-1")
    moved = replace(DEVICE_STORE, version=2, needed=(("binding-1", 2), ("epoch-1", 1), ("epoch-2", 1)))
    device_work.require_store_step(leaving, 1, DEVICE_STORE, moved)
    with pytest.raises(Corrupt):
        device_work.require_store_step(leaving, 1, moved, replace(DEVICE_STORE, version=3))


def test_a_replay_takes_steps_in_their_order_alone() -> None:
    work = device_work.stepped(DEVICE_WORK, position=1, accepted=1)
    store = replace(DEVICE_STORE, version=2, keys=3, needed=(("binding-1", 3), ("epoch-1", 3)))
    steps = device_work.Steps()
    steps.require("import-1", DEVICE_WORK, DEVICE_WORK, work)
    steps.require("import-1", work, DEVICE_STORE, store)
    with pytest.raises(Corrupt):  # the same step brings nothing more
        steps.require("import-1", work, store, replace(store, version=3, keys=4))
    with pytest.raises(Corrupt):
        device_work.Steps().require("import-1", None, DEVICE_STORE, store)
    with pytest.raises(Corrupt):
        device_work.Steps().require("import-1", DEVICE_WORK, key_record(), key_record())


async def test_every_act_on_device_keys_is_carried_out_and_derived_again() -> None:
    epoch = replace(key_record(), key_id="epoch-1", key_class="storage-wrapping", system=SYSTEM)
    here = await Stand(records=(epoch,)).begin()
    key = "90-B3-D5-1F-30-01-00-00.encryption"
    walked = {
        "device-source.register": ("maker", {"key": person("eve").record.key.hex()}),
        "device-work.import": ("import-1", IMPORT),
        "device-work.rotate": ("rotate-1", {"key": key}),
        "device-work.re-wrap": ("re-wrap-1", {"epoch": "epoch-1"}),
        "device-work.destroy": ("destroy-1", {"key": key}),
        "device-source.revoke": ("maker", {}),
    }
    assert set(walked) == {name for name in ACTS if name.startswith("device-")}
    for name, (subject, parameters) in walked.items():
        await here.carry(name, subject, **parameters)
    assert here.replay().records == here.ledger.records
    with pytest.raises(WrongState):
        await here.propose(here.statement("device-work.import", "import-2", **IMPORT))
    with pytest.raises(WrongState):
        await here.propose(here.statement("device-work.rotate", "import-1", key=key))
