"""Keys in parts, as a ceremony does them: what the module has to do once the custodians approved, and what is left.

In `test` the service takes the key out in sealed parts, which lie among the files of the ceremony, one for each holder;
only then is the object destroyed. In `live` the quorum of the module does it, and here it is seen that the module has no
such object any more, or has it again. Either may be asked for again after it was interrupted: parts that this step has
made are found by its mark, and a key that is back already proves itself.
"""

import asyncio
from collections.abc import Mapping, Sequence

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_public_key

from cryptosvc.adapters.hsm import splitting
from cryptosvc.adapters.hsm.splitting import Brought, Holder, Place
from cryptosvc.core import parts
from cryptosvc.core.acts.base import Made, text_of
from cryptosvc.core.ceremony.verdict import MODULE_EVIDENCE
from cryptosvc.core.errors import Corrupt, Forbidden, Malformed, Unavailable
from cryptosvc.core.names import Environment
from cryptosvc.core.parts import Part
from cryptosvc.core.proposal import ProposalRecord, ProposalState
from cryptosvc.core.registry import KeyRecord, Record
from cryptosvc.core.statement import Statement
from cryptosvc.flow.govern import Mover
from cryptosvc.flow.ports import Records, Vault
from cryptosvc.wiring.ceremony.governed import MARK_CHARACTERS
from cryptosvc.wiring.ceremony.people import Room
from cryptosvc.wiring.ceremony.rereading import fingerprint
from cryptosvc.wiring.ceremony.shelf import FILES, Shelf

SET = "set"
"""The fact of a split that names the set its parts are of."""
_Around = Mapping[tuple[str, str], Record]


class Splitter:
    """What the module has to do for `key.split` and `key.recombine`.

    Args:
        places: module → where keys of it are taken out and put back.
        vault: the modules.
        records: the registry.
        room: those present, with the keys that open their parts.
        shelf: where parts lie.

    """

    def __init__(
        self, places: Mapping[str, Place], vault: Vault, records: Records, room: Room, shelf: Shelf
    ) -> None:
        self._places = places
        self._vault = vault
        self._records = records
        self._room = room
        self._shelf = shelf

    def movers(self) -> Mapping[str, Mover]:
        """For the Governor."""
        return {"key.split": self.split, "key.recombine": self.recombine}

    async def split(self, statement: Statement, around: _Around) -> Made:
        """Have the key exist in parts alone."""
        key = _key(statement, around)
        if key.environment is Environment.LIVE:
            await self._require_gone(key)
            return Made(b"", _facts({MODULE_EVIDENCE: text_of(statement, "evidence")}))
        mark, holders = statement.nonce[:MARK_CHARACTERS], _named(statement)
        made = self._made_before(key, mark)
        if not made:
            asked = [Holder(person, self._spki(person)) for person in holders]
            threshold = statement.parameters["threshold"]
            assert isinstance(threshold, int)
            place = self._places[str(key.module)]
            made = await asyncio.to_thread(splitting.split, place, key, asked, threshold, mark)
            for part in made:
                self._shelf.put(FILES, file_of(part), parts.emit(part))
        # only what lies on the disk, whole, in sealed parts, is destroyed in the module
        gone = await self._vault.destroy(key)
        facts = {f"part_{part.number}": f"{part.holder}: {fingerprint(parts.emit(part))}" for part in made}
        return Made(b"", _facts({**dict(gone.facts), **facts, SET: made[0].set_id}))

    async def recombine(self, statement: Statement, around: _Around) -> Made:
        """Have the key whole again, in its module."""
        key = _key(statement, around)
        if key.environment is Environment.LIVE:
            found = await self._vault.adopt(key)
            return Made(
                found.public_point,
                _facts({**dict(found.facts), MODULE_EVIDENCE: text_of(statement, "evidence")}),
            )
        set_id = await self._set_of(key)
        mine = [one for one in self.on_shelf(key) if one.set_id == set_id]
        holders = _named(statement)
        there = [one for one in mine if one.holder in holders]
        if len(there) != len(holders):
            lacking = ", ".join(sorted(set(holders) - {one.holder for one in there}))
            raise Unavailable(
                f"the parts of {lacking} are not among the files of this ceremony; put them there and resume",
                rule="split/no-part",
                clause=statement.clause,
            )
        brought = [Brought(part, self._opening(part)) for part in there]
        await asyncio.to_thread(splitting.restore, self._places[str(key.module)], key, brought)
        found = await self._vault.adopt(key)
        return Made(found.public_point, _facts({**dict(found.facts), SET: set_id}))

    def on_shelf(self, key: KeyRecord) -> list[Part]:
        """Every part of a key that lies among the files."""
        found = []
        for name in self._shelf.names(FILES):
            if name.startswith(f"{key.key_id}.") and name.endswith(_ENDING):
                part = parts.parse(self._shelf.get(FILES, name))
                if (part.key_id, part.public_point) == (key.key_id, key.public_point):
                    found.append(part)
        return found

    def _made_before(self, key: KeyRecord, mark: str) -> Sequence[Part]:
        """Parts that this very step has made before it was interrupted, all of them; the last set of several."""
        sets = parts.whole_sets([one for one in self.on_shelf(key) if one.mark == mark])
        return list(sets.values())[-1] if sets else ()

    async def _set_of(self, key: KeyRecord) -> str:
        """The set that the last split of the key made, as its proposal says."""
        ended = [
            one
            for one in await self._records.of_kind("proposal-record")
            if isinstance(one, ProposalRecord)
            and one.state is ProposalState.DONE
            and (one.statement.act, one.statement.subject) == ("key.split", str(key.key_id))
        ]
        if not ended:
            raise Corrupt(f"no proposal says how {key.key_id} was split", rule="split/no-record")
        last = max(ended, key=lambda one: one.statement.subject_version)
        return dict(last.outcome)[SET]

    async def _require_gone(self, key: KeyRecord) -> None:
        held = await self._vault.objects(key.module)
        if any((one.label, one.object_id) == (key.label, key.object_id) for one in held):
            raise Forbidden(
                f"module {key.module} has the key {key.key_id} whole still: have its quorum split it, then resume",
                rule="split/whole",
                clause="G2.44B",
            )

    def _spki(self, person: str) -> bytes:
        if person not in self._room.keys:
            raise Malformed(f"{person} is not here", rule="split/holder", clause="G2.44B", field="holders")
        return self._room.keys[person].spki

    def _opening(self, part: Part) -> bytes:
        """Have the holder's key agree with the part's: what opens it."""
        theirs = load_der_public_key(self._spki(part.holder))
        assert isinstance(theirs, ec.EllipticCurvePublicKey)
        point = theirs.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
        secret = self._room.keys[part.holder].agree(part.ephemeral)
        return parts.sealing_key(secret, part.ephemeral, point)


_ENDING = ".part.json"


def file_of(part: Part) -> str:
    """Name of the file of a part: its key, its set, its number."""
    return f"{part.key_id}.{part.set_id}.{part.number}{_ENDING}"


def _key(statement: Statement, around: _Around) -> KeyRecord:
    found = around["key-record", statement.subject]
    assert isinstance(found, KeyRecord)
    return found


def _named(statement: Statement) -> list[str]:
    return text_of(statement, "holders").split(",")


def _facts(facts: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    return tuple(sorted(facts.items()))
