"""What a use case needs from the world: ten ports, each cut to what its callers need. One more needs an ADR.

Every adapter has a fake in tests/fakes and both run the same suite in tests/contract.
Coroutines may wait on a disk or a module; plain functions answer from memory.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from cryptosvc.core.acts.base import Made
from cryptosvc.core.case import Facts, ModuleFacts, PolicyAnswer
from cryptosvc.core.check import Checked
from cryptosvc.core.device_file import Line
from cryptosvc.core.device_keys import DeviceKey, DeviceKeyName, SealedKeyRecord
from cryptosvc.core.device_records import DeviceStoreRecord, DeviceWorkRecord
from cryptosvc.core.errors import Refusal
from cryptosvc.core.judge import Authorised
from cryptosvc.core.names import Eui64, KeyId, ModuleName, SystemName, UnixNanoseconds
from cryptosvc.core.proposal import ProposalRecord
from cryptosvc.core.query import Cursor, Query
from cryptosvc.core.record import INIT, Because, Claim, Failed, Observed, Produced, Receipt, Refused
from cryptosvc.core.registry import CallerRecord, KeyRecord, Record
from cryptosvc.core.transfer.mechanism import OaepHash


@dataclass(frozen=True, slots=True)
class Instant:
    """A reading of the clock and how far to trust it (`synchronised` or `unsynchronised`)."""

    at: UnixNanoseconds
    quality: str


@dataclass(frozen=True, slots=True)
class KeyView:
    """Key records as of one registry generation; a key that is not there is not in the mapping."""

    generation: int
    keys: Mapping[KeyId, KeyRecord]


@dataclass(frozen=True, slots=True)
class DeviceKeyView:
    """Device keys as of one registry generation, by the name they were asked by; what is not there is not in it."""

    generation: int
    keys: Mapping[DeviceKeyName, SealedKeyRecord]


@dataclass(frozen=True, slots=True)
class DeviceKeyChange:
    """One step of a work on device keys, all of it or nothing.

    Args:
        put: rows that are new or take the place of the same version of the same key; each as sealed by `Sealing`.
        removed: versions that go; the version is named.
        work: the work's record, one version on.
        at_generation: of the registry at which it was decided; it is made only if nothing has changed since.

    """

    put: Sequence[DeviceKey]
    removed: Sequence[DeviceKeyName]
    work: DeviceWorkRecord
    at_generation: int


@dataclass(frozen=True, slots=True)
class FileKey:
    """The key of an import file, wrapped.

    Args:
        transport: record of the device-transport key that unwraps it.
        wrapped: RSA-OAEP.
        oaep: hash of OAEP.

    """

    transport: KeyRecord
    wrapped: bytes
    oaep: OaepHash


@dataclass(frozen=True, slots=True)
class Stale:
    """The registry moved since the case was judged: gather and judge it again."""


@dataclass(frozen=True, slots=True)
class StoredEntry:
    """One leaf as stored.

    Args:
        leaf_index: from 0.
        entry: canonical JSON.
        withheld: canonical JSON of the values behind the commitments; empty where redacted or none.

    """

    leaf_index: int
    entry: bytes
    withheld: bytes


@dataclass(frozen=True, slots=True)
class Page:
    """A part of an answer.

    Args:
        entries: in the order of the answer.
        cursor: where to go on; None where this was the last.
        digest: of the query that was answered, for cursors in between.
        size: how many entries the log had when the answer began; the answer is over those.
        proofs: RFC 6962 audit path by leaf index, of entries that were to be proven.

    """

    entries: tuple[StoredEntry, ...]
    cursor: Cursor | None
    digest: str
    size: int
    proofs: Mapping[int, Sequence[bytes]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TreeHead:
    """Size and root of the log at one commit, authenticated by the module-held key.

    Args:
        size: number of leaves.
        root: RFC 6962 root hash, 32 octets.

    """

    size: int
    root: bytes


@dataclass(frozen=True, slots=True)
class HeldObject:
    """A key object as it lies on a module.

    Args:
        kind: `private-key`, `public-key` or `secret-key`.
        label: CKA_LABEL.
        object_id: CKA_ID.
        public_point: of an EC public key, 65 octets; else empty.

    """

    kind: str
    label: str
    object_id: bytes
    public_point: bytes


class Clock(Protocol):
    """The time, and how good it is."""

    def now(self) -> Instant:
        """Read the clock."""


class Policy(Protocol):
    """The policy engine."""

    @property
    def digest(self) -> str:
        """SHA-256 of policy set and schema, lower-case hex."""

    def decide(self, facts: Facts) -> PolicyAnswer:
        """Answer for one set of facts. Any evaluation error is a refusal; never raises for facts of the right type."""


class Keys(Protocol):
    """Key and caller records, each verified against the log before it is believed."""

    async def keys(self, key_ids: Collection[KeyId]) -> KeyView:
        """Records of these keys as of the latest generation. Corrupt: a record is not what the log proves."""

    async def keys_of(self, system: SystemName) -> Sequence[KeyRecord]:
        """Every key of a system, sorted by key id."""

    async def keys_of_classes(self, key_classes: frozenset[str]) -> KeyView:
        """Every key of these classes, of whatever system and state, as of the latest generation. Corrupt: as `keys`."""

    async def caller(self, certificate_sha256: bytes) -> CallerRecord | None:
        """The caller registered with this client certificate; revoked ones too, None where there is none."""


class Records(Protocol):
    """Every record of the registry, and the one way one changes. Verified before believed, as `Keys`."""

    async def record(self, kind: str, record_id: str) -> Record | None:
        """One record of a kind, or None. Corrupt: it is not what the log proves."""

    async def located(self, kind: str, record_id: str) -> tuple[Record, int] | None:
        """One record and the index of the leaf that commits to its newest version, or None."""

    async def of_kind(self, kind: str) -> Sequence[Record]:
        """Every record of a kind, sorted by id. Corrupt: one is not what the log proves."""

    async def standing_proposals(self) -> Sequence[ProposalRecord]:
        """Every proposal that is open or being carried out, sorted by id. Corrupt: one is not what the log proves."""

    async def changed_after(self, leaf_index: int, at_most: int) -> Sequence[tuple[Record, int]]:
        """Records whose newest version is in a leaf after this one, and that leaf, in the order of the log.

        As they are stored, verified by nobody: enough to learn what to look at, never to decide by.
        """

    async def generation(self) -> int:
        """How often the registry has changed; what is read after this is at least as new."""

    async def change(
        self, changed: Sequence[Record], because: Because = INIT, at_generation: int | None = None
    ) -> Sequence[Receipt]:
        """Register or change records: one transaction, one leaf each, in order.

        Args:
            changed: new versions; version 1 registers, any other must be one more than the version there is.
            because: what stands behind it, for the leaves.
            at_generation: only if the registry has not changed since, where what was decided rests on more records
                than are changed; None asks for their versions alone.

        Raises:
            Conflict: a record has moved (`registry/version`), the registry has (`registry/moved`), or a certificate is taken (`registry/certificate`).
            Forbidden: the shortcut of `init` outside environment test.
            Unavailable, Corrupt: as `Ledger.record`.

        """


class Vault(Protocol):
    """Keys made, found and destroyed on the modules. Refusal: known not done. OutcomeUnknown: it may have been done."""

    async def generate(self, key: KeyRecord) -> Made:
        """Make the key of this record on its module and read it back. Conflict: such an object is there already."""

    async def adopt(self, key: KeyRecord) -> Made:
        """Find the object of this record. Unavailable: there is none."""

    async def destroy(self, key: KeyRecord) -> Made:
        """Destroy every object of the key, and ask again whether any is left. Corrupt: one is."""

    async def objects(self, module: ModuleName) -> Sequence[HeldObject]:
        """Every key object on a module."""

    async def differences(
        self, module: ModuleName, keys: Sequence[KeyRecord]
    ) -> Mapping[KeyId, Sequence[str]]:
        """How each key's object differs from its class's template, a sentence each; one that is not whole differs."""

    async def identity(self, module: ModuleName) -> Mapping[str, str]:
        """What the module reports of itself, by the names of `core/asset.IDENTITY`."""


class Hsm(Protocol):
    """The PKCS#11 modules."""

    def facts(self, module: ModuleName) -> ModuleFacts:
        """What is known of a module. Unavailable: it is gone, or not what the configuration expects."""

    async def sign(self, claims: Sequence[Claim]) -> Sequence[Produced | Failed]:
        """ECDSA P-256 over SHA-256 of each claim's signed bytes, in order; items fail one by one."""


class Ledger(Protocol):
    """Claims and the log. Both writes are group commits that concurrent calls share."""

    async def claim(self, batch: Sequence[Authorised]) -> Sequence[Claim | Refusal | Stale]:
        """One durable transaction: generation re-checked, request ids and promises taken, claims opened.

        Per item: a Claim; Repeated (request id used before, with its first receipt once there is one); Conflict
        (reused counter or serial, number not rising); WrongState (the key was used as often as it may be); Stale. Raises Unavailable for the whole batch where the
        store cannot be written.
        """

    async def foresee(self, batch: Sequence[Authorised]) -> Sequence[Refusal | None]:
        """What `claim` would refuse now, without taking anything."""

    async def spent(self, limits: Mapping[KeyId, int]) -> Collection[KeyId]:
        """Those keys that were claimed as often as their limit allows, and of which no claim is open any more."""

    async def record(self, batch: Sequence[Checked | Failed | Refused | Observed]) -> Sequence[Receipt]:
        """One durable transaction: leaves appended, head moved and authenticated, claims closed.

        Raises Unavailable (store gone), Corrupt (the head or tree is not what this worker knows).
        """

    async def head(self) -> TreeHead:
        """The latest authenticated head. Corrupt: it does not verify, or went back."""

    async def entry(self, leaf_index: int) -> StoredEntry | None:
        """One leaf, or None past the end."""

    async def inclusion_proof(self, leaf_index: int, tree_size: int) -> Sequence[bytes]:
        """RFC 6962 2.1.1 audit path. Malformed: the index is not below the size, or the size is not reached yet."""

    async def consistency_proof(self, first_size: int, second_size: int) -> Sequence[bytes]:
        """RFC 6962 2.1.2 proof. Malformed: the sizes are not in order, or not reached yet."""

    async def checkpoint(self) -> bytes | None:
        """The newest signed checkpoint note, or None before the first."""

    async def cosigned(self, note: bytes) -> None:
        """Keep a checkpoint that is there already with more signature lines; Conflict where its text is another's."""

    async def keep_checkpoint(self, note: bytes) -> None:
        """Store a signed checkpoint; Conflict where a larger one is there."""


class Search(Protocol):
    """Finds entries of the log by what they say (ADR 0014)."""

    async def page(self, query: Query, cursor: Cursor | None, at_most: int) -> Page:
        """Find the next entries of an answer, each proven to be in the log and to commit to what is beside it.

        A page may hold fewer than `at_most`, or none, and still not be the last: what one page looks at is bounded.

        Args:
            query: what to find.
            cursor: of the page before; None begins an answer over the log as it is now.
            at_most: entries, at least 1.

        Raises:
            Malformed: the cursor is of a longer log.
            Unavailable, Corrupt: as `Ledger.entry`.

        """


class DeviceKeys(Protocol):
    """Device keys in the store, wrapped; each row verified against the log before it is believed.

    A key that is found goes into a case like any key record, and a claim rests on the generation it was read at: what
    changed the store meanwhile makes the claim Stale, so no worker uses a key after its removal was committed.
    """

    async def device_keys(self, names: Collection[DeviceKeyName]) -> DeviceKeyView:
        """Find these keys. Corrupt: a row, or the absence of one, is not what the log proves."""

    async def of_devices(self, devices: Collection[Eui64]) -> tuple[int, Mapping[Eui64, Sequence[DeviceKey]]]:
        """Every version of every key of these Devices, and the generation they were read at; Corrupt as `device_keys`."""

    async def page(self, after: Eui64 | None, at_most: int) -> tuple[int, Sequence[SealedKeyRecord]]:
        """The rows of the Devices next beyond one, in their order; none at the end. Each as `device_keys` finds it."""

    async def store_record(self) -> DeviceStoreRecord | None:
        """The record over all rows; None before the first work."""

    async def change(self, change: DeviceKeyChange) -> Sequence[Receipt]:
        """Make one step durable: rows, tree, store's record and work's record in one transaction, two leaves.

        Raises:
            Conflict: the work has moved (`registry/version`), or anything else has (`registry/moved`).
            Corrupt: what is about to be built on is not what the log proves.
            Unavailable: as `Ledger.record`.

        """


class Sealing(Protocol):
    """Wraps device keys in their module; no key leaves it in the clear. Items fail one by one."""

    async def arrive(
        self, file_key: FileKey, lines: Sequence[Line], wrapping: KeyRecord, binding: KeyRecord
    ) -> Sequence[DeviceKey | Refusal]:
        """Wrap keys of an import anew, from the file's key to the epoch's, and check each against its check value."""

    async def generate(
        self, rows: Sequence[DeviceKey], wrapping: KeyRecord, binding: KeyRecord
    ) -> Sequence[DeviceKey]:
        """Make a new key for each row, whose blob, check value and tag are empty."""

    async def re_wrap(
        self, keys: Sequence[SealedKeyRecord], wrapping: KeyRecord, binding: KeyRecord
    ) -> Sequence[DeviceKey | Refusal]:
        """Move keys to another epoch. Corrupt per item: the row's tag is not its own, or the check value differs."""
