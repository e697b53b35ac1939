"""Where a fingerprint may have been taken before: a hash table in a file beside the SQLite database.

Uniqueness is for ever, its keys are random, and a B-tree with random keys dirties a page for every one of them: at a
million operations that doubled the cost of a claim. So what a claim group took is stored with the group, appended; this
table, mapped by every worker and changed under the write lock, only says in which group to look. An answer is never
believed without looking, so an entry too many (a transaction rolled back, a crash) does no harm. An entry too few
would: each is written before its transaction commits, and after a restart of the machine, for another database, or
one put back from a backup, the table is built again from the groups.

Layout: a header of one page, then segments of 2**20, 2**21, … slots of 8 octets in the machine's order; a slot holds
24 bits of the fingerprint and 40 bits of group number, linear probing, at most half full.
"""

import hashlib
import mmap
import os
from collections.abc import Callable, Iterable
from pathlib import Path

from cryptosvc.core.errors import Unavailable

_MAGIC = int.from_bytes(b"csvcidx1")
_HEADER_OCTETS = 4096
_FIRST_BITS = 20
_SEGMENTS = 15
_GROUP_BITS = 40
_GROUP_MASK = (1 << _GROUP_BITS) - 1
_TAG_SHIFT = 39
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")

# words of the header
_AT_MAGIC, _AT_IDENTITY, _AT_SEGMENTS, _AT_THROUGH, _AT_DIGEST, _AT_COUNTS = 0, 1, 5, 6, 7, 16

Groups = Callable[[int], Iterable[tuple[int, bytes]]]
"""Claim groups from a number on, in order, each with what it took."""
Fingerprints = Callable[[bytes], Iterable[int]]


class FingerprintIndex:
    """The table. Every method is called with the write lock held, but for `find`, which may run beside a writer."""

    def __init__(self, path: Path, fingerprints_of: Fingerprints) -> None:
        self._fingerprints_of = fingerprints_of
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            if os.fstat(self._file).st_size < _HEADER_OCTETS:
                os.ftruncate(self._file, _HEADER_OCTETS)
            self._header = memoryview(mmap.mmap(self._file, _HEADER_OCTETS)).cast("Q")
        except OSError as error:
            raise Unavailable(
                f"cannot open the store's index file: {error.strerror}", rule="store/index"
            ) from None
        self._segments: list[memoryview] = []

    def bring_up(self, database_id: bytes, group: Callable[[int], bytes | None], groups: Groups) -> None:
        """Make the table complete: nothing to do where it was kept in this boot for this database, else rebuilt."""
        header = self._header
        identity = hashlib.sha256(_BOOT_ID.read_bytes() + database_id).digest()
        known = header[_AT_MAGIC] == _MAGIC and _words(identity) == list(
            header[_AT_IDENTITY : _AT_IDENTITY + 4]
        )
        through = header[_AT_THROUGH]
        last = group(through) if known and through else b""
        if not known or last is None or _words(hashlib.sha256(last).digest())[0] != header[_AT_DIGEST]:
            self._segments.clear()
            os.ftruncate(self._file, _HEADER_OCTETS)
            header[_AT_SEGMENTS] = header[_AT_THROUGH] = 0
            for at in range(_SEGMENTS):
                header[_AT_COUNTS + at] = 0
            header[_AT_IDENTITY : _AT_IDENTITY + 4] = memoryview(identity).cast("Q")
            header[_AT_DIGEST] = _words(hashlib.sha256(b"").digest())[0]
            header[_AT_MAGIC] = _MAGIC
            through = 0
        for number, taken in groups(through + 1):
            self.put(number, list(self._fingerprints_of(taken)), taken)

    def find(self, fingerprint: int) -> list[int]:
        """Groups in which the fingerprint may have been taken; empty where it certainly was not."""
        tag = fingerprint >> _TAG_SHIFT
        found: list[int] = []
        if len(self._segments) != self._header[_AT_SEGMENTS]:
            self._map()
        for number, table in enumerate(self._segments):
            mask = (1 << (_FIRST_BITS + number)) - 1
            at = fingerprint & mask
            while slot := table[at]:
                if slot >> _GROUP_BITS == tag:
                    found.append(slot & _GROUP_MASK)
                at = (at + 1) & mask
        return found

    def put(self, group: int, fingerprints: list[int], taken: bytes) -> None:
        """Add what a group took; called before its transaction commits."""
        table, mask = self._room(len(fingerprints))
        for fingerprint in fingerprints:
            at = fingerprint & mask
            while table[at]:
                at = (at + 1) & mask
            table[at] = (fingerprint >> _TAG_SHIFT) << _GROUP_BITS | group
        header = self._header
        header[_AT_COUNTS + header[_AT_SEGMENTS] - 1] += len(fingerprints)
        header[_AT_THROUGH] = group
        header[_AT_DIGEST] = _words(hashlib.sha256(taken).digest())[0]

    def close(self) -> None:
        """Unmap and close."""
        self._segments.clear()
        os.close(self._file)

    def _room(self, count: int) -> tuple[memoryview, int]:
        """The newest segment, or a new one where that would be more than half full."""
        header = self._header
        segments = header[_AT_SEGMENTS]
        if not segments or 2 * (header[_AT_COUNTS + segments - 1] + count) > 1 << (
            _FIRST_BITS + segments - 1
        ):
            if segments == _SEGMENTS:
                raise Unavailable("the store's index is full", rule="store/index-full")
            try:
                self._allocate(_offset(segments), _offset(segments + 1))
            except OSError:
                raise Unavailable("the store's disk is full; free space", rule="store/full") from None
            header[_AT_SEGMENTS] = segments + 1
        if len(self._segments) != header[_AT_SEGMENTS]:
            self._map()
        return self._segments[-1], (1 << (_FIRST_BITS + len(self._segments) - 1)) - 1

    def _allocate(self, start: int, stop: int) -> None:
        """Write zeros: a block first allocated by a store into the mapping would be flushed by the next commit's fsync."""
        zeros = bytes(1 << 20)
        while start < stop:
            start += os.pwrite(self._file, zeros[: stop - start], start)

    def _map(self) -> None:
        for number in range(len(self._segments), self._header[_AT_SEGMENTS]):
            octets = 8 << (_FIRST_BITS + number)
            self._segments.append(memoryview(mmap.mmap(self._file, octets, offset=_offset(number))).cast("Q"))


def _offset(segment: int) -> int:
    return _HEADER_OCTETS + (((1 << segment) - 1) << (_FIRST_BITS + 3))


def _words(octets: bytes) -> list[int]:
    return list(memoryview(octets).cast("Q"))
