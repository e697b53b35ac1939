"""The store as every process opens it: ledger and registry over one database, the head under the module-held key."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from cryptosvc.adapters.clock import SystemClock
from cryptosvc.adapters.hsm.hsm import Pkcs11Hsm
from cryptosvc.adapters.store.anchor import Anchor
from cryptosvc.adapters.store.engine import missing_migrations, open_store
from cryptosvc.adapters.store.indexer import Indexer, index_store
from cryptosvc.adapters.store.lead import PostgresLead
from cryptosvc.adapters.store.ledger import Ledger
from cryptosvc.adapters.store.registry import StoredRegistry
from cryptosvc.adapters.store.search import Searcher
from cryptosvc.adapters.store.segments import SegmentKeys
from cryptosvc.config.settings import Settings
from cryptosvc.core import segments
from cryptosvc.core.errors import Corrupt, Forbidden, Unavailable
from cryptosvc.core.founding import Founding
from cryptosvc.core.record import Scope
from cryptosvc.wiring import logkeys
from cryptosvc.wiring.chores import BothLeads, HostLead, Lead

_ALL_REVISIONS = "run: cryptosvc init PROVISIONING_FILE"


@dataclass(frozen=True, slots=True)
class Opened:
    """A ledger and the registry beside it, and what opens the sealed segments of both."""

    ledger: Ledger
    registry: StoredRegistry
    search: Searcher
    segments: SegmentKeys


@asynccontextmanager
async def opened(
    settings: Settings,
    hsm: Pkcs11Hsm,
    clock: SystemClock,
    scope: Scope,
    *,
    founding: Founding | None = None,
) -> AsyncIterator[Opened]:
    """Open the store and verify that it is this deployment's and what the log's head vouches for.

    Args:
        settings: configuration.
        hsm: started; its module holds the head's key.
        clock: time.
        scope: what entries of this process carry.
        founding: write this genesis entry where there is none.

    Raises:
        Forbidden: the store belongs to another system or environment.
        Unavailable: store or module is out of reach, or the store was never initialised.
        Corrupt: the store is not what the head vouches for.

    """
    authenticator = hsm.head_mac(logkeys.head_key(settings))
    opener = segment_opener(settings, hsm)
    ledger = Ledger(
        open_store(settings.store.url, opener),
        origin=settings.log.origin,
        scope=scope,
        clock=clock,
        authenticator=authenticator,
        anchor=Anchor(settings.store.anchor, authenticator),
        claim_ttl_seconds=settings.store.claim_ttl_seconds,
    )
    try:
        try:
            await (ledger.start() if founding is None else ledger.initialise(founding))
        except Corrupt as error:
            if error.rule == "log/other-deployment":
                raise Forbidden(
                    error.message, rule="deployment/other-system", clause="G2.20", field="deployment.system"
                ) from None
            raise
        url = settings.store.url
        searcher = Searcher(open_store(url, opener), index_store(url), ledger.keeper)
        searcher.prepare()
        try:
            yield Opened(ledger, StoredRegistry(ledger), searcher, opener)
        finally:
            await asyncio.to_thread(searcher.close)
    finally:
        await ledger.close()


def require_tables(settings: Settings) -> None:
    """Raise Unavailable where the database lacks tables of this version."""
    missing = missing_migrations(settings.store.url)
    if missing:
        raise Unavailable(
            f"the store lacks the tables of this version ({', '.join(missing)}); {_ALL_REVISIONS}",
            rule="store/schema",
        )


def checkpoint_lead(settings: Settings) -> Lead:
    """Who signs checkpoints: one worker of a host, and one host of those that share a PostgreSQL store."""
    return _lead(settings, "checkpoint")


def index_lead(settings: Settings) -> Lead:
    """Who fills the query index, likewise."""
    return _lead(settings, "query-index")


def watch_leads(settings: Settings) -> tuple[Lead, Lead]:
    """Who watches the log, and who tells of alarms, likewise."""
    return _lead(settings, "watch"), _lead(settings, "tell")


def indexer(settings: Settings, hsm: Pkcs11Hsm) -> Indexer:
    """What fills the query index, on connections of its own; Unavailable where its file cannot be made."""
    url = settings.store.url
    return Indexer(open_store(url, segment_opener(settings, hsm)), index_store(url))


def segment_opener(settings: Settings, hsm: Pkcs11Hsm) -> SegmentKeys:
    """What opens sealed segments: data keys come from the module that has the log's keys."""

    def data_key(key_id: str) -> bytes:
        authenticator = hsm.head_mac(logkeys.log_key(settings, key_id))
        return authenticator.mac(segments.derivation(settings.log.origin, key_id))

    return SegmentKeys(data_key)


def _lead(settings: Settings, what: str) -> Lead:
    host = HostLead(lock_folder(settings) / f"{what}.lock")
    url = settings.store.url
    return BothLeads(host, PostgresLead(url, what) if url.startswith("postgresql") else None)


def lock_folder(settings: Settings) -> Path:
    """Where processes of this host queue for logins: beside the anchor, which only the service writes."""
    return settings.store.anchor.parent
