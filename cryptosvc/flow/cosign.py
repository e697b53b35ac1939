"""Cosign: the newest checkpoint is taken to every witness that has not cosigned it, and its line is kept.

A witness that is away delays nothing and nobody. One that says this log went back, or shows two faces, is recorded, and
said as loudly as a corrupt store: `witness/rolled-back`, `witness/forked`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from cryptosvc.core import checkpoint as notes
from cryptosvc.core.errors import Corrupt, CryptosvcError, Malformed, Unavailable
from cryptosvc.core.witness import CLAUSE, AddCheckpoint, Witness, cosignature, cosignatures, with_line
from cryptosvc.flow.observe import Observer
from cryptosvc.flow.ports import Ledger
from cryptosvc.flow.witness import CONFLICT, OK, Answer


class Peer(Protocol):
    """A witness, where it can be asked."""

    @property
    def witness(self) -> Witness:
        """Who it is."""

    async def add_checkpoint(self, asked: AddCheckpoint) -> Answer:
        """Ask it. Unavailable: it does not answer."""


@dataclass(slots=True)
class _Standing:
    """What is known of a witness: the size it has, and what was last recorded of it."""

    size: int = 0
    said: str = ""


class Cosigner:
    """Collects cosignatures.

    Args:
        ledger: the log.
        observer: records what witnesses object to.
        peers: the witnesses.

    """

    def __init__(self, ledger: Ledger, observer: Observer, peers: Sequence[Peer]) -> None:
        self._ledger = ledger
        self._observer = observer
        self._peers = peers
        self._standings = {peer.witness: _Standing() for peer in peers}

    async def turn(self) -> int:
        """Take the newest checkpoint to the witnesses that have not cosigned it; how many did now.

        Raises:
            Corrupt: a witness holds that this log was put back or rewritten; the others were asked first.
            Unavailable: the log cannot be read or written.

        """
        found: CryptosvcError | None = None
        done = 0
        for peer in self._peers:
            note = await self._ledger.checkpoint()
            if note is None:
                return done
            try:
                done += await self._asked(peer, note)
            except (Corrupt, Malformed, Unavailable) as error:
                await self._record(peer.witness, error)
                found = error if isinstance(error, Corrupt) or found is None else found
            else:
                self._standings[peer.witness].said = ""
        if isinstance(found, Corrupt):
            raise found
        return done

    async def _asked(self, peer: Peer, note: bytes) -> bool:
        """Whether the witness cosigned now; False where it had before."""
        witness, checkpoint = peer.witness, notes.parse(note).checkpoint
        if cosignatures(note, [witness]):
            return False
        standing = self._standings[witness]
        answer = await self._ask(peer, note, checkpoint.size)
        if answer.status == CONFLICT:
            standing.size = _size(answer)
            _require_not_behind(witness, standing.size, checkpoint)
            answer = await self._ask(peer, note, checkpoint.size)
        if answer.status != OK:
            raise _refused(witness, answer)
        line = _line(answer, checkpoint)
        cosignature(line, witness, checkpoint)
        await self._ledger.cosigned(with_line(note, line))
        standing.size = checkpoint.size
        return True

    async def _ask(self, peer: Peer, note: bytes, size: int) -> Answer:
        old = self._standings[peer.witness].size
        old = old if old <= size else 0
        proof = await self._ledger.consistency_proof(old, size) if 0 < old < size else ()
        return await peer.add_checkpoint(AddCheckpoint(old, tuple(proof), note))

    async def _record(self, witness: Witness, error: CryptosvcError) -> None:
        """Record what hinders a witness, once until something else does."""
        standing = self._standings[witness]
        if standing.said != error.rule:
            standing.said = error.rule
            facts = {"witness": witness.name, "rule": error.rule, "size": str(standing.size)}
            await self._observer.happened("witness", "cosign", facts, {})


def _require_not_behind(witness: Witness, size: int, checkpoint: notes.Checkpoint) -> None:
    if size > checkpoint.size:
        raise Corrupt(
            f"{witness.name} cosigned this log with {size} entries, and it has {checkpoint.size}: it was put back",
            rule="witness/rolled-back",
            clause=CLAUSE,
        )
    if size == checkpoint.size:
        raise _forked(witness)


def _refused(witness: Witness, answer: Answer) -> CryptosvcError:
    if answer.status in (CONFLICT, 422):
        return _forked(witness)
    return Unavailable(
        f"{witness.name} answered {answer.status}; does it know this log and its key?", rule="witness/refused"
    )


def _forked(witness: Witness) -> Corrupt:
    return Corrupt(
        f"{witness.name} cosigned other entries of this log: it was rewritten, or shows two faces",
        rule="witness/forked",
        clause=CLAUSE,
    )


def _size(answer: Answer) -> int:
    text = answer.body.decode("ascii", "replace").strip()
    if not (text.isdecimal() and len(text) < 20):  # digits of 2**63
        raise Malformed("the witness named no size", rule="witness/answer")
    return int(text)


def _line(answer: Answer, checkpoint: notes.Checkpoint) -> notes.NoteSignature:
    """The witness's own line; others that it may send are not asked for."""
    try:
        found = notes.parse(notes.text(checkpoint) + b"\n" + answer.body)
    except Malformed:
        raise Malformed("the witness sent no signature line", rule="witness/answer") from None
    return found.signatures[0]
