"""Explain: would this request be permitted, and why not? The same steps as Sign up to the claim; no key is used."""

from dataclasses import dataclass

from cryptosvc.core.case import Case, Principal, Request
from cryptosvc.core.content import forms
from cryptosvc.core.content.base import Content
from cryptosvc.core.errors import Refusal
from cryptosvc.core.judge import Authorised, judge
from cryptosvc.core.names import Operation, operation_on
from cryptosvc.core.record import Observed, Receipt, shown_key
from cryptosvc.flow.gather import Gatherer
from cryptosvc.flow.ports import Clock, Ledger, Policy


@dataclass(frozen=True, slots=True)
class Explained:
    """The answer and its record.

    Args:
        authorised: what Sign would have gone on with; None where it would refuse.
        refusal: what Sign would have refused with; None where it would sign.
        receipt: the record of the question.
        content: what the payload turned out to be, permitted or not; None where it could not be read.

    """

    authorised: Authorised | None
    refusal: Refusal | None
    receipt: Receipt
    content: Content | None = None


class Explainer:
    """Answers what the corridor would do."""

    def __init__(
        self, gatherer: Gatherer, policy: Policy, ledger: Ledger, clock: Clock, profiles: forms.Profiles
    ) -> None:
        self._gatherer = gatherer
        self._policy = policy
        self._ledger = ledger
        self._clock = clock
        self._profiles = profiles

    async def explain(self, principal: Principal, request: Request) -> Explained:
        """Answer for one request. Raises Unavailable or Corrupt where store or log do not answer."""
        # 1 inspect, gather, judge, foresee
        content: Content | None = None
        authorised: Authorised | None = None
        refusal: Refusal | None = None
        try:
            content = forms.parse(request.form, request.payload, self._profiles, request.device_certificate)
            authorised = await self._foreseen(principal, request, content)
        except Refusal as found:
            refusal = found
        # 2 record the question
        instant = self._clock.now()
        key, withheld = shown_key(request.key_id)
        facts = {"form": request.form.value, "key": key, "verdict": "permit"}
        if refusal is not None:
            facts |= {"verdict": "refuse", "rule": refusal.rule, "clause": refusal.clause}
        observed = Observed(
            kind="explain",
            operation=Operation.EXPLAIN.value,
            at=instant.at,
            time_quality=instant.quality,
            principal=principal,
            facts=facts,
            withheld=withheld,
        )
        (receipt,) = await self._ledger.record([observed])
        return Explained(authorised, refusal, receipt, content)

    async def _foreseen(self, principal: Principal, request: Request, content: Content) -> Authorised:
        (case,) = await self._gatherer.gather(principal, operation_on(request.form), [(request, content)])
        if not isinstance(case, Case):
            raise case
        second = None if case.second is None else self._policy.decide(case.second.facts)
        authorised = judge(case, self._policy.decide(case.facts), self._profiles, second)
        (conflict,) = await self._ledger.foresee([authorised])
        if conflict is not None:
            raise conflict
        return authorised
