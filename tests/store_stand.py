"""A deployment's store for tests: ledger and registry on any engine, with a software key for the head."""

import hashlib
import hmac
import itertools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from cryptosvc.adapters.store.anchor import Anchor
from cryptosvc.adapters.store.engine import migrate, open_store
from cryptosvc.adapters.store.ledger import Ledger, Limits
from cryptosvc.adapters.store.registry import StoredRegistry
from cryptosvc.adapters.store.sqlite import SqliteStore
from cryptosvc.core.check import Checked
from cryptosvc.core.content.base import Once, Rising
from cryptosvc.core.errors import Corrupt
from cryptosvc.core.judge import Authorised
from cryptosvc.core.names import KeyId, RequestId, UnixNanoseconds
from cryptosvc.core.record import Claim, Observed, Scope
from cryptosvc.core.registry import CallerRecord, KeyRecord
from cryptosvc.flow.ports import Instant
from tests import claims

ORIGIN = "example.test/log"
KEY = claims.key_record(label="key-1", object_id=b"\x01", public_point=b"\x04" + bytes(64))
CALLER = claims.caller_record()
SCOPE = Scope(system="supplier-1", environment="test", worker="worker-1", software="test")
_numbers = itertools.count(1)


class SoftwareHmac:
    """The head's key without a module."""

    def __init__(self, key: bytes = b"only the module has this") -> None:
        self._key = key
        self.verified = 0

    def mac(self, data: bytes) -> bytes:
        return hmac.digest(self._key, data, "sha256")

    def verify(self, data: bytes, tag: bytes) -> None:
        self.verified += 1
        if not hmac.compare_digest(self.mac(data), tag):
            raise Corrupt("the tag is not this key's", rule="test/tag")


@dataclass
class SetClock:
    """A clock that a test moves."""

    at: int = field(default_factory=time.time_ns)

    def now(self) -> Instant:
        return Instant(UnixNanoseconds(self.at), "synchronised")


@dataclass
class Stand:
    """One worker's view of a deployment."""

    ledger: Ledger
    keys: StoredRegistry
    clock: SetClock


def new_database(url: str) -> str:
    """Make the tables."""
    migrate(url)
    return url


async def open_stand(
    url: str,
    folder: Path,
    *,
    first: bool = False,
    clock: SetClock | None = None,
    anchored: bool = True,
    limits: Limits | None = None,
    max_pages: int | None = None,
    worker: str = "worker-1",
    ttl_seconds: float = 60.0,
    salts: Callable[[int], bytes] | None = None,
) -> Stand:
    """Open a worker; `first` writes the genesis."""
    authenticator = SoftwareHmac()
    clock = clock or SetClock()
    store = open_store(url)
    if max_pages is not None:
        store = SqliteStore(Path(url.removeprefix("sqlite:///")), max_pages=max_pages)
    ledger = Ledger(
        store,
        origin=ORIGIN,
        scope=replace(SCOPE, worker=worker),
        clock=clock,
        authenticator=authenticator,
        anchor=Anchor(folder / "anchor", authenticator) if anchored else None,
        claim_ttl_seconds=ttl_seconds,
        limits=limits or Limits(look_over_seconds=0, anchor_seconds=0),
    )
    try:
        await (ledger.initialise() if first else ledger.start())
    except BaseException:
        await ledger.close()
        raise
    return Stand(ledger, StoredRegistry(ledger, poll_seconds=0), clock)


def authorised(
    *,
    generation: int = 0,
    request_id: str = "",
    payload: bytes = b"payload",
    promises: Sequence[Once | Rising] = (),
    key: KeyRecord = KEY,
    caller: CallerRecord = CALLER,
) -> Authorised:
    """An authorised request, of its own id where none is given."""
    case = claims.case_to_sign(key, payload)
    return Authorised(
        replace(
            case,
            request=replace(
                case.request,
                request_id=RequestId(request_id or f"r-{next(_numbers)}"),
                key_id=KeyId(key.key_id),
            ),
            content=replace(case.content, promises=tuple(promises)),
            principal=replace(case.principal, caller=caller),
            generation=generation,
        ),
        "G2.27",
        ("policy",),
        "0" * 64,
    )


def once(value: str, digest: bytes = b"a", scope: str = "gbcs-counter") -> Once:
    return Once(scope, value, hashlib.sha256(digest).digest())


def checked(claim: Claim) -> Checked:
    """Work that ended well."""
    return Checked(claim, bytes(64), b"artefact", hashlib.sha256(b"artefact").digest())


def observed(what: str = "read") -> Observed:
    return Observed(
        kind=what,
        operation="read-log",
        at=UnixNanoseconds(1),
        time_quality="synchronised",
        facts={"n": str(next(_numbers))},
    )
