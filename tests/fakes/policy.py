"""A policy engine in thirty lines: permits the ceiling to granted callers of the key's own system, nothing else."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field

from cryptosvc.core import lifecycle
from cryptosvc.core.case import Facts, PolicyAnswer
from cryptosvc.core.keyclass import KEY_CLASSES


def _nothing_else(_facts: Facts) -> str:
    return ""


@dataclass
class FakePolicy:
    """Policy port without Cedar.

    Args:
        forbid: returns why these facts are refused, empty for no reason; a test narrows the fake with it.
        asked: every set of facts it was asked about.

    """

    forbid: Callable[[Facts], str] = _nothing_else
    asked: list[Facts] = field(default_factory=list)

    @property
    def digest(self) -> str:
        return hashlib.sha256(b"fake policy").hexdigest()

    def decide(self, facts: Facts) -> PolicyAnswer:
        self.asked.append(facts)
        row = KEY_CLASSES.get(facts.key_class)
        if row is None or not row.permits(facts.operation, facts.content_kind):
            return self._refuse((), (), "no policy permits this to a key of this class")
        if not lifecycle.permits(facts.state, facts.operation, facts.content_kind):
            return self._refuse(("key-is-usable",), ("G5.13(b)",), "the key is not active")
        if not facts.granted:
            return self._refuse(("caller-is-granted",), ("G2.20",), "no grant")
        if not facts.same_system:
            return self._refuse(("systems-are-separated",), ("G2.20",), "another system")
        if reason := self.forbid(facts):
            return self._refuse(("forbidden-by-test",), ("G2.20",), reason)
        clause = row.clause_for(facts.operation, facts.content_kind)
        return PolicyAnswer(
            allowed=True, policies=("ceiling",), clauses=(clause,), text="", digest=self.digest
        )

    def _refuse(self, policies: tuple[str, ...], clauses: tuple[str, ...], text: str) -> PolicyAnswer:
        return PolicyAnswer(allowed=False, policies=policies, clauses=clauses, text=text, digest=self.digest)
