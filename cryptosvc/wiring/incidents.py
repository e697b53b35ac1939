"""`audit incident`: evidence, alarms and a page of words in one folder, and the entry that says so.

1. The evidence is made: a bundle of what was asked for, or an export of everything.
2. The alarms of that time are read from the log.
3. The page is written, with who is to be notified by when, and the SHA-256 of every file.
4. An entry of kind `incident` is recorded with the digest of those, and its receipt put beside them.
"""

import asyncio
import hashlib
from pathlib import Path

import orjson

from cryptosvc.cli.actions import Connection, Document, Progress
from cryptosvc.cli.bundling import Bundling
from cryptosvc.cli.incidents import Declared
from cryptosvc.cli.inquiry import Asked
from cryptosvc.core import incident
from cryptosvc.core.errors import Malformed
from cryptosvc.core.incident import Incident
from cryptosvc.core.life import NANOSECONDS, UnixSeconds
from cryptosvc.core.query import LATEST, Cursor, Query
from cryptosvc.core.watch.alarm import KIND as ALARM
from cryptosvc.core.watch.alarm import printable
from cryptosvc.flow.observe import Observer
from cryptosvc.wiring import exporting
from cryptosvc.wiring.inquiring import Inquiries
from cryptosvc.wiring.reconciling import Floor, opened_floor

MOST_ALARMS = 1000
"""On the page; the file has all."""
_PAGE = 512
_BUNDLE, _EXPORT, _ALARMS, _WORDS, _SUMS = (
    "evidence.bundle",
    "log.export",
    "alarms.jsonl",
    "incident.md",
    "SHA256SUMS",
)
_TITLE_CHARACTERS = 200


class Incidents:
    """Implements `cli.incidents.Incidents`."""

    def declare(
        self, config: Path, declared: Declared, connection: Connection | None, progress: Progress
    ) -> Document:
        """See there.

        Raises:
            Malformed: the folder is there already, or the title is none.
            CryptosvcError: as the bundle, the export or the log.

        """
        if not declared.title.strip() or printable(declared.title) != declared.title:
            raise Malformed(
                f"a title is 1 to {_TITLE_CHARACTERS} printable ASCII characters",
                rule="incident/title",
                field="TITLE",
            )
        try:
            declared.out.mkdir(mode=0o700)
        except OSError as error:
            raise Malformed(
                f"cannot make {declared.out}: {error.strerror}", rule="incident/folder", field="--out"
            ) from None
        # 1 the evidence
        if connection is not None and declared.log_key is not None:
            asked = Asked(
                conditions={"key": declared.keys} if declared.keys else {},
                start=declared.start,
                stop=declared.stop,
                oldest_first=True,
            )
            wanted = Bundling(
                out=declared.out / _BUNDLE,
                log_key=declared.log_key,
                since=None,
                chain=None,
                complete=False,
                without=(),
            )
            Inquiries().bundle(connection, asked, wanted, progress)
        else:
            exporting.export(config, declared.out / _EXPORT, progress)

        async def run() -> Document:
            async with opened_floor(config, "incident") as floor:
                return await _told(floor, declared)

        return asyncio.run(run())


async def _told(floor: Floor, declared: Declared) -> Document:
    settings = floor.settings
    # 2 the alarms
    query = Query.of({"kind": [ALARM]}, start=declared.start, stop=declared.stop or LATEST, oldest_first=True)
    shown: list[tuple[int, str, str, str]] = []
    count = 0
    with (declared.out / _ALARMS).open("xb") as file:
        cursor: Cursor | None = None
        while True:
            page = await floor.store.search.page(query, cursor, _PAGE)
            for one in page.entries:
                count += 1
                file.write(b'{"leaf_index":%d,"entry":%b}\n' % (one.leaf_index, one.entry))
                if len(shown) < MOST_ALARMS:
                    facts = orjson.loads(one.entry)["facts"]
                    rule, severity, clause = (str(facts.get(name, "")) for name in _SHOWN)
                    shown.append((one.leaf_index, rule, severity, clause))
            cursor = page.cursor
            if cursor is None:
                break
    # 3 the page
    head = await floor.store.ledger.head()
    known_at = UnixSeconds((declared.known_at or floor.clock.now().at) // NANOSECONDS)
    plan = settings.incident.plan()
    found = Incident(
        title=declared.title,
        said=declared.said.strip(),
        clause=settings.incident.clause,
        known_at=known_at,
        start=declared.start // NANOSECONDS,
        stop=declared.stop // NANOSECONDS,
        keys=declared.keys,
        origin=settings.log.origin,
        system=settings.deployment.system,
        environment=settings.deployment.environment.value,
        entries=head.size,
        root=head.root.hex(),
        alarms=tuple(shown),
        alarms_left_out=count - len(shown),
        evidence=_digests(declared.out),
        notices=incident.notices_of(plan, known_at),
    )
    (declared.out / _WORDS).write_text(incident.page(found), encoding="utf-8")
    sums = "".join(f"{digest}  {name}\n" for name, digest in sorted(_digests(declared.out).items()))
    (declared.out / _SUMS).write_text(sums)
    # 4 the entry
    digest = hashlib.sha256(sums.encode()).hexdigest()
    facts = {
        "alarms": str(count),
        "clause": found.clause,
        "from": str(found.start),
        "known_at": str(known_at),
        "notify": ", ".join(printable(f"{one.who} by {one.by}") for one in found.notices),
        "pack": digest,
        "to": str(found.stop),
    }
    withheld = {"incident": declared.title}
    receipt = await Observer(floor.store.ledger, floor.clock).happened("incident", "declare", facts, withheld)
    return {
        "entry": receipt.leaf_index,
        "pack": str(declared.out),
        "pack_sha256": digest,
        "alarms": count,
        "notify": [
            {"who": one.who, "how": one.how, "clause": one.clause, "by": one.by} for one in found.notices
        ],
    }


_SHOWN = ("rule", "severity", "clause")


def _digests(folder: Path) -> dict[str, str]:
    """SHA-256 of each file of the pack, hex."""
    found: dict[str, str] = {}
    for path in sorted(folder.iterdir()):
        with path.open("rb") as file:
            found[path.name] = hashlib.file_digest(file, "sha256").hexdigest()
    return found
