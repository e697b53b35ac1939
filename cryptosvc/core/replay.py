"""Replay: from the first entry on, every change of every record is derived again from what was approved.

What the service did with `core/acts` is done once more, by the same pure functions, on what the log alone says. So
nothing has to be believed: a state that nobody approved, a quorum that was not there, a signature that is not the
custodian's, a record that came out otherwise than the statement says, each is found and named (G2.27, G5.13(b)).

Why a record changed is in its leaf: a proposal, a rule of the schedule, the signed genesis, the shortcut of environment
test, or, for what says how many device keys there are, a work that a proposal approved. There is no sixth.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from cryptosvc.core import dsse, lifecycle, rewound
from cryptosvc.core import statement as statements
from cryptosvc.core.acts.base import Made, Turn, key_class_of, require_parameters
from cryptosvc.core.acts.table import act as act_named
from cryptosvc.core.canonical import JsonValue
from cryptosvc.core.custodian import CustodianRecord, CustodianRole, CustodianState
from cryptosvc.core.custody import Rules, one_person
from cryptosvc.core.device_work import Steps
from cryptosvc.core.errors import Corrupt, CryptosvcError, Malformed
from cryptosvc.core.life import Event, UnixSeconds
from cryptosvc.core.proposal import Endorsement, ProposalRecord, ProposalState, may_follow
from cryptosvc.core.quorum import least_people, withdrawal_payload
from cryptosvc.core.registry import (
    KeyRecord,
    Record,
    record_document,
    record_from_document,
    record_id,
    record_kind,
)
from cryptosvc.core.statement import STATEMENT_TYPE, WITHDRAWAL_TYPE

EXPIRY = "schedule/proposal-expiry"
"""The rule by which an open proposal ends."""

_PEOPLE = re.compile(r"[0-9]{1,3}")
_WRITING_SECONDS = 60
"""From a moment that the service writes into a record, to the leaf that commits to the record."""
_MODULE_SECONDS = 3600
"""The same where a module has its part in between."""
_CLOCK_SECONDS = 5
"""How far a clock may be set back meanwhile."""

_Name = tuple[str, str]
_CODE_ALONE = Rules(engagement_gap_days=0, security_check=False)
"""What holds under every governance policy; the log names a policy by its digest and does not hold it."""


@dataclass(frozen=True, slots=True)
class Change:
    """One leaf that commits to a version of a record.

    Args:
        leaf_index: which.
        at: when, by the leaf's own time, whole seconds.
        kind: of the record.
        document: the record's document as kept beside the leaf.
        reason: `proposal`, `rule`, `genesis`, `init` or `device-work`.
        reference: proposal id, rule, digest of the genesis file, or empty.
        approvals: key ids whose approval counted, as the leaf says.

    """

    leaf_index: int
    at: UnixSeconds
    kind: str
    document: Mapping[str, JsonValue]
    reason: str
    reference: str
    approvals: tuple[str, ...]


@dataclass(slots=True)
class Replay:
    """The registry as it stands after so many leaves.

    Args:
        environment: of the genesis entry; the shortcut of `init` is for `test` alone.
        shortcut: whether the genesis entry allows it.
        genesis: (kind, id) → document of every record the signed genesis names.

    """

    environment: str
    genesis: Mapping[_Name, Mapping[str, JsonValue]] = field(default_factory=dict)
    records: dict[_Name, Record] = field(default_factory=dict)
    governed: int = 0
    shortcut: bool = True
    _open: dict[str, ProposalRecord] = field(default_factory=dict)
    """Done proposals whose records have yet to follow."""
    _awaited: dict[str, set[_Name]] = field(default_factory=dict)
    _approvals: dict[str, tuple[str, ...]] = field(default_factory=dict)
    _steps: Steps = field(default_factory=Steps)
    _kept: dict[str, dict[_Name, Record | None]] = field(default_factory=dict)
    """Per proposal being replayed: the records it has changed, as they were before it."""

    def take(self, change: Change) -> None:
        """Derive one change again; Corrupt, naming the entry, where it does not come out as recorded."""
        try:
            record = record_from_document(change.kind, change.document)
        except Malformed:
            raise _refused(change, "its document is not a record", "document") from None
        if change.reason == "init":
            if self.environment != "test" or not self.shortcut:
                raise _refused(change, "the shortcut of init is for environment test", "init-in-live")
        elif change.reason == "genesis":
            if not self._named(change, record):
                raise _refused(change, "the signed genesis does not name it", "genesis")
        elif change.reason == "rule":
            self._scheduled(change, record)
        elif change.reason == "proposal":
            self._proposed(change, record)
        elif change.reason == "device-work":
            self._worked(change, record)
        else:
            raise _refused(change, "nothing says why", "no-reason")
        self.records[_name(record)] = record

    def skip(self, name: _Name, reference: str, record: Record | None) -> None:
        """Pass over a change that rests on a document somebody redacted.

        Args:
            name: kind and id of the record.
            reference: the proposal behind the change, where there is one.
            record: as it is from here on; None where nobody can tell.

        """
        if record is None:
            self.records.pop(name, None)
        else:
            self.records[name] = record
        proposal = name[1] if name[0] == "proposal-record" else reference
        awaited = self._awaited.get(proposal, set())
        awaited.discard(name)
        if not awaited or name[1] == proposal:
            for kept in (self._awaited, self._open, self._approvals, self._kept):
                kept.pop(proposal, None)

    def _named(self, change: Change, record: Record) -> bool:
        """Whether the genesis names this very record; the public points of the log's keys came after it."""
        named = self.genesis.get(_name(record))
        if named is not None and isinstance(record, KeyRecord):
            named = {**named, "public_point": change.document["public_point"]}
        return named == change.document and record.version == 1 and _name(record) not in self.records

    def _worked(self, change: Change, record: Record) -> None:
        work = self.records.get(("device-work-record", change.reference))
        try:
            self._steps.require(change.reference, work, self.records.get(_name(record)), record)
        except Corrupt as error:
            raise _refused(change, error.message, "device-work") from None

    def require_nothing_awaited(self) -> None:
        """Corrupt where a proposal was carried out and a record it changes did not follow."""
        for proposal, names in self._awaited.items():
            for kind, name in names:
                raise Corrupt(
                    f"proposal {proposal} was carried out, but the {kind} of {name!r} did not change",
                    rule="replay/record-missing",
                )

    def _scheduled(self, change: Change, record: Record) -> None:
        """A date came: for a key its own, for a proposal its end."""
        before = self.records.get(_name(record))
        expected: list[Record | None] = []
        if isinstance(before, KeyRecord):
            # whoever wrote it down may have looked just before the next date came
            moments = [one.at for one in lifecycle.schedule(before) if one.at <= change.at]
            expected = [lifecycle.materialised(before, at, change.reference) for at in moments]
            found = record.life.when(Event.DEACTIVATE) if isinstance(record, KeyRecord) else None
            # that it was used so often, whoever counts the uses says (`core/history.py`)
            soon = found is not None and 0 <= change.at - found <= _WRITING_SECONDS
            if isinstance(record, KeyRecord):
                expected.append(rewound.derived(before, record, change.at, change.reference))
            if change.reference == lifecycle.USAGE_LIMIT and found is not None and soon:
                expected.append(lifecycle.spent(before, found))
        elif isinstance(before, ProposalRecord) and change.reference == EXPIRY:
            due = before.state is ProposalState.OPEN and change.at >= before.statement.expires_at
            expected = [expired(before) if due else None]
        if not any(one is not None and record_document(one) == change.document for one in expected):
            raise _refused(change, f"rule {change.reference!r} does not lead there", "rule")

    def _proposed(self, change: Change, record: Record) -> None:
        if isinstance(record, ProposalRecord) and record.proposal_id == change.reference:
            self._advance(change, record)
        else:
            self._carried_out(change, record)

    def _advance(self, change: Change, record: ProposalRecord) -> None:
        """The proposal itself moved: every signature that is new is verified, and the quorum where it was carried out."""
        before = self.records.get(_name(record))
        statement = record.statement
        if before is None:
            fresh = record.endorsements
            if record.state is not ProposalState.OPEN or len(fresh) != 1:
                raise _refused(change, "a proposal begins open, with its proposer's signature", "proposal")
            if fresh[0].custodian_id != statement.proposed_by:
                raise _refused(change, "another than the proposer signed it", "proposer")
            try:
                require_parameters(act_named(statement.act), statement)
            except CryptosvcError as error:
                raise _refused(change, f"its statement is none: {error.message}", "statement") from None
        else:
            assert isinstance(before, ProposalRecord)
            if record.statement != before.statement or not may_follow(before.state, record.state):
                raise _refused(change, "a proposal does not go that way", "proposal")
            known = len(before.endorsements)
            if record.endorsements[:known] != before.endorsements:
                raise _refused(change, "earlier signatures were changed", "endorsements")
            fresh = record.endorsements[known:]
            if len(fresh) != (record.state is ProposalState.OPEN):
                raise _refused(change, "an open proposal gains one signature at a time", "endorsements")
        payload = statements.emit(statement)
        for one in fresh:
            self._require_signature(change, one, STATEMENT_TYPE, payload)
        if record.state is ProposalState.WITHDRAWN:
            self._require_withdrawal(change, record)
        if record.state in (ProposalState.EXECUTING, ProposalState.DONE):
            self._require_quorum(change, record, ProposalState.OPEN if before is None else before.state)
        self._require_moments(change, fresh, record, before)
        if record.state is ProposalState.DONE:
            self._expect(change, record)

    def _require_signature(self, change: Change, one: Endorsement, payload_type: str, payload: bytes) -> None:
        signer = self.records.get(("custodian-record", one.custodian_id))
        if not isinstance(signer, CustodianRecord) or signer.state is not CustodianState.REGISTERED:
            raise _refused(change, f"{one.custodian_id!r} was no custodian then", "custodian")
        envelope = dsse.Envelope(payload_type, payload, (dsse.Signature(one.key_id, one.signature),))
        try:
            dsse.verify(envelope, {dsse.key_id(signer.key): signer.key})
        except CryptosvcError:
            raise _refused(
                change, f"the signature of {one.custodian_id!r} does not verify", "signature"
            ) from None

    def _require_moments(
        self, change: Change, fresh: Sequence[Endorsement], record: ProposalRecord, before: Record | None
    ) -> None:
        """What the record says of when is so, by the leaf's own time: dates and periods are reckoned from it."""
        in_module = isinstance(before, ProposalRecord) and before.state is ProposalState.EXECUTING
        at_most = _MODULE_SECONDS if in_module else _WRITING_SECONDS
        moments = [(one.at, _WRITING_SECONDS) for one in fresh]
        if record.ended_on is not None:
            moments.append((record.ended_on, at_most))
        under_way = record.state in (ProposalState.OPEN, ProposalState.EXECUTING)
        so = all(-_CLOCK_SECONDS <= change.at - at <= seconds for at, seconds in moments)
        if not so or under_way is not (record.ended_on is None):
            raise _refused(change, "it names another moment than its entry", "moment")

    def _require_withdrawal(self, change: Change, record: ProposalRecord) -> None:
        reason = dict(record.outcome).get("reason", "")
        payload = withdrawal_payload(record.proposal_id, reason)
        if record.withdrawal is None:
            raise _refused(change, "nobody signed the withdrawal", "withdrawal")
        self._require_signature(change, record.withdrawal, WITHDRAWAL_TYPE, payload)

    def _require_quorum(self, change: Change, record: ProposalRecord, before: ProposalState) -> None:
        """As many different people as the class table asks at least, the proposer not among them."""
        statement = record.statement
        act = act_named(statement.act)
        subject = self.records.get((act.kind, statement.subject))
        key_class = key_class_of(act, statement, subject)
        floor = least_people(act, key_class)
        if before is ProposalState.EXECUTING:
            # who approved was judged when it began: what became of them while the module worked undoes nothing
            if not set(change.approvals) <= {one.key_id for one in record.endorsements[1:]}:
                raise _refused(change, "it counts approvals that it does not have", "approvals")
            return
        asked = dict(record.outcome).get("needed_people", "")
        roles = set(dict(record.outcome).get("needed_roles", "").split(","))
        if not _PEOPLE.fullmatch(asked) or not roles <= set(CustodianRole):
            raise _refused(change, "it does not say how many of which roles had to approve it", "quorum")
        wanted = max(floor, int(asked))
        approved = record.endorsements[1:]
        if record.state is ProposalState.DONE:
            approved = tuple(one for one in approved if one.key_id in change.approvals)
        people = self._people(record, approved, roles)
        if len(people) < wanted:
            raise _refused(change, f"{len(people)} people approved it, {wanted} must", "quorum")
        if not set(change.approvals) <= {one.key_id for one in approved}:
            raise _refused(change, "it counts approvals that it does not have", "approvals")
        if change.at >= statement.expires_at and before is ProposalState.OPEN:
            raise _refused(change, "it had expired", "expired")

    def _people(self, record: ProposalRecord, approved: Sequence[Endorsement], roles: set[str]) -> set[str]:
        found: set[str] = set()
        for one in approved:
            signer = self.records.get(("custodian-record", one.custodian_id))
            if (
                isinstance(signer, CustodianRecord)
                and signer.state is CustodianState.REGISTERED
                and dsse.key_id(signer.key) == one.key_id
                and not roles.isdisjoint(role.value for role in signer.roles)
            ):
                found.add(one_person(signer.person))
        first = self.records.get(("custodian-record", record.statement.proposed_by))
        return found - ({one_person(first.person)} if isinstance(first, CustodianRecord) else set())

    def _expect(self, change: Change, record: ProposalRecord) -> None:
        statement = record.statement
        act = act_named(statement.act)
        if act.alone:
            self.governed += 1
            return
        self._approvals[record.proposal_id] = change.approvals
        self._open[record.proposal_id] = record
        self._awaited[record.proposal_id] = {(act.kind, statement.subject)}

    def _carried_out(self, change: Change, record: Record) -> None:
        """A record that a proposal changed: the act is done again, and must make this very document."""
        proposal = self._open.get(change.reference)
        if proposal is None or proposal.ended_on is None:
            raise _refused(change, "the proposal it names was not carried out before it", "proposal")
        if change.approvals != self._approvals[change.reference]:
            raise _refused(change, "it counts other approvals than its proposal", "approvals")
        statement = proposal.statement
        act = act_named(statement.act)
        made = None
        if act.touches_module:
            point = record.public_point if isinstance(record, KeyRecord) else b""
            made = Made(point, proposal.outcome)
        # the records before this proposal: those it changes come one leaf after another
        turn = Turn(
            statement=statement,
            at=proposal.ended_on,
            records=self._before(proposal),
            made=made,
            custody=_CODE_ALONE,
        )
        try:
            after = act.after(turn)
        except CryptosvcError as error:
            raise _refused(change, f"the act refuses it: {error.message}", "act") from None
        derived = {_name(one): record_document(one) for one in after}
        if derived.get(_name(record)) != change.document:
            raise _refused(change, "the approved act does not lead to this record", "record")
        awaited = self._awaited.setdefault(change.reference, set())
        awaited |= set(derived) if not self._changed(proposal) else set()
        awaited.discard(_name(record))
        self._snapshot(proposal, record)
        if not awaited:
            for kept in (self._awaited, self._open, self._approvals, self._kept):
                kept.pop(change.reference, None)
            self.governed += 1

    def _changed(self, proposal: ProposalRecord) -> bool:
        return proposal.proposal_id in self._kept

    def _snapshot(self, proposal: ProposalRecord, record: Record) -> None:
        self._kept.setdefault(proposal.proposal_id, {})[_name(record)] = self.records.get(_name(record))

    def _before(self, proposal: ProposalRecord) -> Mapping[_Name, Record]:
        """What the act may look at, as it was before this proposal changed any of it."""
        kept = self._kept.get(proposal.proposal_id, {})
        statement = proposal.statement
        act = act_named(statement.act)
        wanted: list[_Name] = [(act.kind, statement.subject), *act.looks_at(statement)]
        wanted += [name for name in self.records if name[0] == act.looks_at_every]
        found = {name: kept[name] if name in kept else self.records.get(name) for name in wanted}
        return {name: record for name, record in found.items() if record is not None}


def replayed(
    changes: Sequence[Change], environment: str, genesis: Mapping[_Name, Mapping[str, JsonValue]]
) -> Replay:
    """Replay every change in order; Corrupt, naming the entry, where one does not come out as recorded."""
    replay = Replay(environment, genesis)
    for change in changes:
        replay.take(change)
    replay.require_nothing_awaited()
    return replay


def expired(proposal: ProposalRecord) -> ProposalRecord:
    """The proposal after its end came; a rule of the schedule, `EXPIRY`."""
    ended_on = proposal.statement.expires_at
    return replace(proposal, version=proposal.version + 1, state=ProposalState.EXPIRED, ended_on=ended_on)


def _name(record: Record) -> _Name:
    return record_kind(record), record_id(record)


def _refused(change: Change, what: str, rule: str) -> Corrupt:
    return Corrupt(
        f"entry {change.leaf_index} changes a {change.kind}, but {what}",
        rule=f"replay/{rule}",
        clause="G2.27",
    )
