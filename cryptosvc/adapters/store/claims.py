"""What a claim transaction does: generation, request ids, promises, openings. `Claim(` is made here and nowhere else.

All items of a group are judged against the store and against each other, in order; an item that is refused takes
nothing. What an accepted one takes is taken for ever, whatever becomes of the signature.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import orjson

from cryptosvc.adapters.store import taking
from cryptosvc.adapters.store.session import Session
from cryptosvc.core.content.base import Once, Rising
from cryptosvc.core.device_keys import SealedKeyRecord
from cryptosvc.core.device_records import DEVICE_STORE
from cryptosvc.core.errors import Conflict, Refusal, Repeated, WrongState
from cryptosvc.core.judge import Authorised
from cryptosvc.core.names import KeyId, UnixNanoseconds
from cryptosvc.core.opening import Opening, opened
from cryptosvc.core.record import Claim, Scope
from cryptosvc.core.segments import hash_of
from cryptosvc.core.values import quickly
from cryptosvc.flow.ports import Stale

OPEN = b"\xff" * 8
"""Stands for the leaf index of a claim that has none yet."""
NUMBER_OCTETS = 20
"""Octets of a rising number: RFC 5280 allows 20."""
GROUP = 256
"""Claims of one group at most; a position is one octet."""

_END_OF_TIME = 2**63 - 1
_EVERY_GROUP = 2**31 - 1


@dataclass(slots=True)
class Wanted:
    """An item and what it would take, computed before any lock is held."""

    authorised: Authorised
    opening: Opening
    request: int
    payload_digest: bytes
    once: list[tuple[int, Once]] = field(default_factory=list)
    rising: list[tuple[int, Rising]] = field(default_factory=list)
    usage: tuple[int, int] | None = None
    """Where claims of the key are counted, and how many there may be; None for a key without a limit."""


@dataclass(frozen=True, slots=True)
class OpenClaim:
    """A claim this worker holds: where it stands, and its entry but for its end."""

    group: int
    position: int
    opening: Opening
    deadline: int


_claim = quickly(Claim)
_open_claim = quickly(OpenClaim)


def emit_openings(openings: Iterable[Opening]) -> bytes:
    """Print the openings of a group: a JSON array."""
    return b"[%b]" % b",".join([opening.emit() for opening in openings])


def wanted(authorised: Authorised, scope: Scope, salt: bytes) -> Wanted:
    """Prepare one item; `salt` is 16 fresh random octets."""
    case = authorised.case
    opening, payload_digest = opened(authorised, scope, salt)
    request = taking.of_request(case.principal.caller.caller_id, case.request.request_id)
    found = Wanted(authorised, opening, request, payload_digest)
    key = case.key
    # a device key may be asked for by two names; what is promised is promised of the key
    key_id = key.lasting_name if isinstance(key, SealedKeyRecord) else key.key_id
    for promise in case.content.promises:
        if isinstance(promise, Once):
            found.once.append((taking.of_once(key_id, promise.scope, promise.value), promise))
        else:
            found.rising.append((taking.of_rising(key_id, promise.scope), promise))
    limit = case.key.life.usage_limit
    if limit is not None:
        found.usage = taking.of_usage(key_id), limit
    return found


def records_of(items: Iterable[Wanted]) -> set[tuple[str, str]]:
    """Kind and id of every record these items rest on."""
    found: set[tuple[str, str]] = set()
    for item in items:
        case = item.authorised.case
        if isinstance(case.key, SealedKeyRecord):
            found |= {("device-store-record", DEVICE_STORE), ("key-record", case.key.wrapping.key_id)}
            found.add(("key-record", case.key.binding.key_id))
            if case.second is not None and isinstance(case.second.key, SealedKeyRecord):
                found.add(("key-record", case.second.key.wrapping.key_id))
                found.add(("key-record", case.second.key.binding.key_id))
        else:
            found.add(("key-record", case.key.key_id))
        found.add(("caller-record", case.principal.caller.caller_id))
    return found


class ClaimGroup:
    """One group of items against one transaction."""

    def __init__(self, session: Session, items: Sequence[Wanted]) -> None:
        self._session = session
        self._items = items
        self._groups: dict[int, tuple[bytes, bytes] | None] = {}
        self._new: dict[int, bytes] = {}
        self._taken: list[tuple[int, int, bytes]] = []
        self._risen: dict[int, bytes] = {}
        self._rising_before: dict[int, bytes | None] = {}
        self._hits: dict[int, list[int]] = {}
        self._moved_callers: set[int] = set()
        fingerprints = [item.request for item in items]
        fingerprints += [fingerprint for item in items for fingerprint, _ in item.once]
        for fingerprint, group in session.taken(fingerprints):
            self._hits.setdefault(fingerprint, []).append(group)

    def check_callers(self, versions: dict[str, int]) -> None:
        """Find items whose caller record moved since the caller was identified; they are refused by `judge`.

        The generation alone does not tell: a case gathered again after a revocation still carries the caller as it
        was when the request came in. `versions` caches what was read under one generation. A caller that has no
        record is the service itself.
        """
        for number, item in enumerate(self._items):
            caller = item.authorised.case.principal.caller
            version = versions.get(caller.caller_id)
            if version is None:
                row = self._session.record("caller-record", caller.caller_id)
                version = versions[caller.caller_id] = 0 if row is None else row.version
            if version not in (0, caller.version):
                self._moved_callers.add(number)

    def judge(self, generation: int | None) -> list[Refusal | Stale | None]:
        """One answer for each item: None where it may be claimed. `generation` None skips that check (foresee)."""
        answers: list[Refusal | Stale | None] = []
        accepted = 0
        for number, item in enumerate(self._items):
            if number in self._moved_callers:
                answers.append(
                    Conflict(
                        "the caller's record changed while the request was under way; ask again",
                        rule="caller/changed",
                    )
                )
                continue
            if generation is not None and item.authorised.case.generation != generation:
                answers.append(Stale())
                continue
            refusal = self._refusal(item)
            if refusal is None:
                self._accept(item, accepted)
                accepted += 1
            answers.append(refusal)
        return answers

    def open(self, accepted: Sequence[Wanted], deadline: int) -> tuple[list[Claim], dict[str, OpenClaim]]:
        """Write what was accepted; claims in order, and what this worker keeps of each."""
        session = self._session
        group = session.open_group(deadline, OPEN * len(accepted), taking.emit(self._taken))
        session.take(group, [fingerprint for fingerprint, _, _ in self._taken])
        for fingerprint, number in self._risen.items():
            session.rise(fingerprint, self._rising_before[fingerprint], number)
        session.put_opening(group, emit_openings([item.opening for item in accepted]))
        claims: list[Claim] = []
        kept: dict[str, OpenClaim] = {}
        for position, item in enumerate(accepted):
            claim_id = f"{group}.{position}"
            claims.append(_claim(item.authorised, claim_id, UnixNanoseconds(deadline)))
            kept[claim_id] = _open_claim(group, position, item.opening, deadline)
        return claims, kept

    def _refusal(self, item: Wanted) -> Refusal | None:
        if (mine := self._new.get(item.request)) is not None:
            return Repeated(
                same_bytes=mine == item.payload_digest[: len(mine)], leaf_index=None, leaf_hash=b""
            )
        if self._hits:
            for group, position, digest in self._earlier(item.request):
                return self._repeated(
                    group, position, same_bytes=digest == item.payload_digest[: len(digest)]
                )
        for fingerprint, promise in item.once:
            digest = promise.digest[: taking.DIGEST_OCTETS]
            if self._new.get(fingerprint, digest) != digest:
                return _conflict(promise.scope, item.authorised.clause)
            if self._hits and any(found != digest for _, _, found in self._earlier(fingerprint)):
                return _conflict(promise.scope, item.authorised.clause)
        for fingerprint, rising in item.rising:
            last = self._last(fingerprint)
            if last is not None and rising.number <= int.from_bytes(last):
                return Conflict(
                    f"the number {rising.scope} must be greater than every one signed before with this key",
                    rule=f"rising/{rising.scope}",
                    clause=item.authorised.clause,
                )
        if item.usage is not None and self._used(item.usage[0]) >= item.usage[1]:
            return WrongState(
                f"this key was used {item.usage[1]} times, as often as it may be; ask a key custodian to replace it",
                rule="lifecycle/usage-limit",
                clause="G5.13(b)",
                field="key_id",
            )
        return None

    def _accept(self, item: Wanted, position: int) -> None:
        digest = item.payload_digest[: taking.DIGEST_OCTETS]
        self._new[item.request] = digest
        self._taken.append((item.request, position, digest))
        for fingerprint, promise in item.once:
            digest = promise.digest[: taking.DIGEST_OCTETS]
            if fingerprint not in self._new and not (
                self._hits and any(True for _ in self._earlier(fingerprint))
            ):
                self._taken.append((fingerprint, position, digest))
            self._new[fingerprint] = digest
        for fingerprint, rising in item.rising:
            self._risen[fingerprint] = rising.number.to_bytes(NUMBER_OCTETS)
        if item.usage is not None:
            fingerprint = item.usage[0]
            self._risen[fingerprint] = (self._used(fingerprint) + 1).to_bytes(NUMBER_OCTETS)

    def _earlier(self, fingerprint: int) -> Iterable[tuple[int, int, bytes]]:
        """(group, position, digest) of what really took a fingerprint before."""
        for group in self._hits.get(fingerprint, ()):
            row = self._row(group)
            if row is not None and (found := taking.look(row[1], fingerprint)) is not None:
                yield group, *found

    def _row(self, group: int) -> tuple[bytes, bytes] | None:
        if group not in self._groups:
            self._groups[group] = self._session.group(group)
        return self._groups[group]

    def _last(self, fingerprint: int) -> bytes | None:
        if fingerprint in self._risen:
            return self._risen[fingerprint]
        if fingerprint not in self._rising_before:
            self._rising_before[fingerprint] = self._session.rising(fingerprint)
        return self._rising_before[fingerprint]

    def _used(self, fingerprint: int) -> int:
        return int.from_bytes(self._last(fingerprint) or b"")

    def _repeated(self, group: int, position: int, *, same_bytes: bool) -> Repeated:
        row = self._row(group)
        slot = b"" if row is None else row[0][8 * position : 8 * position + 8]
        if slot in (b"", OPEN):
            return Repeated(same_bytes=same_bytes, leaf_index=None, leaf_hash=b"")
        leaf_index = int.from_bytes(slot)
        stored = self._session.leaf(leaf_index)
        return Repeated(
            same_bytes=same_bytes,
            leaf_index=leaf_index,
            leaf_hash=b"" if stored is None else hash_of(stored[0]),
        )


def spent(session: Session, limits: Mapping[KeyId, int]) -> set[KeyId]:
    """Keys that were claimed as often as their limit allows, and of which no claim is open any more."""
    found = {
        key_id
        for key_id, limit in limits.items()
        if int.from_bytes(session.rising(taking.of_usage(key_id)) or b"") >= limit
    }
    if found:
        found -= _open_keys(session)
    return found


def _open_keys(session: Session) -> set[KeyId]:
    """Keys with an open claim, in the whole deployment."""
    found: set[KeyId] = set()
    for group in session.expired(_END_OF_TIME, _EVERY_GROUP):
        row, body = session.group(group), session.opening(group)
        if row is not None and body is not None:
            slots = row[0]
            found |= {
                KeyId(str(opening["entry"]["key"]))
                for position, opening in enumerate(orjson.loads(body))
                if slots[8 * position : 8 * position + 8] == OPEN
            }
    return found


def _conflict(scope: str, clause: str) -> Conflict:
    return Conflict(
        f"other bytes were signed with this key under the same {scope}; it is never used twice",
        rule=f"once/{scope}",
        clause=clause,
    )
