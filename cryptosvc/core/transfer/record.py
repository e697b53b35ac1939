"""Transfer records: a transfer as one side's registry has it, from its first step to its last.

The record holds the papers themselves, so that whoever replays the log needs nothing else; what software of the other
side signed stands, with its signature, in the statement of the act that took it in.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from cryptosvc.core.canonical import JsonValue
from cryptosvc.core.documents import mapping, mappings, number, number_or_none, text
from cryptosvc.core.errors import Malformed
from cryptosvc.core.life import UnixSeconds
from cryptosvc.core.names import SystemName
from cryptosvc.core.transfer import states
from cryptosvc.core.transfer.papers import (
    Approval,
    Offer,
    Plan,
    approval_document,
    approval_from_document,
    offer_document,
    offer_from_document,
    plan_document,
    plan_from_document,
)
from cryptosvc.core.transfer.states import Side, Step, TransferState


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferRecord:
    """One transfer.

    Args:
        transfer_id: the same on both sides.
        version: counts changes of this record, from 1.
        side: which end this deployment is.
        state: where it stands.
        system: the system whose registry this is.
        offer: the destination's.
        plan: the source's; None at a destination that has no package yet.
        approval: the SMKI PMA's; None before it was handed in.
        approved_by: custodian ids of the SMKI PMA's approvers who signed it, sorted.
        package: digest of the package, hex; at the source of what was wrapped. Empty before the export.
        facts: what the modules gave: digests of blobs, trust, proofs; sorted by name.
        dispose_by: when the source's copies must be gone; None before the export and at a destination.
        steps: each step that was taken and when, in order.

    """

    transfer_id: str
    version: int
    side: Side
    state: TransferState
    system: SystemName
    offer: Offer
    plan: Plan | None = None
    approval: Approval | None = None
    approved_by: tuple[str, ...] = ()
    package: str = ""
    facts: tuple[tuple[str, str], ...] = ()
    dispose_by: UnixSeconds | None = None
    steps: tuple[tuple[Step, UnixSeconds], ...] = field(default=())

    def stepped(self, step: Step, at: UnixSeconds) -> "TransferRecord":
        """One version on, in the state the step leads to; WrongState where the table has no such entry."""
        return replace(
            self,
            version=self.version + 1,
            state=states.after(self.state, step),
            steps=(*self.steps, (step, at)),
        )

    def when(self, step: Step) -> UnixSeconds | None:
        """When a step was taken; None where it was not."""
        return next((at for one, at in self.steps if one is step), None)


def transfer_document(record: TransferRecord) -> dict[str, JsonValue]:
    """Print a transfer record."""
    return {
        "transfer_id": record.transfer_id,
        "version": record.version,
        "side": record.side.value,
        "state": record.state.value,
        "system": record.system,
        "offer": offer_document(record.offer),
        "plan": None if record.plan is None else plan_document(record.plan),
        "approval": None if record.approval is None else approval_document(record.approval),
        "approved_by": list(record.approved_by),
        "package": record.package,
        "facts": dict(record.facts),
        "dispose_by": record.dispose_by,
        "steps": [{"step": step.value, "at": at} for step, at in record.steps],
    }


def transfer_from_document(document: Mapping[str, JsonValue]) -> TransferRecord:
    """Read a transfer record. Malformed: not what `transfer_document` prints."""
    try:
        facts = mapping(document, "facts")
        dispose_by = number_or_none(document, "dispose_by")
        approved_by = document["approved_by"]
        if not isinstance(approved_by, list):
            raise _not_a_record()
        found = TransferRecord(
            transfer_id=text(document, "transfer_id"),
            version=number(document, "version"),
            side=Side(text(document, "side")),
            state=TransferState(text(document, "state")),
            system=SystemName(text(document, "system")),
            offer=offer_from_document(mapping(document, "offer")),
            plan=None if document["plan"] is None else plan_from_document(mapping(document, "plan")),
            approval=None
            if document["approval"] is None
            else approval_from_document(mapping(document, "approval")),
            approved_by=tuple(str(one) for one in approved_by),
            package=text(document, "package"),
            facts=tuple(sorted((name, text(facts, name)) for name in facts)),
            dispose_by=None if dispose_by is None else UnixSeconds(dispose_by),
            steps=tuple(
                (Step(text(one, "step")), UnixSeconds(number(one, "at")))
                for one in mappings(document, "steps")
            ),
        )
        same = transfer_document(found) == document
    except (KeyError, TypeError, ValueError, Malformed):
        raise _not_a_record() from None
    if not same:
        raise _not_a_record()
    return found


def _not_a_record() -> Malformed:
    return Malformed("this is not a transfer record as this version prints it", rule="registry/document")
