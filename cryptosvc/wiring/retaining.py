"""`audit seal`, `archive`, `bring-back` and `retire`, on the machine of the service, beside its workers."""

import asyncio
import os
from collections.abc import Mapping, Sequence
from contextlib import closing
from datetime import datetime
from pathlib import Path

import orjson

from cryptosvc.adapters.store import archive as archives
from cryptosvc.adapters.store import postings
from cryptosvc.adapters.store import segments as stored
from cryptosvc.adapters.store.engine import open_store
from cryptosvc.adapters.store.indexer import index_store, log_identity
from cryptosvc.cli.actions import Document, Progress
from cryptosvc.config.settings import Settings
from cryptosvc.core import erased, lifecycle, segments
from cryptosvc.core.errors import Corrupt, Malformed, WrongState
from cryptosvc.core.life import NANOSECONDS, UnixSeconds
from cryptosvc.core.query import Query
from cryptosvc.core.registry import KeyRecord, KeyState
from cryptosvc.flow.observe import Observer
from cryptosvc.wiring import logkeys
from cryptosvc.wiring.backing_up import digest_of
from cryptosvc.wiring.reconciling import Floor, opened_floor

_PAGE = 100


class Retention:
    """Implements `cli.retention.Retention`."""

    def seal(
        self, config: Path, key_id: str, before: datetime, progress: Progress, *, rewrite: bool
    ) -> Document:
        """Seal a segment.

        Raises:
            Malformed: `segment/key`, `segment/before`.
            WrongState: the key is not active.
            Unavailable, Corrupt: as `stores.opened`; `segment/scrub`.

        """

        async def run() -> Document:
            async with opened_floor(config, "seal") as floor:
                return await _sealed(floor, key_id, int(before.timestamp()), progress, rewrite=rewrite)

        return asyncio.run(run())

    def retire(self, config: Path, key_id: str) -> Document:
        """Clear a deleted segment away.

        Raises:
            Malformed: `segment/key`.
            WrongState: `segment/not-destroyed`.
            Unavailable, Corrupt: as `seal`.

        """

        async def run() -> Document:
            async with opened_floor(config, "retire") as floor:
                return await _retired(floor, key_id)

        return asyncio.run(run())

    def archive(self, config: Path, key_id: str, out: Path) -> Document:
        """Move a segment to a file; raises as `seal`, and `segment/unwritable`."""

        async def run() -> Document:
            async with opened_floor(config, "archive") as floor:
                return await _archived(floor, key_id, out)

        return asyncio.run(run())

    def bring_back(self, config: Path, file: Path) -> Document:
        """Verify a file and put it back.

        Raises:
            Corrupt: `segment/archive` where the log has no such file, or it is not what it was.
            WrongState: `segment/destroyed`.

        """

        async def run() -> Document:
            async with opened_floor(config, "bring-back") as floor:
                return await _brought_back(floor, file)

        return asyncio.run(run())


async def _archived(floor: Floor, key_id: str, out: Path) -> Document:
    settings = floor.settings
    await _key(floor, key_id)
    stretches = [(start, stop) for _, start, stop in await _stretches(floor, key_id)]
    with closing(open_store(settings.store.url)) as store:
        made = await asyncio.to_thread(archives.write, store, out, settings.log.origin, key_id, stretches)
        # said before anything leaves the store: whoever finds the file finds what it is
        facts = {"key": key_id, "entries": str(made.entries), "sha256": made.sha256}
        said = await _say_leaves(floor, ("archived", "archive"), facts, made.whole)
        await asyncio.to_thread(archives.take_out, store, out)
    await asyncio.to_thread(stored.scrub, settings.store.url)
    return {"written_to": str(out), **facts, "recorded_as": said}


async def _brought_back(floor: Floor, file: Path) -> Document:
    settings = floor.settings
    key_id = await asyncio.to_thread(archives.key_of, file)
    key = await _key(floor, key_id)
    if key.state is KeyState.DESTROYED:
        raise WrongState(
            f"key {key_id} is destroyed, and with it what is in this file",
            rule="segment/destroyed",
            clause=segments.CLAUSE,
            field="FILE",
        )
    digest = (await asyncio.to_thread(digest_of, file)).hex()
    if not any(one["sha256"] == digest and one["key"] == key_id for one in await _facts(floor, "archived")):
        raise Corrupt(
            "the log has no entry of this file, or it is not what it was when it was archived",
            rule="segment/archive",
            clause=segments.CLAUSE,
        )
    data_key = floor.hsm.head_mac(key).mac(segments.derivation(settings.log.origin, key_id))
    with closing(open_store(settings.store.url)) as store:
        await asyncio.to_thread(archives.verify, store, file, settings.log.origin, key_id, data_key)
        count = await asyncio.to_thread(archives.put_back, store, file)
    facts = {"key": key_id, "entries": str(count), "sha256": digest}
    receipt = await Observer(floor.store.ledger, floor.clock).happened("returned", "bring-back", facts, {})
    return {**facts, "recorded_as": receipt.leaf_index}


async def _sealed(floor: Floor, key_id: str, before: int, progress: Progress, *, rewrite: bool) -> Document:
    settings, at = floor.settings, floor.clock.now().at // NANOSECONDS
    if before > at:
        raise Malformed("what is sealed is past", rule="segment/before", field="--before")
    # 1 the key, in force
    key = await _key(floor, key_id)
    state, _ = lifecycle.effective(key, UnixSeconds(at))
    if state is not KeyState.ACTIVE:
        raise WrongState(
            f"key {key_id} is {state}; a segment is sealed under an active one",
            rule="segment/key-state",
            clause=segments.CLAUSE,
            field="KEY",
        )
    data_key = floor.hsm.head_mac(key).mac(segments.derivation(settings.log.origin, key_id))
    # 2 from where the last one ended, what is old enough
    start = max((stop for _, _, stop in await _stretches(floor, "")), default=0)
    size = (await floor.store.ledger.head()).size
    with closing(open_store(settings.store.url)) as store:
        done = await asyncio.to_thread(
            stored.seal,
            store,
            start,
            size,
            before * NANOSECONDS,
            key_id,
            data_key,
            lambda reached: progress("sealing", reached, size),
        )
    await asyncio.to_thread(stored.scrub, settings.store.url, rewrite=rewrite)
    # 3 said in the log: of each key, since a seal that was interrupted may have been under another
    said = 0
    for name, found in {key_id: stored.Sealed(), **done.sealed}.items():
        facts = {
            "key": name,
            "start": str(done.start),
            "stop": str(done.stop),
            "entries": str(found.entries),
        }
        said = await _say_leaves(floor, ("sealed", "seal"), facts, found.whole)
    mine = done.sealed.get(key_id, stored.Sealed())
    return {
        "key": key_id,
        "start": str(done.start),
        "stop": str(done.stop),
        "entries": str(mine.entries),
        "whole": str(sum(stop - start for start, stop in mine.whole)),
        "recorded_as": said,
    }


async def _say_leaves(
    floor: Floor, what: tuple[str, str], facts: Mapping[str, str], whole: Sequence[erased.Run]
) -> int:
    """Record what was done with entries that are whole in it, under a kind and an operation; the newest of the entries made.

    What one of them has no room for is told in several, and the count of `entries` in the first.
    """
    observer, said = Observer(floor.store.ledger, floor.clock), 0
    for number, leaves in enumerate([*erased.emit(whole)] or [""]):
        count = {"entries": "0"} if number else {}
        receipt = await observer.happened(*what, {**facts, **count, "leaves": leaves}, {})
        said = receipt.leaf_index
    return said


async def _retired(floor: Floor, key_id: str) -> Document:
    settings = floor.settings
    key = await _key(floor, key_id)
    if key.state is not KeyState.DESTROYED:
        raise WrongState(
            f"key {key_id} is {key.state}; propose key.destroy: that is what deletes the segment",
            rule="segment/not-destroyed",
            clause=segments.CLAUSE,
            field="KEY",
        )
    entries = 0
    with closing(open_store(settings.store.url)) as store:
        for _, start, stop in await _stretches(floor, key_id):
            entries += await asyncio.to_thread(stored.empty, store, start, stop, key_id)
    await asyncio.to_thread(_begin_index_anew, settings)
    await asyncio.to_thread(stored.scrub, settings.store.url)
    facts = {"key": key_id, "entries": str(entries)}
    receipt = await Observer(floor.store.ledger, floor.clock).happened("retired", "retire", facts, {})
    return {**facts, "recorded_as": receipt.leaf_index}


async def _key(floor: Floor, key_id: str) -> KeyRecord:
    """A key of segments as the registry has it."""
    key = await floor.store.registry.record("key-record", key_id)
    expected = logkeys.log_key(floor.settings, key_id)
    if (
        not isinstance(key, KeyRecord)
        or key_id == floor.settings.log.head_key
        or (key.key_class, key.module, key.label, key.object_id)
        != (segments.KEY_CLASS, expected.module, expected.label, expected.object_id)
    ):
        raise Malformed(
            f"{key_id} is no key of a segment: order and generate one of class {segments.KEY_CLASS}, on module "
            f"{expected.module}; the key of the log's head is none",
            rule="segment/key",
            field="KEY",
        )
    return key


async def _stretches(floor: Floor, key_id: str) -> Sequence[tuple[str, int, int]]:
    """(key, start, stop) of what was sealed, as the log says; under one key where it is named."""
    found = {
        (one["key"], int(one["start"]), int(one["stop"]))
        for one in await _facts(floor, "sealed")
        if key_id in ("", one["key"])
    }
    return sorted(found, key=lambda one: one[1:])


async def _facts(floor: Floor, kind: str) -> Sequence[Mapping[str, str]]:
    """What every entry of a kind says."""
    found: list[Mapping[str, str]] = []
    cursor = None
    while True:
        page = await floor.store.search.page(Query.of({"kind": [kind]}), cursor, _PAGE)
        found += [orjson.loads(one.entry)["facts"] for one in page.entries]
        cursor = page.cursor
        if cursor is None:
            return found


def _begin_index_anew(settings: Settings) -> None:
    """The query index holds keyed digests of values: what is begun anew has none of those that were deleted."""
    url = settings.store.url
    with closing(open_store(url)) as store, closing(index_store(url)) as index:
        with store.reading() as session:
            log = log_identity(session)
        assert log is not None  # a store that was opened has a genesis
        with index.writing() as session:
            postings.begin(session, log, os.urandom(postings.TERM_KEY_OCTETS))
