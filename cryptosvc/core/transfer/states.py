"""The states of a transfer and what leads from one to the next, as one table for either side.

A missing entry is illegal. At no moment are both copies of a key usable: the source's stops when it is exported, before
the package is signed; the destination's starts when it is imported. Between the two logs there is no consensus, so after
the export the source's copy comes back only on proof that the package can never be opened.

    source        (none) ─propose→ proposed ─approve→ approved ─export→ exported ─receipt→ receipted ─dispose→ disposed
                                       └──── abort ────┴→ aborted          └─ roll-back → rolled-back
    destination   (none) ─offer→ offered ─import→ imported
                                    └─ decline → declined

Source: Smart Energy Code G2.22F to G2.22I.

Example:
    >>> after(TransferState.APPROVED, Step.EXPORT)
    <TransferState.EXPORTED: 'exported'>
"""

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType

from cryptosvc.core.errors import WrongState


class Side(StrEnum):
    """Which end of a transfer a deployment is."""

    SOURCE = "source"
    DESTINATION = "destination"


class TransferState(StrEnum):
    """Where a transfer stands, as one side sees it."""

    PROPOSED = "proposed"
    APPROVED = "approved"
    EXPORTED = "exported"
    RECEIPTED = "receipted"
    DISPOSED = "disposed"
    ABORTED = "aborted"
    ROLLED_BACK = "rolled-back"
    OFFERED = "offered"
    IMPORTED = "imported"
    DECLINED = "declined"


class Step(StrEnum):
    """What happens to a transfer; each is a governed act, `transfer.` and its name."""

    PROPOSE = "propose"
    APPROVE = "approve"
    EXPORT = "export"
    RECEIPT = "receipt"
    DISPOSE = "dispose"
    ABORT = "abort"
    ROLL_BACK = "roll-back"
    OFFER = "offer"
    IMPORT = "import"
    DECLINE = "decline"


STEPS: Mapping[tuple[TransferState | None, Step], TransferState] = MappingProxyType(
    {
        (None, Step.PROPOSE): TransferState.PROPOSED,
        (TransferState.PROPOSED, Step.APPROVE): TransferState.APPROVED,
        (TransferState.APPROVED, Step.EXPORT): TransferState.EXPORTED,
        (TransferState.EXPORTED, Step.RECEIPT): TransferState.RECEIPTED,
        (TransferState.RECEIPTED, Step.DISPOSE): TransferState.DISPOSED,
        (TransferState.PROPOSED, Step.ABORT): TransferState.ABORTED,
        (TransferState.APPROVED, Step.ABORT): TransferState.ABORTED,
        (TransferState.EXPORTED, Step.ROLL_BACK): TransferState.ROLLED_BACK,
        (None, Step.OFFER): TransferState.OFFERED,
        (TransferState.OFFERED, Step.IMPORT): TransferState.IMPORTED,
        (TransferState.OFFERED, Step.DECLINE): TransferState.DECLINED,
    }
)
"""(state, step) → state; None is a transfer that has no record yet."""


def after(state: TransferState | None, step: Step) -> TransferState:
    """State that a step leads to; WrongState where the table has no such entry."""
    found = STEPS.get((state, step))
    if found is None:
        now = "does not exist" if state is None else f"is {state}"
        may = ", ".join(sorted(one.value for known, one in STEPS if known is state)) or "nothing"
        raise WrongState(
            f"a transfer that {now} has no step {step}; what may happen to it now: {may}",
            rule="transfer/step",
            clause="G2.22I",
            field="act",
        )
    return found
