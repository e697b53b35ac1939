"""Transfer: what a module does for each step; `flow/spokesman.py` then says it to the other side.

A step is a governed act (`flow/govern.py`); where a module has a part in it, a mover here does that part, on the machine
of the service. Each may be asked for again after it was interrupted:

    offer     a transport key that nobody was told of is destroyed, and made anew
    export    the carrier went with the process that made it; all is wrapped again, and nothing of it was signed yet
    import    what is there already is not unwrapped again; each key proves itself again
    dispose   what is gone is gone

Source: Smart Energy Code G2.22F to G2.22I.
"""

import hashlib
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import Protocol

from cryptosvc.core.acts.base import Made, text_of
from cryptosvc.core.acts.keys import object_id
from cryptosvc.core.acts.transfer_destination import label_of, placed
from cryptosvc.core.errors import Corrupt, Forbidden, Malformed, Refusal, Unavailable, WrongState
from cryptosvc.core.handover import checks, claimed, notices
from cryptosvc.core.handover.beside import CARRIER, claims_name, key_name
from cryptosvc.core.handover.cargo import Arrival, Arrived, Transport, Wrapped
from cryptosvc.core.handover.claimed import Claimed
from cryptosvc.core.names import Environment, KeyId, ModuleName
from cryptosvc.core.registry import KeyRecord, Record
from cryptosvc.core.statement import Statement
from cryptosvc.core.transfer import papers
from cryptosvc.core.transfer.mechanism import OaepHash
from cryptosvc.core.transfer.proof import require_proven
from cryptosvc.core.transfer.record import TransferRecord
from cryptosvc.flow.govern import Mover
from cryptosvc.flow.ports import Clock, Vault

SYNCHRONISED = "synchronised"
"""Quality of a clock, as the Clock port says it."""
KEY_OCTETS = 64 * 1024
"""A wrapped key is a few kilobytes at most."""
CLAIMS_OCTETS = 1024 * 1024 * 1024
"""Of 38 million uses; they are read as a whole."""
_Records = Mapping[tuple[str, str], Record]


class Carriage(Protocol):
    """Modules, as far as keys move between them. Unavailable: out of reach now; other refusals: known not done."""

    async def transport(self, module: ModuleName, label: str, object_id: bytes) -> Transport:
        """Make a transport key, in the place of one of this name that is there."""

    async def wrap(
        self, keys: Sequence[KeyRecord], transport: bytes, oaep_hash: OaepHash, transfer_id: str
    ) -> Wrapped:
        """Wrap keys of one module under another system's transport key, in a process of its own."""

    async def receive(
        self,
        place: tuple[ModuleName, str, bytes],
        carrier: bytes,
        oaep_hash: OaepHash,
        arrivals: Sequence[Arrival],
        transfer_id: str,
    ) -> Sequence[Arrived]:
        """Unwrap keys with the transport key at a place (module, label, id) and have each prove itself."""

    async def discard(self, module: ModuleName, label: str, object_id: bytes) -> int:
        """Destroy every object with this label and id; asked again afterwards, how many are left."""


class Crate(Protocol):
    """The blobs of a package, beside its manifest."""

    def put(self, name: str, octets: bytes) -> None:
        """Keep a blob, in the place of one of this name; it is on disk when this returns."""

    def take(self, name: str, at_most: int) -> bytes:
        """A blob. Malformed: it is missing, or longer than that."""


class Promises(Protocol):
    """What claims of a key took, as far as it moves with the key. Unavailable: the store is out of reach now."""

    async def of_keys(self, key_ids: Collection[KeyId]) -> Mapping[KeyId, Claimed]:
        """All that claims of each of these keys took here; none of them may be usable any more. One walk for all."""

    async def take(self, key_id: KeyId, found: Claimed) -> None:
        """Take the same here, before the key is usable. Conflict: something here was taken for other bytes."""


class Movers:
    """What the modules do for the steps of transfers."""

    def __init__(
        self,
        carriage: Carriage,
        crate: Crate,
        promises: Promises,
        vault: Vault,
        environment: Environment,
        whole: Callable[[notices.Package], Awaitable[None]] | None = None,
        clock: Clock | None = None,
    ) -> None:
        """`whole` looks through the device keys of a package before the module is touched; `clock` is asked how good it is."""
        self._whole = whole
        self._clock = clock
        self._carriage = carriage
        self._crate = crate
        self._promises = promises
        self._vault = vault
        self._environment = environment

    def by_act(self) -> Mapping[str, Mover]:
        """Act → its mover, as the governor takes them."""
        return {
            "transfer.offer": self.offer,
            "transfer.export": self.export,
            "transfer.import": self.receive,
            "transfer.dispose": self.dispose,
            "transfer.decline": self.decline,
        }

    async def offer(self, statement: Statement, _: _Records) -> Made:
        """Make the transport key."""
        label = label_of(statement.subject)
        module = ModuleName(text_of(statement, "module"))
        made = await self._carriage.transport(module, label, object_id(label))
        hashes = ",".join(one.value for one in made.oaep_hashes)
        return _made({**made.facts, "transport": made.public.hex(), "oaep_hashes": hashes})

    async def export(self, statement: Statement, records: _Records) -> Made:
        """Wrap the keys; the blobs are in the crate before anything says that they were exported."""
        self._require_clock()
        found = _transfer(statement, records)
        plan = found.plan
        if plan is None:
            raise WrongState("this transfer has no plan", rule="transfer/step", clause="G2.22I")
        keys = [_key(records, one.key_id) for one in plan.keys]
        wrapped = await self._carriage.wrap(
            keys, found.offer.transport, plan.mechanism.oaep_hash, found.transfer_id
        )
        facts = {
            "trust": wrapped.trust.value,
            "oaep_hash": plan.mechanism.oaep_hash.value,
            "carrier": _sha256(wrapped.carrier),
        }
        self._crate.put(CARRIER, wrapped.carrier)
        for name, blob in wrapped.blobs.items():
            self._crate.put(key_name(name), blob)
            facts[f"blob:{name}"] = _sha256(blob)
        facts |= {f"check:{name}": value for name, value in wrapped.checks.items()}
        return _made(facts)

    async def receive(self, statement: Statement, records: _Records) -> Made:
        """Unwrap the keys, have each prove itself, then destroy the transport key."""
        self._require_clock()
        found = _transfer(statement, records)
        envelope = bytes.fromhex(text_of(statement, "package"))
        source_key = bytes.fromhex(text_of(statement, "source_key"))
        document = checks.read_statement(envelope, source_key, papers.PACKAGE)
        package = notices.package_from_document(document)
        arrivals = [
            Arrival(
                placed(one.record, found.offer, package.plan),
                self._blob(key_name(one.record.key_id), one.blob),
                one.check,
            )
            for one in package.keys
        ]
        carrier = self._blob(CARRIER, package.carrier)
        for packed in package.keys:
            # read whole before the module is touched, and again below: one key's claims in memory at a time
            self._claims(packed)
        if self._whole is not None:
            await self._whole(package)
        label = label_of(found.transfer_id)
        place = (ModuleName(found.offer.module), label, object_id(label))
        try:
            arrived = await self._carriage.receive(
                place, carrier, package.plan.mechanism.oaep_hash, arrivals, found.transfer_id
            )
            facts = self._proven(arrivals, arrived, found.transfer_id)
            for packed in package.keys:
                await self._promises.take(packed.record.key_id, self._claims(packed))
                facts[f"claims:{packed.record.key_id}"] = packed.claims
        except Unavailable:
            raise
        except Refusal:
            # nothing of it stays: half a package is none
            for one in arrivals:
                await self._carriage.discard(one.key.module, one.key.label, one.key.object_id)
            raise
        facts["transport_left"] = str(await self._carriage.discard(*place))
        return _made(facts)

    async def dispose(self, statement: Statement, records: _Records) -> Made:
        """Destroy the source's copies, on every module; where they are to be deactivated no module has a part in it."""
        found = _transfer(statement, records)
        plan = found.plan
        if plan is None or plan.disposition != papers.DESTROY:
            return _made({"disposition": papers.DEACTIVATE})
        facts = {"disposition": papers.DESTROY, "objects_left": "0"}
        for one in plan.keys:
            gone = dict((await self._vault.destroy(_key(records, one.key_id))).facts)
            facts[f"destroyed:{one.key_id}"] = gone.get("objects_destroyed", "0")
            if gone.get("objects_left") != "0":
                raise Corrupt(
                    f"a module still has objects of key {one.key_id}",
                    rule="transfer/not-destroyed",
                    clause="G2.22I",
                )
        return _made(facts)

    async def decline(self, statement: Statement, records: _Records) -> Made:
        """Destroy the transport key: nothing is opened with it any more."""
        found = _transfer(statement, records)
        label = label_of(found.transfer_id)
        left = await self._carriage.discard(ModuleName(found.offer.module), label, object_id(label))
        return _made({"transport_left": str(left)})

    def _require_clock(self) -> None:
        """In `live` nothing moves by a clock that nobody vouches for: the approval's window is held by it."""
        quality = "" if self._clock is None else self._clock.now().quality
        if self._environment is Environment.LIVE and quality != SYNCHRONISED:
            raise Unavailable(
                "the clock of this machine is not synchronised, so whether the approval's window is open cannot be told; have it "
                "synchronised, and carry the act out again",
                rule="transfer/clock",
                clause="G2.22I(b)(i)",
            )

    def _claims(self, packed: notices.PackedKey) -> Claimed:
        return claimed.parse(self._blob(claims_name(packed.record.key_id), packed.claims, CLAIMS_OCTETS))

    def _blob(self, name: str, wanted: str, at_most: int = KEY_OCTETS) -> bytes:
        octets = self._crate.take(name, at_most)
        if _sha256(octets) != wanted:
            raise Malformed(
                f"the blob of {name} is not the one that its manifest names; ask for the package again",
                rule="transfer/blob",
                clause="G2.22I",
            )
        return octets

    def _proven(
        self, arrivals: Sequence[Arrival], arrived: Sequence[Arrived], transfer_id: str
    ) -> dict[str, str]:
        """Verify every proof; in `live` every attribute is as it was asked, in `test` the record says which is not."""
        facts: dict[str, str] = {}
        for arrival, one in zip(arrivals, arrived, strict=True):
            key = arrival.key
            require_proven(one.proof, transfer_id, key.key_class, key.public_point, arrival.check)
            facts[f"proof:{key.key_id}"] = f"{one.proof.challenge.hex()}:{one.proof.answer.hex()}"
            if one.differences and self._environment is Environment.LIVE:
                raise Forbidden(
                    f"the module holds key {key.key_id} otherwise than asked: {'; '.join(one.differences)}",
                    rule="hsm/template",
                    clause="G2.22G",
                )
            if one.differences:
                facts[f"differs:{key.key_id}"] = "; ".join(one.differences)
        return facts


def _transfer(statement: Statement, records: _Records) -> TransferRecord:
    found = records.get(("transfer-record", statement.subject))
    if not isinstance(found, TransferRecord):
        raise Malformed(f"there is no transfer {statement.subject}", rule="transfer/unknown", clause="G2.22I")
    return found


def _key(records: _Records, key_id: str) -> KeyRecord:
    found = records.get(("key-record", key_id))
    if not isinstance(found, KeyRecord):
        raise Malformed(f"there is no key {key_id}", rule="transfer/key", clause="G2.22I")
    return found


def _made(facts: Mapping[str, str]) -> Made:
    return Made(b"", tuple(sorted(facts.items())))


def _sha256(octets: bytes) -> str:
    return hashlib.sha256(octets).hexdigest()
