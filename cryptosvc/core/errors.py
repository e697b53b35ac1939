"""What can go wrong, by who must act on it.

One tree. Every class carries a `Reason`, and `service/status.py` maps each reason to one gRPC status in an
exhaustive match, so a reason without a status does not type-check. `core` knows no status codes.

A message names the rule and what to do next; it never contains payload bytes, key material or a PIN.

Example:
    >>> raise Malformed("the DER encoding has trailing bytes", rule="der/trailing-bytes", field="tbs_certificate")
    Traceback (most recent call last):
    ...
    cryptosvc.core.errors.Malformed: the DER encoding has trailing bytes
"""

from enum import StrEnum


class Reason(StrEnum):
    """Who must act; the stable word a machine may match on (google.rpc.ErrorInfo.reason)."""

    MALFORMED = "MALFORMED"
    UNIDENTIFIED = "UNIDENTIFIED"
    FORBIDDEN = "FORBIDDEN"
    AWAITING_APPROVAL = "AWAITING_APPROVAL"
    WRONG_STATE = "WRONG_STATE"
    CONFLICT = "CONFLICT"
    BUSY = "BUSY"
    UNAVAILABLE = "UNAVAILABLE"
    OUTCOME_UNKNOWN = "OUTCOME_UNKNOWN"
    CORRUPT = "CORRUPT"
    INTERNAL = "INTERNAL"


class CryptosvcError(Exception):
    """Base of every error the service raises on purpose.

    Args:
        message: one sentence for a person: which rule, and what to do next. Never payload bytes or secrets.
        rule: stable name of the rule, `area/what-is-wrong`, lower case; tests and records match on it.
        clause: the clause of the Smart Energy Code the rule comes from, as `G2.60(a)`; empty where there is none.
        field: the request field at fault, in proto spelling; empty where no one field is.
        policies: ids of the Cedar policies that decided, sorted.

    """

    reason: Reason = Reason.INTERNAL

    def __init__(
        self,
        message: str,
        *,
        rule: str,
        clause: str = "",
        field: str = "",
        policies: tuple[str, ...] = (),
    ) -> None:
        super().__init__(message)
        self.message = message
        self.rule = rule
        self.clause = clause
        self.field = field
        self.policies = policies

    def __reduce__(self) -> tuple[object, ...]:
        """From process to process it goes as what it was made of."""
        return _again, (type(self), self.message, self.rule, self.clause, self.field, self.policies)


class Refusal(CryptosvcError):
    """The service will not do it, and knows that nothing was done. Every refusal becomes a record."""


class Malformed(Refusal):
    """The caller must fix the bytes: they are not, completely and canonically, what they are said to be."""

    reason = Reason.MALFORMED


class Unidentified(Refusal):
    """The caller must prove who it is: no certificate, an unknown one, or one of a revoked caller."""

    reason = Reason.UNIDENTIFIED


class Forbidden(Refusal):
    """Final: the key is not for this, or not for this caller. An unknown key looks the same."""

    reason = Reason.FORBIDDEN


class AwaitingApproval(Refusal):
    """Approvers must act: the quorum for this act is not complete."""

    reason = Reason.AWAITING_APPROVAL


class WrongState(Refusal):
    """A key custodian must act: the key's lifecycle state does not allow this operation."""

    reason = Reason.WRONG_STATE


class Conflict(Refusal):
    """Something else took the place first: a repeated request id, a reused counter, a changed registry."""

    reason = Reason.CONFLICT


class Repeated(Conflict):
    """A request id that was used before. It is never signed twice.

    Args:
        same_bytes: whether the first request had these very bytes.
        leaf_index: where the first request is recorded; None while it is still under way.
        leaf_hash: RFC 6962 leaf hash of that record; empty while it is under way.

    """

    def __init__(self, *, same_bytes: bool, leaf_index: int | None, leaf_hash: bytes) -> None:
        super().__init__(
            "this request id was used before; look at the first receipt, or ask again under a new id",
            rule="request-id/repeated",
            field="request_id",
        )
        self.same_bytes = same_bytes
        self.leaf_index = leaf_index
        self.leaf_hash = leaf_hash


class Busy(Refusal):
    """Wait and try again: a queue or a quota is full."""

    reason = Reason.BUSY


class Unavailable(Refusal):
    """Module, store or log is out of reach, and it is known that the work was not done: a retry is safe."""

    reason = Reason.UNAVAILABLE


class OutcomeUnknown(CryptosvcError):
    """A key may have been used and the answer was lost. Operators act; the call is never repeated by itself."""

    reason = Reason.OUTCOME_UNKNOWN


class Corrupt(CryptosvcError):
    """What was read is not what the log proves. Operators act; the service stops signing."""

    reason = Reason.CORRUPT


class Internal(CryptosvcError):
    """A fault of ours."""

    reason = Reason.INTERNAL


def _again(
    kind: type[CryptosvcError],
    message: str,
    rule: str,
    clause: str,
    field: str,
    policies: tuple[str, ...],
) -> CryptosvcError:
    return kind(message, rule=rule, clause=clause, field=field, policies=policies)
