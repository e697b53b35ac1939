"""Sign: the corridor, walked once by a batch. A unary call is a batch of one; items succeed or fail one by one.

See docs/request-path.md for the drawing. Nothing here decides: every step hands what the step before made to the
one floor that can take it, and each type can only be made by the step before.
"""

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from itertools import groupby

from cryptosvc.core.case import Case, Principal, Request
from cryptosvc.core.check import Checked, Verify, check_all, one_by_one
from cryptosvc.core.content import forms
from cryptosvc.core.content.base import Content
from cryptosvc.core.errors import (
    Busy,
    CryptosvcError,
    OutcomeUnknown,
    Refusal,
    Unavailable,
)
from cryptosvc.core.judge import Authorised, judge
from cryptosvc.core.names import Operation, operation_on
from cryptosvc.core.record import Claim, Failed, Receipt, Refused
from cryptosvc.core.registry import KeyRecord
from cryptosvc.core.values import quickly
from cryptosvc.flow.gather import Gatherer
from cryptosvc.flow.ports import Clock, Hsm, Ledger, Policy, Stale

JUDGED_AT_MOST = 4
"""How often an item is judged again because the registry moved between judge and claim."""

LARGE_OCTETS = 16 * 1024
"""Before a payload of this size or more is read, everybody else has a turn: one batch of revocation lists, which anyone
who may call at all can send, would keep the worker for three seconds."""


class _Turn:
    """Awaited, lets whatever else is ready go first; to the event loop it is a sleep of no time."""

    __slots__ = ()

    def __await__(self) -> Generator[None, None, None]:
        yield


_Read = tuple[int, Principal, Request, Content]
"""An item that could be read: its place in the batch, who asks, what is asked, what it turned out to be."""


@dataclass(frozen=True, slots=True)
class Signed:
    """An item that was signed and recorded."""

    checked: Checked
    receipt: Receipt


@dataclass(frozen=True, slots=True)
class NotSigned:
    """An item that was not signed, and the record that says so."""

    error: CryptosvcError
    receipt: Receipt


_signed = quickly(Signed)


class Signer:
    """Walks the corridor."""

    def __init__(
        self,
        gatherer: Gatherer,
        policy: Policy,
        ledger: Ledger,
        hsm: Hsm,
        clock: Clock,
        profiles: forms.Profiles,
        verify: Verify = one_by_one,
    ) -> None:
        self._gatherer = gatherer
        self._policy = policy
        self._ledger = ledger
        self._hsm = hsm
        self._clock = clock
        self._profiles = profiles
        self._verify = verify

    async def sign(self, principal: Principal, requests: Sequence[Request]) -> list[Signed | NotSigned]:
        """Sign each request of one caller, or say why not; raises as `sign_each`."""
        return await self.sign_each([(principal, request) for request in requests])

    async def sign_each(self, items: Sequence[tuple[Principal, Request]]) -> list[Signed | NotSigned]:
        """Sign each caller's request, or say why not; one answer per item, in order.

        Raises:
            Unavailable: the log cannot be written; no key was used.
            OutcomeUnknown: keys were used and the log could not be written after; nothing is released.
            Corrupt: store or log is not what it should be.

        """
        # 1 inspect
        read: list[Content | Refusal] = []
        for _, request in items:
            if len(request.payload) >= LARGE_OCTETS:
                await _Turn()
            read.append(self._inspect(request))
        # 2–4 gather, judge, claim
        claimed = await self._claim(items, read)
        # 5 perform
        claims = [item for item in claimed if isinstance(item, Claim)]
        performed = await self._hsm.sign(claims) if claims else ()
        # 6 check
        checked = iter(check_all(performed, self._verify))
        ended = [next(checked) if isinstance(item, Claim) else item for item in claimed]
        # 7 record
        receipts = await self._record(ended, after_use=bool(claims))
        # 8 reply is the handler's
        return [
            _signed(item, receipt) if isinstance(item, Checked) else NotSigned(item.error, receipt)
            for item, receipt in zip(ended, receipts, strict=True)
        ]

    def _inspect(self, request: Request) -> Content | Refusal:
        try:
            return forms.parse(request.form, request.payload, self._profiles, request.device_certificate)
        except Refusal as refusal:
            return refusal

    async def _claim(
        self, items: Sequence[tuple[Principal, Request]], read: Sequence[Content | Refusal]
    ) -> list[Claim | Refused]:
        """Gather, judge and claim; items whose registry generation moved in between are gathered and judged again."""
        ended: dict[int, Claim | Refused] = {}
        waiting: list[_Read] = []
        for index, ((principal, request), content) in enumerate(zip(items, read, strict=True)):
            if isinstance(content, Refusal):
                ended[index] = self._refused(content, principal, request)
            else:
                waiting.append((index, principal, request, content))
        for _ in range(JUDGED_AT_MOST):
            if not waiting:
                break
            cases = await self._gather(waiting)
            judged: list[tuple[_Read, Authorised]] = []
            for one, case in zip(waiting, cases, strict=True):
                verdict = self._judge(case)
                if isinstance(verdict, Authorised):
                    judged.append((one, verdict))
                else:
                    key = case.key if isinstance(case, Case) else None
                    ended[one[0]] = self._refused(verdict, *one[1:], key)
            waiting = []
            answers = await self._ledger.claim([verdict for _, verdict in judged]) if judged else ()
            for (one, verdict), answer in zip(judged, answers, strict=True):
                match answer:
                    case Claim():
                        ended[one[0]] = answer
                    case Stale():
                        waiting.append(one)
                    case _:
                        ended[one[0]] = self._refused(answer, *one[1:], verdict.case.key)
        for one in waiting:
            busy = Busy("the registry is changing; try again in a second", rule="registry/moving")
            ended[one[0]] = self._refused(busy, *one[1:])
        return [ended[index] for index in range(len(items))]

    async def _gather(self, waiting: Sequence[_Read]) -> list[Case | Refusal]:
        """Gather each principal's items with one reading of the registry."""
        cases: list[Case | Refusal] = []
        for (_, operation), group in groupby(waiting, key=_asked):
            same = list(group)
            pairs = [(request, content) for _, _, request, content in same]
            cases.extend(await self._gatherer.gather(same[0][1], operation, pairs))
        return cases

    def _judge(self, case: Case | Refusal) -> Authorised | Refusal:
        if isinstance(case, Refusal):
            return case
        try:
            decide = self._policy.decide
            if case.second is not None:
                return judge(case, decide(case.facts), self._profiles, decide(case.second.facts))
            return judge(case, decide(case.facts), self._profiles)
        except Refusal as refusal:
            return refusal

    def _refused(
        self,
        error: Refusal,
        principal: Principal,
        request: Request,
        content: Content | None = None,
        key: KeyRecord | None = None,
    ) -> Refused:
        instant = self._clock.now()
        return Refused(
            error=error,
            operation=operation_on(request.form).value,
            at=instant.at,
            time_quality=instant.quality,
            principal=principal,
            request=request,
            content=content,
            key=key,
        )

    async def _record(
        self, ended: Sequence[Checked | Failed | Refused], *, after_use: bool
    ) -> Sequence[Receipt]:
        try:
            return await self._ledger.record(ended)
        except Unavailable as error:
            if not after_use:
                raise
            raise OutcomeUnknown(
                "keys were used but the log could not be written, so nothing is released; "
                "the claims stay open and will be recorded as outcome unknown",
                rule="record/unavailable",
            ) from error


def _asked(one: _Read) -> tuple[int, Operation]:
    """Whose the item is and which operation it asks for."""
    return id(one[1]), operation_on(one[2].form)
