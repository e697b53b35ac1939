"""Where dual control stands: the deployment's setting, its custodians as of now, and a record of every call.

What `govern.py` does and `registers.py` shows both rest on this.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TypeVar

import orjson

from cryptosvc.core.case import Principal
from cryptosvc.core.custodian import CustodianRecord, CustodianState
from cryptosvc.core.errors import Busy, Forbidden, Refusal
from cryptosvc.core.life import NANOSECONDS
from cryptosvc.core.names import Operation
from cryptosvc.core.proposal import ProposalState
from cryptosvc.core.quorum import Governance, Scene
from cryptosvc.core.record import Observed, Refused
from cryptosvc.core.statement import Statement
from cryptosvc.flow.ports import Clock, Ledger, Records

_Answer = TypeVar("_Answer")
OPEN_OF_ONE = 200
OPEN_AT_ONCE = 1000
"""Proposals that may be open."""
_NOTHING: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Setting:
    """What does not change while a worker runs: deployment, log, policies and the rules of dual control."""

    system: str
    environment: str
    origin: str
    policy_digest: str
    governance: Governance


async def scene(records: Records, setting: Setting) -> Scene:
    """Deployment, policies and the custodians as of now."""
    found = await records.of_kind("custodian-record")
    custodians = {
        one.custodian_id: one
        for one in found
        if isinstance(one, CustodianRecord) and one.state is CustodianState.REGISTERED
    }
    return Scene(
        setting.system,
        setting.environment,
        setting.origin,
        setting.policy_digest,
        custodians,
        setting.governance,
    )


async def require_after_beginning(ledger: Ledger, statement: Statement, governance: Governance) -> None:
    """Refuse a statement that is older than this log: it was signed for another deployment that bore the same names.

    Raises:
        Forbidden: `statement/before-the-log`.

    """
    first = await ledger.entry(0)
    began = 0 if first is None else int(orjson.loads(first.entry)["time"]) // NANOSECONDS
    if statement.proposed_at + governance.clock_tolerance_seconds < began:
        raise Forbidden(
            "the statement was proposed before this log began: those who signed it meant another deployment of these "
            "names; propose it again",
            rule="statement/before-the-log",
            clause=governance.custody.clause("G5.13(b)"),
        )


async def recorded(
    ledger: Ledger,
    clock: Clock,
    principal: Principal,
    operation: str,
    work: Callable[[], Awaitable[_Answer]],
    about: Mapping[str, str] = _NOTHING,
    *,
    reading: bool = False,
) -> _Answer:
    """Answer a caller who has the grant, with a record of it; a refusal is recorded and raised. Auditors may read."""
    instant = clock.now()
    try:
        # the auditor of some Users sees their entries, and registers hold what is everyone's
        if not (reading and principal.caller.auditor and not principal.caller.user_ids):
            _require_may_govern(principal)
        answer = await work()
    except Refusal as refusal:
        refused = Refused(
            error=refusal,
            operation=operation,
            at=instant.at,
            time_quality=instant.quality,
            principal=principal,
        )
        await ledger.record([refused])
        raise
    observed = Observed(
        kind="governed",
        operation=operation,
        at=instant.at,
        time_quality=instant.quality,
        principal=principal,
        facts=about,
    )
    await ledger.record([observed])
    return answer


def _require_may_govern(principal: Principal) -> None:
    if not any(grant.operation == Operation.GOVERN for grant in principal.caller.grants):
        raise Forbidden(
            "this caller has no grant to hand in proposals and approvals",
            rule="caller/not-granted",
            clause="G4.7",
        )


async def require_room(records: Records, statement: Statement) -> None:
    """Raise Busy where too many proposals are open, of this proposer or of all: they are read whole and often."""
    found = await records.standing_proposals()
    standing = [one for one in found if one.state is ProposalState.OPEN]
    mine = [one for one in standing if one.statement.proposed_by == statement.proposed_by]
    if len(mine) >= OPEN_OF_ONE or len(standing) >= OPEN_AT_ONCE:
        raise Busy(
            f"at most {OPEN_OF_ONE} proposals of one custodian and {OPEN_AT_ONCE} in all are open at once; withdraw "
            "some, or have them carried out",
            rule="proposal/too-many",
        )
