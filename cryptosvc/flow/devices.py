"""Works on device keys: import, rotate, re-wrap, destroy. Each was approved by a quorum; each step is durable as a whole.

A step reads the rows it is about, has the module do its part, and changes the store only if nothing of the registry has
changed meanwhile; otherwise it is decided anew. A work that was killed goes on where its record says it is.
"""

from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from cryptosvc.core import device_file, lifecycle
from cryptosvc.core.device_file import Line, Manifest
from cryptosvc.core.device_keys import (
    STORAGE_BINDING,
    STORAGE_WRAPPING,
    TRANSPORT,
    DeviceKey,
    DeviceKeyName,
    RowState,
    SealedKeyRecord,
)
from cryptosvc.core.device_records import DeviceSourceRecord, DeviceWorkRecord, WorkKind
from cryptosvc.core.device_work import CLAUSE, require_open, stepped
from cryptosvc.core.errors import Conflict, Malformed, Refusal, WrongState
from cryptosvc.core.life import NANOSECONDS, Event, UnixSeconds
from cryptosvc.core.names import Environment, Eui64, KeyId
from cryptosvc.core.registry import KeyRecord, KeyState
from cryptosvc.flow.ports import Clock, DeviceKeyChange, DeviceKeys, FileKey, Keys, Records, Sealing

_TRIES = 8
_ROWS_AT_ONCE = 2048
_Answer = TypeVar("_Answer")


@dataclass(frozen=True, slots=True)
class BadLine:
    """A line of an import that is no key to be had.

    Args:
        number: of the line in the file; the manifest is line 1.
        rule: stable name of what is wrong.
        why: in words.

    """

    number: int
    rule: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Import:
    """An import under way.

    Args:
        work: its record as it is.
        manifest: of the file.
        file_key: of the file.

    """

    work: DeviceWorkRecord
    manifest: Manifest
    file_key: FileKey


class DeviceKeeper:
    """Carries works on device keys out."""

    def __init__(
        self,
        records: Records,
        keys: Keys,
        devices: DeviceKeys,
        sealing: Sealing,
        clock: Clock,
        environment: Environment,
        kinds: Collection[str],
    ) -> None:
        self._records = records
        self._keys = keys
        self._devices = devices
        self._sealing = sealing
        self._clock = clock
        self._environment = environment
        self._kinds = kinds

    # Import

    async def begin_import(self, work_id: str, first_line: bytes) -> Import:
        """Read the manifest of a file for an import that was approved; raises as `device_file.read_manifest`."""
        work = await self._work(work_id, WorkKind.IMPORT)
        source = await self._records.record("device-source-record", work.source)
        if not isinstance(source, DeviceSourceRecord):
            raise Malformed(f"there is no source {work.source}", rule="device-source/unknown")
        manifest = device_file.read_manifest(first_line, work, source, self._environment)
        transport = await self._active(TRANSPORT, manifest.transport)
        file_key = FileKey(transport, manifest.file_key, manifest.oaep)
        return Import(work=work, manifest=manifest, file_key=file_key)

    async def look_over(
        self, found: Import, lines: Sequence[bytes], first: int, seen: set[bytes]
    ) -> list[BadLine]:
        """Try lines in the module and against the store, and change nothing; what is bad of them.

        Args:
            found: the import as it is.
            lines: without their ends.
            first: number of the first of them in the file.
            seen: slots of keys that stood before in the file; those of these lines are added.

        """
        epoch, binding = await self._storage()
        _, bad, _ = await self._sealed(found, lines, first, epoch, binding, seen)
        return bad

    async def take(self, found: Import, lines: Sequence[bytes], first: int) -> tuple[Import, list[BadLine]]:
        """Import the lines that come next, and say which were bad.

        Args:
            found: the import as it is.
            lines: without their ends; the first of them is key number `work.position` of the file, from 0.
            first: number of that line in the file.

        Raises:
            Conflict: a line is bad, and the work was approved to stop there.

        """

        async def step() -> tuple[Import, list[BadLine]]:
            epoch, binding = await self._storage()
            rows, bad, generation = await self._sealed(found, lines, first, epoch, binding)
            if bad and found.work.on_bad_line == "stop":
                raise Conflict(f"line {bad[0].number} is bad: {bad[0].why}", rule=bad[0].rule, clause=CLAUSE)
            work, accepted = found.work, len(lines) - len(bad)
            refused = int(dict(work.facts).get("refused", "0")) + len(bad)
            position = work.position + len(lines)
            after = stepped(
                work,
                position=position,
                accepted=work.accepted + accepted,
                facts={"refused": str(refused), "transport": str(found.manifest.transport)},
                done=position == work.keys,
            )
            await self._devices.change(DeviceKeyChange(rows, (), after, generation))
            return replace(found, work=after), bad

        return await _again(step)

    async def _sealed(
        self,
        found: Import,
        lines: Sequence[bytes],
        first: int,
        epoch: KeyRecord,
        binding: KeyRecord,
        seen: set[bytes] | None = None,
    ) -> tuple[list[DeviceKey], list[BadLine], int]:
        """Rows to put, bad lines, and the generation at which the store was looked at."""
        seen = set() if seen is None else seen
        bad: list[BadLine] = []
        read: list[tuple[int, Line]] = []
        for number, octets in enumerate(lines, first):
            try:
                line = device_file.read_line(octets, found.work, self._kinds)
                if line.row.name.slot in seen:
                    raise _there(line.row.name, "twice in the file")
                seen.add(line.row.name.slot)
                read.append((number, line))
            except Refusal as refusal:
                bad.append(BadLine(number, refusal.rule, refusal.message))
        generation, rows = await self._devices.of_devices({line.row.device for _, line in read})
        fresh: list[tuple[int, Line]] = []
        for number, line in read:
            versions = [row.version for row in rows[line.row.device] if row.kind == line.row.kind]
            if versions and max(versions) >= line.row.version:
                there = _there(line.row.name, f"in the store already, at version {max(versions)}")
                bad.append(BadLine(number, there.rule, there.message))
            else:
                fresh.append((number, line))
        sealed = await self._sealing.arrive(found.file_key, [line for _, line in fresh], epoch, binding)
        put: list[DeviceKey] = []
        for (number, line), made in zip(fresh, sealed, strict=True):
            if isinstance(made, Refusal):
                bad.append(BadLine(number, made.rule, made.message))
            else:
                put += [made, *_retired(rows[line.row.device], line.row.kind)]
        return put, sorted(bad, key=lambda one: one.number), generation

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
            epoch, binding = await self._storage()
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

        return await _again(step)

    async def confirm(self, work_id: str) -> DeviceKey:
        """Put the next version, which the Device uses by now, in the old one's place."""

        async def step() -> DeviceKey:
            work, generation, rows = await self._subject(work_id, WorkKind.ROTATE)
            following = replace(_one(rows, RowState.NEXT, work), state=RowState.CURRENT)
            put = [following, *_retired(rows, following.kind)]
            after = stepped(work, position=work.position + 1, accepted=work.accepted, done=True)
            await self._devices.change(DeviceKeyChange(put, (), after, generation))
            return following

        return await _again(step)

    # Epochs

    async def re_wrap(self, work_id: str) -> DeviceWorkRecord:
        """Wrap some rows of the epoch that is left anew; call it until the work is done.

        Raises:
            WrongState: there is no other epoch in force.
            Corrupt: a row is not what the log proves, or its octets are not bound to it.

        """

        async def step() -> DeviceWorkRecord:
            work = await self._work(work_id, WorkKind.RE_WRAP)
            epoch, binding = await self._storage()
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

        return await _again(step)

    async def _moved(
        self, keys: Sequence[SealedKeyRecord], epoch: KeyRecord, binding: KeyRecord
    ) -> list[DeviceKey]:
        moved: list[DeviceKey] = []
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

        return await _again(step)

    # What works rest on

    async def _work(self, work_id: str, kind: WorkKind) -> DeviceWorkRecord:
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
        work = await self._work(work_id, kind)
        name = DeviceKeyName.parse(KeyId(work.subject))
        generation, rows = await self._devices.of_devices({name.device})
        return work, generation, [row for row in rows[name.device] if row.kind == name.kind]

    async def _storage(self) -> tuple[KeyRecord, KeyRecord]:
        """The epoch in force, and the key that binds rows."""
        return await self._active(STORAGE_WRAPPING), await self._active(STORAGE_BINDING)

    async def _active(self, key_class: str, wanted: KeyId | None = None) -> KeyRecord:
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


def _retired(rows: Sequence[DeviceKey], kind: str) -> Iterator[DeviceKey]:
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


def _there(name: DeviceKeyName, where: str) -> Conflict:
    return Conflict(f"{name} is {where}", rule="device-key/exists", clause=CLAUSE)


async def _again(step: Callable[[], Awaitable[_Answer]]) -> _Answer:
    """Take a step anew where the registry moved while it was decided."""
    for _ in range(_TRIES):
        try:
            return await step()
        except Conflict as conflict:
            if conflict.rule != "registry/moved":
                raise
    raise Conflict("the registry changes too fast for this step; ask again", rule="registry/moved")
