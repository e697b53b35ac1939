"""Why every record of a log is as it is: each change derived again from what was approved, from the genesis on.

The deriving is `core/replay.py`'s. Here it copes with gaps: a document that somebody redacted takes its change, and
what rests on it, out. How many those are is counted, and said.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from cryptosvc.core import dsse
from cryptosvc.core import review as sign_off
from cryptosvc.core.acts.table import act as act_named
from cryptosvc.core.canonical import JsonValue
from cryptosvc.core.custodian import CustodianRecord, CustodianRole, CustodianState
from cryptosvc.core.errors import Corrupt, CryptosvcError
from cryptosvc.core.history import Name, RecordChange, object_of
from cryptosvc.core.proposal import ProposalRecord
from cryptosvc.core.registry import Record, record_from_document
from cryptosvc.core.replay import Change, Replay
from cryptosvc.core.review import Recorded


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose log it is, as its genesis entry says; statements approved for another log count for nothing in this one."""

    origin: str
    system: str
    environment: str


@dataclass(frozen=True, slots=True)
class Derived:
    """What came of deriving every change again.

    Args:
        changes: how many came out exactly as recorded.
        underived: how many could not be derived, because a document was redacted.
        proposals: governed acts that were carried out, approvals and quorum verified.
        reviews: sign-offs of the log whose signature is that of a registered auditor at the time.

    """

    changes: int = 0
    underived: int = 0
    proposals: int = 0
    reviews: int = 0


@dataclass(slots=True)
class _Deriving:
    """Replay with gaps: which records are not known, because a document is missing or a change was not derived."""

    replay: Replay
    owner: Owner
    changes: int = 0
    underived: int = 0
    reviews: int = 0
    unknown: set[Name] = field(default_factory=set)
    taken_on_trust: set[str] = field(default_factory=set)
    """Proposals whose last change was not derived."""

    def take(self, change: RecordChange) -> None:
        if not change.document:
            self.unknown.add(change.name)
            self._skip(change, None)
            return
        document = object_of(change.document)
        record = record_from_document(change.kind, document)
        if isinstance(record, ProposalRecord):
            self._require_for_this_log(change, record)
        derivable = Change(
            change.leaf_index,
            change.at,
            change.kind,
            document,
            change.reason,
            change.reference,
            change.approvals,
        )
        try:
            self.replay.take(derivable)
        except CryptosvcError as error:
            if not self._rests_on_a_gap(change, record):
                if isinstance(error, Corrupt):
                    raise
                raise Corrupt(
                    f"entry {change.leaf_index} cannot be derived: {error.message}",
                    rule="replay/record",
                    clause="G2.27",
                ) from None
            self._skip(change, record)
        else:
            self.changes += 1
            self.taken_on_trust.discard(change.record_id)
        self.unknown.discard(change.name)

    def review(self, recorded: Recorded, roots: Mapping[int, bytes]) -> None:
        """Verify a sign-off again: what it says, of this log, by somebody who was an auditor then."""
        name = ("custodian-record", recorded.custodian_id)
        if not (recorded.envelope and recorded.custodian_id) or name in self.unknown:
            self.underived += 1
            return
        signer = self.replay.records.get(name)
        try:
            signed = dsse.parse(recorded.envelope.encode())
            found = sign_off.parse(signed.payload)
            if not (
                isinstance(signer, CustodianRecord)
                and signer.state is CustodianState.REGISTERED
                and CustodianRole.AUDITOR in signer.roles
            ):
                raise _no_review(recorded, f"{recorded.custodian_id!r} was no auditor then")
            dsse.verify(signed, {dsse.key_id(signer.key): signer.key})
        except Corrupt:
            raise
        except CryptosvcError as error:
            raise _no_review(recorded, error.message) from None
        if (signed.payload_type, dict(recorded.facts)) != (
            sign_off.REVIEW_TYPE,
            sign_off.facts_of(found),
        ):
            raise _no_review(recorded, "the entry says other than what was signed")
        of_this_log = found.origin == self.owner.origin and found.size <= recorded.leaf_index
        if not of_this_log or roots.get(found.size, found.root) != found.root:
            raise _no_review(recorded, "what was signed off is not a beginning of this log")
        self.reviews += 1

    def _require_for_this_log(self, change: RecordChange, proposal: ProposalRecord) -> None:
        statement = proposal.statement
        meant = Owner(statement.origin, statement.system, statement.environment.value)
        if meant != self.owner:
            raise Corrupt(
                f"entry {change.leaf_index} is a proposal for another log, system or environment",
                rule="replay/other-log",
                clause="G2.20",
            )

    def _skip(self, change: RecordChange, record: Record | None) -> None:
        self.underived += 1
        self.replay.skip(change.name, change.reference, record)
        if change.kind == "proposal-record":
            self.taken_on_trust.add(change.record_id)

    def _rests_on_a_gap(self, change: RecordChange, record: Record) -> bool:
        """Whether anything this change is derived from is not known."""
        if change.reason == "proposal" and change.reference in self.taken_on_trust:
            return True
        about = {change.name}
        proposal = record
        if not isinstance(record, ProposalRecord) and change.reason == "proposal":
            about.add(("proposal-record", change.reference))
            known = self.replay.records.get(("proposal-record", change.reference))
            proposal = record if known is None else known
        if isinstance(proposal, ProposalRecord):
            statement = proposal.statement
            act = act_named(statement.act)
            about |= {(act.kind, statement.subject), *act.looks_at(statement)}
            about |= {("custodian-record", one.custodian_id) for one in proposal.endorsements}
            if act.kind == "custodian-record":
                about |= {name for name in self.unknown if name[0] == act.kind}
        return not about.isdisjoint(self.unknown)


def derived(
    changes: Sequence[RecordChange],
    owner: Owner,
    genesis: Mapping[Name, Mapping[str, JsonValue]],
    *,
    shortcut: bool = True,
    reviews: Sequence[Recorded] = (),
    roots: Mapping[int, bytes] = MappingProxyType({}),
) -> Derived:
    """Derive every change again, from the first on.

    Args:
        changes: every one, in the order of the log; documents compared with their digests.
        owner: whose log it is, as the genesis entry says.
        genesis: document of every record the signed genesis names.
        shortcut: whether the genesis entry lets `init` register without approval.
        reviews: sign-offs, in the order of the log.
        roots: of the log at sizes that checkpoints sign.

    Raises:
        Corrupt: `replay/…`, naming the first change that does not come out as recorded; `replay/review` of a sign-off.

    """
    deriving = _Deriving(Replay(owner.environment, genesis, shortcut=shortcut), owner)
    waiting = list(reversed(reviews))
    for change in changes:
        while waiting and waiting[-1].leaf_index < change.leaf_index:
            deriving.review(waiting.pop(), roots)
        deriving.take(change)
    while waiting:
        deriving.review(waiting.pop(), roots)
    deriving.replay.require_nothing_awaited()
    return Derived(deriving.changes, deriving.underived, deriving.replay.governed, deriving.reviews)


def _no_review(recorded: Recorded, why: str) -> Corrupt:
    return Corrupt(
        f"entry {recorded.leaf_index} is no sign-off of this log: {why}", rule="replay/review", clause="G2.26"
    )
