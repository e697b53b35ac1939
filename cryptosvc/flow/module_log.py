"""Hold a module's own log against the service's: what it signed and the log has not is recorded, and so is the look.

The entries are of kind `reconciled`; the watch makes alarms of them (rule `signature-outside-the-log`, G2.6(a)).
"""

from collections.abc import Iterable, Sequence

import orjson

from cryptosvc.core import module_log
from cryptosvc.core.canonical import JsonValue
from cryptosvc.core.errors import Malformed
from cryptosvc.core.life import NANOSECONDS
from cryptosvc.core.module_log import Counted, Unrecorded
from cryptosvc.core.query import Cursor, Query
from cryptosvc.core.record import Observed
from cryptosvc.core.registry import KeyRecord
from cryptosvc.core.said import moment
from cryptosvc.core.watch.alarm import printable
from cryptosvc.flow.ports import Clock, Ledger, Records, Search

FINDINGS_RECORDED = 1000
"""One by one; the entry that sums up counts the rest."""
_PAGE = 1024
_NOT_REACHED = "unavailable"


class ModuleLogReader:
    """Compares and records."""

    def __init__(self, records: Records, search: Search, ledger: Ledger, clock: Clock) -> None:
        self._records = records
        self._search = search
        self._ledger = ledger
        self._clock = clock

    async def compare(
        self, module: str, rows: Sequence[Counted], digest: str, tolerance: int
    ) -> list[Unrecorded]:
        """Find what this module signed and the log has not; each is an entry, and so is that somebody looked.

        Args:
            module: name of the module.
            rows: what it counted.
            digest: SHA-256 of the file, hex.
            tolerance: seconds, as `module_log.unrecorded`.

        Raises:
            Malformed: there are no rows.
            Unavailable, Corrupt: log or store.

        """
        if not rows:
            raise Malformed("the module's log has no signature in it", rule="module-log/empty", field="FILE")
        # 1 whose objects they are
        keys = [
            one
            for one in await self._records.of_kind("key-record")
            if isinstance(one, KeyRecord) and one.module == module
        ]
        by_id = {one.object_id: str(one.key_id) for one in keys}
        by_label = {one.label: str(one.key_id) for one in keys}
        # 2 what the log has of that time
        start = (min(one.at for one in rows) - tolerance) * NANOSECONDS
        stop = (max(one.at for one in rows) + tolerance + 1) * NANOSECONDS
        uses = await self._uses(module, max(start, 0), stop)
        # 3 compare
        found = module_log.unrecorded(rows, uses, by_id, by_label, tolerance)
        # 4 record
        facts = {
            "file": digest,
            "module": module,
            "signatures": str(len(rows)),
            "unrecorded": str(len(found)),
        }
        await self._ledger.record([self._entry("module-log", facts)])
        for one in found[:FINDINGS_RECORDED]:
            await self._ledger.record([self._entry("unrecorded-signature", _facts(module, digest, one))])
        return found

    async def _uses(self, module: str, start: int, stop: int) -> dict[str, list[int]]:
        query = Query.of({"kind": ["use"], "module": [module]}, start=start, stop=stop, oldest_first=True)
        uses: dict[str, list[int]] = {}
        cursor: Cursor | None = None
        while True:
            page = await self._search.page(query, cursor, _PAGE)
            for entry in _parsed(one.entry for one in page.entries):
                # an entry that came late tells again of a claim that was counted
                if entry.get("outcome") != _NOT_REACHED and "after_leaf" not in entry:
                    uses.setdefault(str(entry.get("key")), []).append(moment(entry) // NANOSECONDS)
            cursor = page.cursor
            if cursor is None:
                return uses

    def _entry(self, operation: str, facts: dict[str, str]) -> Observed:
        instant = self._clock.now()
        return Observed(
            kind="reconciled", operation=operation, at=instant.at, time_quality=instant.quality, facts=facts
        )


def _facts(module: str, digest: str, one: Unrecorded) -> dict[str, str]:
    found = {
        "at": str(one.counted.at),
        "file": digest,
        "label": printable(one.counted.label),
        "module": module,
        "object_id": one.counted.object_id.hex(),
        "row": str(one.counted.row),
    }
    return found | ({"key": one.key} if one.key else {})


def _parsed(entries: Iterable[bytes]) -> Iterable[dict[str, JsonValue]]:
    return (orjson.loads(one) for one in entries)
