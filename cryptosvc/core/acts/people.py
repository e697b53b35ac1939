"""Acts on callers, custodians and modules: their records are registered, changed and ended like keys are.

Source: Smart Energy Code G4.1 to G4.8, G2.20, G2.22B(d), G2.24, G3.13 (people), G5.6, G5.21 (assets).
"""

from collections.abc import Mapping
from dataclasses import replace

from cryptosvc.core import custody
from cryptosvc.core.acts.base import Act, Kind, Parameter, Sentence, Turn, require_classified
from cryptosvc.core.asset import ModuleRecord, module_from_document
from cryptosvc.core.canonical import JsonValue
from cryptosvc.core.custodian import CustodianRecord, CustodianState, custodian_from_document
from cryptosvc.core.errors import Malformed, WrongState
from cryptosvc.core.registry import CallerRecord, CallerState, Record, caller_from_document, record_id

_DIGEST_OCTETS = 32
_RECORD = Parameter("record", Kind.DOCUMENT, "the whole record as it is to be, its version one on")


def _given(turn: Turn) -> Mapping[str, JsonValue]:
    value = turn.statement.parameters["record"]
    assert isinstance(value, Mapping)
    return value


def _require_same(turn: Turn, record: Record) -> None:
    """The document is the subject's, of this system, and one version on."""
    statement = turn.statement
    wanted = (statement.subject, statement.subject_version + 1)
    if (record_id(record), record.version) != wanted or record.system != statement.system:
        raise Malformed(
            f"the record in the statement is {statement.subject}'s of this system, at version {wanted[1]}",
            rule="statement/record",
            field="record",
        )


def _caller(turn: Turn) -> tuple[Record, ...]:
    before = turn.subject("caller-record")
    _require_new_or_known(turn, before, "caller")
    record = caller_from_document(_given(turn))
    _require_same(turn, record)
    _require_certificate(before, record)
    revoked = isinstance(before, CallerRecord) and before.state is CallerState.REVOKED
    if revoked or record.state is not CallerState.REGISTERED:
        raise WrongState(
            "a caller that was revoked stays so; register another, with another certificate",
            rule="caller/revoked",
            clause="G2.20",
        )
    return (record,)


def _require_new_or_known(turn: Turn, before: Record | None, what: str) -> None:
    """Registering is for what is not there, changing for what is: each has its own sentence and its own quorum."""
    if (before is None) is not turn.statement.act.endswith(".register"):
        stands = "is not registered" if before is None else "is registered already"
        raise WrongState(
            f"{what} {turn.statement.subject} {stands}; propose {what}.{'register' if before is None else 'change'}",
            rule="statement/act",
            clause="G2.20" if what == "caller" else turn.custody.clause("G4.7"),
        )


def _require_certificate(before: Record | None, record: CallerRecord) -> None:
    """A caller is known by a certificate; the service's own record has none and is nobody's to change."""
    own = isinstance(before, CallerRecord) and not any(before.certificate_sha256)
    if own or len(record.certificate_sha256) != _DIGEST_OCTETS or not any(record.certificate_sha256):
        raise Malformed(
            "a caller's certificate_sha256 is the SHA-256 of its client certificate, and the service's own record stays",
            rule="caller/certificate",
            clause="G2.20",
            field="record",
        )


def _revoke(turn: Turn) -> tuple[Record, ...]:
    before = turn.subject("caller-record")
    if isinstance(before, CallerRecord):
        _require_certificate(before, before)
    if not isinstance(before, CallerRecord) or before.state is CallerState.REVOKED:
        raise WrongState(
            f"{turn.statement.subject} is no registered caller", rule="caller/revoked", clause="G2.20"
        )
    return (replace(before, version=before.version + 1, state=CallerState.REVOKED),)


def _others(turn: Turn) -> list[CustodianRecord]:
    return [
        one
        for one in turn.records.values()
        if isinstance(one, CustodianRecord) and one.custodian_id != turn.statement.subject
    ]


def _custodian(turn: Turn) -> tuple[Record, ...]:
    before = turn.subject("custodian-record")
    _require_new_or_known(turn, before, "custodian")
    record = custodian_from_document(_given(turn))
    _require_same(turn, record)
    if record.state is not CustodianState.REGISTERED:
        raise Malformed(
            "this act registers or changes; another act removes", rule="statement/record", field="record"
        )
    if isinstance(before, CustodianRecord):
        custody.require_change(before, record, turn.at, turn.custody)
    custody.require_checked(record, turn.custody, turn.at)
    custody.require_may_be_registered(record, _others(turn), turn.custody)
    return (record,)


def _remove(turn: Turn) -> tuple[Record, ...]:
    before = turn.subject("custodian-record")
    if not isinstance(before, CustodianRecord) or before.state is CustodianState.REMOVED:
        raise WrongState(
            f"{turn.statement.subject} is no registered custodian",
            rule="custodian/removed",
            clause=turn.custody.clause("G4.7"),
        )
    left = custody.ended(before, turn.at)
    return (replace(left, version=before.version + 1, state=CustodianState.REMOVED),)


def _module(turn: Turn) -> tuple[Record, ...]:
    turn.subject("module-record")
    record: ModuleRecord = module_from_document(_given(turn))
    _require_same(turn, record)
    require_classified(record.asset)
    return (record,)


PEOPLE_ACTS = (
    Act(
        name="caller.register",
        clause="G2.20",
        after=_caller,
        parameters=(_RECORD,),
        sentence=Sentence(
            "Register the caller {subject} with the certificate, roles and grants shown below."
        ),
    ),
    Act(
        name="caller.change",
        clause="G2.20",
        after=_caller,
        parameters=(_RECORD,),
        sentence=Sentence("Change the caller {subject} to the certificate, roles and grants shown below."),
    ),
    Act(
        name="caller.revoke",
        clause="G2.20",
        after=_revoke,
        parameters=(),
        sentence=Sentence("Revoke the caller {subject} for good."),
    ),
    Act(
        name="custodian.register",
        clause="G4.7",
        looks_at_every="custodian-record",
        after=_custodian,
        parameters=(_RECORD,),
        sentence=Sentence("Register the custodian {subject} as shown below."),
    ),
    Act(
        name="custodian.change",
        clause="G4.7",
        looks_at_every="custodian-record",
        after=_custodian,
        parameters=(_RECORD,),
        sentence=Sentence("Change what the register says of the custodian {subject}, as shown below."),
    ),
    Act(
        name="custodian.remove",
        clause="G4.7",
        looks_at_every="custodian-record",
        after=_remove,
        parameters=(),
        sentence=Sentence("Remove the custodian {subject} from the register for good."),
    ),
    Act(
        name="module.register",
        clause="G5.6",
        after=_module,
        parameters=(_RECORD,),
        sentence=Sentence("Enter the module {subject} into the asset register, as shown below."),
    ),
)
