"""Why every record of a log is as it is: each change derived again from what was approved, from the genesis on.

The deriving is `core/replay.py`'s. Here it copes with gaps: a document that somebody redacted takes its change, and
what rests on it, out. How many those are is counted, and said.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from cryptosvc.core.acts.table import act as act_named
from cryptosvc.core.canonical import JsonValue
from cryptosvc.core.errors import Corrupt, CryptosvcError
from cryptosvc.core.history import Name, RecordChange, object_of
from cryptosvc.core.proposal import ProposalRecord
from cryptosvc.core.registry import Record, record_from_document
from cryptosvc.core.replay import Change, Replay


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

    """

    changes: int = 0
    underived: int = 0
    proposals: int = 0


@dataclass(slots=True)
class _Deriving:
    """Replay with gaps: which records are not known, because a document is missing or a change was not derived."""

    replay: Replay
    owner: Owner
    changes: int = 0
    underived: int = 0
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
) -> Derived:
    """Derive every change again, from the first on.

    Args:
        changes: every one, in the order of the log; documents compared with their digests.
        owner: whose log it is, as the genesis entry says.
        genesis: document of every record the signed genesis names.
        shortcut: whether the genesis entry lets `init` register without approval.

    Raises:
        Corrupt: `replay/…`, naming the first change that does not come out as recorded.

    """
    deriving = _Deriving(Replay(owner.environment, genesis, shortcut=shortcut), owner)
    for change in changes:
        deriving.take(change)
    deriving.replay.require_nothing_awaited()
    return Derived(deriving.changes, deriving.underived, deriving.replay.governed)
