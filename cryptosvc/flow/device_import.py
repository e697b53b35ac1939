"""Import device keys from a signed and encrypted file, part by part; each part is one durable step of an approved work.

Two halves, so that the module may work on the next part while the store takes this one: `prepare` reads lines and has the
module wrap their keys anew; `take` holds them against the store and puts them there. Nothing is believed of a file that
`device_file.read_manifest` did not find signed and approved.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from cryptosvc.core import device_file
from cryptosvc.core.device_file import Line, Manifest
from cryptosvc.core.device_keys import TRANSPORT, DeviceKey, DeviceKeyName
from cryptosvc.core.device_records import DeviceSourceRecord, DeviceWorkRecord, WorkKind
from cryptosvc.core.device_work import CLAUSE, stepped
from cryptosvc.core.errors import Conflict, Malformed, Refusal
from cryptosvc.core.names import Environment, KeyId
from cryptosvc.flow.devices import DeviceKeeper, again, retired
from cryptosvc.flow.ports import DeviceKeyChange, DeviceKeys, FileKey, Records, Sealing


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """Lines whose keys the module has wrapped anew.

    Args:
        lines: the lines as they were, without their ends.
        first: number of the first of them in the file.
        rows: number of a line → the row it makes.
        bad: lines that make none.
        storage: ids of the storage keys they are under.

    """

    lines: Sequence[bytes]
    first: int
    rows: Sequence[tuple[int, DeviceKey]]
    bad: Sequence[BadLine]
    storage: tuple[KeyId, KeyId]


class DeviceImporter:
    """Carries imports out."""

    def __init__(
        self,
        records: Records,
        keeper: DeviceKeeper,
        devices: DeviceKeys,
        sealing: Sealing,
        environment: Environment,
        kinds: Collection[str],
    ) -> None:
        self._records = records
        self._keeper = keeper
        self._devices = devices
        self._sealing = sealing
        self._environment = environment
        self._kinds = kinds

    async def begin(self, work_id: str, first_line: bytes) -> Import:
        """Read the manifest of a file for an import that was approved; raises as `device_file.read_manifest`."""
        work = await self._keeper.work(work_id, WorkKind.IMPORT)
        source = await self._records.record("device-source-record", work.source)
        if not isinstance(source, DeviceSourceRecord):
            raise Malformed(f"there is no source {work.source}", rule="device-source/unknown")
        manifest = device_file.read_manifest(first_line, work, source, self._environment)
        transport = await self._keeper.active(TRANSPORT, manifest.transport)
        file_key = FileKey(transport, manifest.file_key, manifest.oaep)
        return Import(work=work, manifest=manifest, file_key=file_key)

    async def prepare(
        self, found: Import, lines: Sequence[bytes], first: int, seen: set[bytes] | None = None
    ) -> Prepared:
        """Read lines, and have the module wrap their keys anew; the store is not asked.

        Args:
            found: the import.
            lines: without their ends.
            first: number of the first of them in the file.
            seen: slots of keys that stood before in the file; those of these lines are added.

        """
        seen = set() if seen is None else seen
        epoch, binding = await self._keeper.storage()
        bad: list[BadLine] = []
        read: list[tuple[int, Line]] = []
        for number, octets in enumerate(lines, first):
            try:
                line = device_file.read_line(octets, found.work, self._kinds)
                if (slot := line.row.name.slot) in seen:
                    raise _there(line.row.name, "twice in the file")
                seen.add(slot)
                read.append((number, line))
            except Refusal as refusal:
                bad.append(BadLine(number, refusal.rule, refusal.message))
        sealed = await self._sealing.arrive(found.file_key, [line for _, line in read], epoch, binding)
        rows: list[tuple[int, DeviceKey]] = []
        for (number, _), made in zip(read, sealed, strict=True):
            if isinstance(made, Refusal):
                bad.append(BadLine(number, made.rule, made.message))
            else:
                rows.append((number, made))
        return Prepared(lines=lines, first=first, rows=rows, bad=bad, storage=(epoch.key_id, binding.key_id))

    async def look_over(self, prepared: Prepared) -> list[BadLine]:
        """Hold lines against the store, and change nothing; what is bad of them, in their order."""
        _, bad, _ = await self._against_store(prepared)
        return bad

    async def take(self, found: Import, prepared: Prepared) -> tuple[Import, list[BadLine]]:
        """Put the keys of the lines that come next into the store, and say which lines were bad.

        Args:
            found: the import as it is.
            prepared: lines of which the first is key number `work.position` of the file, from 0.

        Raises:
            Conflict: a line is bad, and the work was approved to stop there.

        """

        async def step() -> tuple[Import, list[BadLine]]:
            ready = prepared
            epoch, binding = await self._keeper.storage()
            if ready.storage != (epoch.key_id, binding.key_id):  # another epoch began meanwhile
                ready = await self.prepare(found, prepared.lines, prepared.first)
            rows, bad, generation = await self._against_store(ready)
            if bad and found.work.on_bad_line == "stop":
                raise Conflict(f"line {bad[0].number} is bad: {bad[0].why}", rule=bad[0].rule, clause=CLAUSE)
            work, accepted = found.work, len(ready.lines) - len(bad)
            refused = int(dict(work.facts).get("refused", "0")) + len(bad)
            position = work.position + len(ready.lines)
            after = stepped(
                work,
                position=position,
                accepted=work.accepted + accepted,
                facts={"refused": str(refused), "transport": str(found.manifest.transport)},
                done=position == work.keys,
            )
            await self._devices.change(DeviceKeyChange(rows, (), after, generation))
            return replace(found, work=after), bad

        return await again(step)

    async def _against_store(self, prepared: Prepared) -> tuple[list[DeviceKey], list[BadLine], int]:
        """Rows to put, bad lines, and the generation at which the store was looked at."""
        generation, there = await self._devices.of_devices({row.device for _, row in prepared.rows})
        put: list[DeviceKey] = []
        bad = list(prepared.bad)
        for number, row in prepared.rows:
            versions = [one.version for one in there[row.device] if one.kind == row.kind]
            if versions and max(versions) >= row.version:
                taken = _there(row.name, f"in the store already, at version {max(versions)}")
                bad.append(BadLine(number, taken.rule, taken.message))
            else:
                put += [row, *retired(there[row.device], row.kind)]
        return put, sorted(bad, key=lambda one: one.number), generation


def _there(name: DeviceKeyName, where: str) -> Conflict:
    return Conflict(f"{name} is {where}", rule="device-key/exists", clause=CLAUSE)
