"""The Policy port on Cedar: deny by default, and what cannot be evaluated is refused.

Cedar skips a policy whose condition fails to evaluate, so a failing `forbid` would let everything through; here any
evaluation error makes the answer a refusal. Answers depend on the facts and the policy set only and are kept, so
that a repeated decision is one look-up.
"""

from collections.abc import Mapping, Sequence

import cedarpy

from cryptosvc.adapters.policy import query
from cryptosvc.adapters.policy.governance import GOVERNANCE_FILE
from cryptosvc.adapters.policy.lint import lint
from cryptosvc.adapters.policy.matrix import require_under_ceiling
from cryptosvc.adapters.policy.proof import prove_under_ceiling
from cryptosvc.adapters.policy.source import Rule, Source, named_in, parse_source
from cryptosvc.adapters.policy.words import require_same_words
from cryptosvc.core.case import Facts, PolicyAnswer
from cryptosvc.core.errors import Malformed
from cryptosvc.core.quorum import Governance

CACHED_AT_MOST = 65_536
"""Decisions kept. The facts of a deployment make some hundreds; the bound is there so that nothing grows for ever."""

_NO_PERMIT = "no policy permits this to a key of this class; ask a key of the class that is for it"
_NOT_EVALUATED = (
    "a policy could not be evaluated, and then everything is refused; the operator must correct the policy"
)


class CedarPolicy:
    """A policy set in force. Made by `load_policy`; the constructor itself checks nothing.

    Args:
        source: parsed policies and schema.

    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self._entities = query.entities()
        self._answers: dict[Facts, PolicyAnswer] = {}

    @property
    def digest(self) -> str:
        """SHA-256 over names and bytes of policies, schema and rules of dual control, lower-case hex."""
        return self._source.digest

    @property
    def governance(self) -> Governance:
        """The rules of dual control; Malformed where the folder has none."""
        if self._source.governance is None:
            raise Malformed(
                f"the policy folder has no {GOVERNANCE_FILE}, so nobody could approve anything; start from the one "
                "that came with the service",
                rule="governance/missing",
                field="policy.folder",
            )
        return self._source.governance

    @property
    def source(self) -> Source:
        """The parsed files, for review."""
        return self._source

    @property
    def rules(self) -> Mapping[str, Rule]:
        """Policies by `@id`."""
        return {rule.rule_id: rule for rule in self._source.rules.values()}

    def decide(self, facts: Facts) -> PolicyAnswer:
        """Answer for one set of facts; any evaluation error is a refusal."""
        found = self._answers.get(facts)
        return self.decide_all((facts,))[0] if found is None else found

    def decide_all(self, many: Sequence[Facts]) -> list[PolicyAnswer]:
        """Answer for each set of facts, in order, and keep the answers."""
        results = cedarpy.is_authorized_batch(
            [dict(query.query(facts)) for facts in many], self._source.policies, self._entities
        )
        answers = [self._answer(result) for result in results]
        if len(self._answers) + len(many) > CACHED_AT_MOST:
            self._answers.clear()
        self._answers.update(zip(many, answers, strict=True))
        return answers

    def _answer(self, result: cedarpy.AuthzResult) -> PolicyAnswer:
        errors = result.diagnostics.errors
        if errors:
            return self._refusal(
                named_in(errors, self._source), _NOT_EVALUATED, rule="policy/evaluation-error"
            )
        # Cedar's positions → rules, in the order of the files
        rules = sorted((self._source.rules[policy] for policy in result.diagnostics.reasons), key=_order)
        if not result.allowed:
            text = " ".join(rule.text for rule in rules) or _NO_PERMIT
            return self._refusal(rules, text, rule="policy/refused")
        return PolicyAnswer(
            allowed=True, policies=_ids(rules), clauses=_clauses(rules), text="", digest=self._source.digest
        )

    def _refusal(self, rules: Sequence[Rule], text: str, *, rule: str) -> PolicyAnswer:
        return PolicyAnswer(
            allowed=False,
            policies=_ids(rules),
            clauses=_clauses(rules),
            text=text,
            digest=self._source.digest,
            rule=rule,
        )


def load_policy(files: Mapping[str, bytes], proven: str = "") -> CedarPolicy:
    """Parse, lint, validate against the schema, hold under the ceiling, and only then answer.

    Args:
        files: name → bytes of a policy folder; `*.cedar`, one `*.cedarschema`; other names are not looked at.
        proven: digest of a policy set that was held under the ceiling by this software already: the supervisor proves
            once (seconds), and its workers do not repeat it. Another set than that is proven here.

    Raises:
        Malformed: with a rule `policy/…` and the file or the cell at fault in the message.

    """
    # 1 syntax and annotations
    source = parse_source(files)
    # 2 the schema speaks of what the service knows, and policies of what the schema knows
    require_same_words(str(source.schema), source.schema_file)
    lint(source)
    _validate(source)
    policy = CedarPolicy(source)
    # 3 every cell, with all other facts open; then as in service
    if source.digest != proven:
        prove_under_ceiling(source)
        require_under_ceiling(policy.decide_all)
    return policy


def _validate(source: Source) -> None:
    found = cedarpy.validate_policies(source.text, source.schema)
    if not found.validation_passed:
        error = found.errors[0]
        rule = source.rules.get(error.policy_id)
        where = f"{rule.file}: the policy {rule.rule_id}" if rule else "a policy"
        raise Malformed(
            f"{where} does not fit the schema: {error.error}",
            rule="policy/schema",
            field=rule.file if rule else "",
        )


def _order(rule: Rule) -> int:
    return rule.order


def _ids(rules: Sequence[Rule]) -> tuple[str, ...]:
    return tuple(sorted(rule.rule_id for rule in rules))


def _clauses(rules: Sequence[Rule]) -> tuple[str, ...]:
    return tuple(sorted({rule.clause for rule in rules}))
