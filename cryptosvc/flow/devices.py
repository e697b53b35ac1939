"""Works on device keys: rotate, re-wrap, destroy; `device_import.py` imports. Each was approved by a quorum.

A step is durable as a whole: it reads the rows it is about, has the module do its part, and changes the store only if nothing of the registry has
changed meanwhile; otherwise it is decided anew. A work that was killed goes on where its record says it is.
"""

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

from cryptosvc.core import lifecycle, rewound
from cryptosvc.core.device_keys import (
    STORAGE_BINDING,
    STORAGE_WRAPPING,
    DeviceKey,
    DeviceKeyName,
    RowState,
    SealedKeyRecord,
    require_opens,
)
from cryptosvc.core.device_records import DeviceWorkRecord, WorkKind
from cryptosvc.core.device_work import CLAUSE, require_open, stepped
from cryptosvc.core.errors import Conflict, Malformed, Refusal, WrongState
from cryptosvc.core.life import NANOSECONDS, Event, UnixSeconds
from cryptosvc.core.names import Eui64, KeyId
from cryptosvc.core.registry import KeyRecord, KeyState
from cryptosvc.flow.ports import Clock, DeviceKeyChange, DeviceKeys, Keys, Records, Sealing

_TRIES = 8
_ROWS_AT_ONCE = 2048
_Answer = TypeVar("_Answer")


class DeviceKeeper:
    """Carries works on device keys out."""

    def __init__(
        self,
        records: Records,
        keys: Keys,
        devices: DeviceKeys,
        sealing: Sealing,
        clock: Clock,
    ) -> None:
        self._records = records
        self._keys = keys
        self._devices = devices
        self._sealing = sealing
        self._clock = clock

    # Rotation of one key

    async def rotate(self, work_id: str) -> DeviceKey:
        """Make the next version of a key in the module; it takes the old one's place with `confirm`.

        Raises:
            WrongState: there is no such key in use, or its next version is there already.

        """

        async def step() -> DeviceKey:
            work, generation, rows = await self._subject(work_id, WorkKind.ROTATE)
            current = _one(rows, RowState.CURRENT, work)
            if any(row.state is RowState.NEXT for row in rows):
                raise WrongState(
                    f"the next version of {work.subject} is there already; confirm it",
                    rule="device-key/next",
                    clause=CLAUSE,
                )
            epoch, binding = await self.storage()
            bare = replace(
                current,
                version=max(row.version for row in rows) + 1,
                state=RowState.NEXT,
                work=work_id,
                check_value=b"",
                blob=b"",
                tag=b"",
            )
            (made,) = await self._sealing.generate([bare], epoch, binding)
            facts = {"from": str(current.version), "to": str(made.version)}
            after = stepped(work, position=work.position + 1, accepted=work.accepted + 1, facts=facts)
            await self._devices.change(DeviceKeyChange([made], (), after, generation))
            return made

        return await again(step)

    async def confirm(self, work_id: str) -> DeviceKey:
        """Put the next version, which the Device uses by now, in the old one's place."""

        async def step() -> DeviceKey:
            work, generation, rows = await self._subject(work_id, WorkKind.ROTATE)
            following = replace(_one(rows, RowState.NEXT, work), state=RowState.CURRENT)
            put = [following, *retired(rows, following.kind)]
            after = stepped(work, position=work.position + 1, accepted=work.accepted, done=True)
            await self._devices.change(DeviceKeyChange(put, (), after, generation))
            return following

        return await again(step)

    # Epochs

    async def re_wrap(self, work_id: str) -> DeviceWorkRecord:
        """Wrap some rows of the epoch that is left anew; call it until the work is done.

        Raises:
            WrongState: there is no other epoch in force.
            Corrupt: a row is not what the log proves, or its octets are not bound to it.

        """

        async def step() -> DeviceWorkRecord:
            work = await self.work(work_id, WorkKind.RE_WRAP)
            epoch, binding = await self.storage()
            if epoch.key_id == work.subject:
                raise WrongState(
                    f"{epoch.key_id} is the epoch in force; have another storage-wrapping key take its place first",
                    rule="device-key/no-epoch",
                    clause=CLAUSE,
                )
            reached = dict(work.facts).get("reached", "")
            generation, rows = await self._devices.page(
                Eui64.parse(reached) if reached else None, _ROWS_AT_ONCE
            )
            moved = await self._moved(
                [key for key in rows if key.row.wrapping == work.subject], epoch, binding
            )
            done = not rows
            store = await self._devices.store_record() if done else None
            if store is not None and dict(store.needed).get(work.subject):
                done, reached = False, ""  # rows came behind: once more from the first
            after = stepped(
                work,
                position=work.position + len(rows),
                accepted=work.accepted + len(moved),
                facts={"reached": str(rows[-1].row.device) if rows else reached, "epoch": str(epoch.key_id)},
                done=done,
            )
            await self._devices.change(DeviceKeyChange(moved, (), after, generation))
            return after

        return await again(step)

    async def _moved(
        self, keys: Sequence[SealedKeyRecord], epoch: KeyRecord, binding: KeyRecord
    ) -> list[DeviceKey]:
        moved: list[DeviceKey] = []
        for key in keys:
            require_opens(key)
            rewound.require_carries(key.wrapping, epoch)
        for made in await self._sealing.re_wrap(keys, epoch, binding) if keys else ():
            if isinstance(made, Refusal):
                raise made
            moved.append(made)
        return moved

    # Destruction

    async def destroy(self, work_id: str) -> DeviceWorkRecord:
        """Remove every version of a key, and say which epochs must go before no copy of it can be opened."""

        async def step() -> DeviceWorkRecord:
            work, generation, rows = await self._subject(work_id, WorkKind.DESTROY)
            if not rows:
                raise _none(work)
            view = await self._keys.keys_of_classes(frozenset({STORAGE_WRAPPING}))
            epochs = sorted(key.key_id for key in view.keys.values() if key.state is not KeyState.DESTROYED)
            after = stepped(
                work,
                position=work.position + len(rows),
                accepted=work.accepted + len(rows),
                facts={
                    "versions": ",".join(str(row.version) for row in rows),
                    "rows": ",".join(row.digest.hex() for row in rows),
                    "epochs": ",".join(epochs),
                },
                done=True,
            )
            await self._devices.change(
                DeviceKeyChange((), tuple(row.name for row in rows), after, generation)
            )
            return after

        return await again(step)

    # What works rest on

    async def work(self, work_id: str, kind: WorkKind) -> DeviceWorkRecord:
        """An approved work of a kind that is not over; Malformed where there is none of the id, else as `require_open`."""
        found = await self._records.record("device-work-record", work_id)
        if not isinstance(found, DeviceWorkRecord):
            raise Malformed(
                f"there is no work {work_id!r}; propose one, as device-work.{kind}",
                rule="device-work/unknown",
                field="work",
            )
        require_open(found, kind)
        return found

    async def _subject(
        self, work_id: str, kind: WorkKind
    ) -> tuple[DeviceWorkRecord, int, Sequence[DeviceKey]]:
        work = await self.work(work_id, kind)
        name = DeviceKeyName.parse(KeyId(work.subject))
        generation, rows = await self._devices.of_devices({name.device})
        return work, generation, [row for row in rows[name.device] if row.kind == name.kind]

    async def storage(self) -> tuple[KeyRecord, KeyRecord]:
        """The epoch in force, and the key that binds rows."""
        return await self.active(STORAGE_WRAPPING), await self.active(STORAGE_BINDING)

    async def active(self, key_class: str, wanted: KeyId | None = None) -> KeyRecord:
        """The active key of a class that was activated last, or the named one."""
        at = UnixSeconds(self._clock.now().at // NANOSECONDS)
        view: Mapping[KeyId, KeyRecord] = (await self._keys.keys_of_classes(frozenset({key_class}))).keys
        found = [
            key
            for key in view.values()
            if lifecycle.effective(key, at)[0] is KeyState.ACTIVE and wanted in (None, key.key_id)
        ]
        if not found:
            raise WrongState(
                f"there is no active {key_class} key{'' if wanted is None else f' {wanted}'}; order, generate and activate one",
                rule="device-key/no-epoch" if wanted is None else "device-file/transport",
                clause=CLAUSE,
            )
        return max(found, key=lambda key: (key.life.when(Event.ACTIVATE) or 0, key.key_id))


def retired(rows: Sequence[DeviceKey], kind: str) -> Iterator[DeviceKey]:
    """The row of a kind that is in use, as it is once another takes its place."""
    return (
        replace(row, state=RowState.RETIRED)
        for row in rows
        if row.kind == kind and row.state is RowState.CURRENT
    )


def _one(rows: Sequence[DeviceKey], state: RowState, work: DeviceWorkRecord) -> DeviceKey:
    for row in rows:
        if row.state is state:
            return row
    raise _none(work)


def _none(work: DeviceWorkRecord) -> WrongState:
    return WrongState(
        f"there is no such key {work.subject} in the store", rule="device-key/unknown", clause=CLAUSE
    )


async def again(step: Callable[[], Awaitable[_Answer]]) -> _Answer:
    """Take a step anew where the registry moved while it was decided."""
    for _ in range(_TRIES):
        try:
            return await step()
        except Conflict as conflict:
            if conflict.rule != "registry/moved":
                raise
    raise Conflict("the registry changes too fast for this step; ask again", rule="registry/moved")
