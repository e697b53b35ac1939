"""The policy engine: Cedar, loaded only when lint, schema and matrix agree that it narrows the ceiling.

    source.py    files → parsed policies with their own table id → clause, text
    words.py     the words a policy may use, and that the schema has the same
    governance.py  `governance.toml` → who must approve a governed act, and the rules on custodians
    lint.py      what a validator cannot see: a named caller, a misspelt class, a missing clause
    query.py     facts → Cedar request
    cedar.py     the Policy port, and `load_policy`
    proof.py     nothing outside the ceiling is permitted, whatever the other facts
    matrix.py    the table of cells, as in service
    review.py    the table and the policies as text, CSV, JSON
    tables.py    decision tables of policies/tests
    explain.py   why a set of facts is refused, and what would change that

Example:
    >>> policy = load_policy({"schema.cedarschema": schema, "10-oca.cedar": policies})   # doctest: +SKIP
    >>> policy.decide(facts).allowed                                                      # doctest: +SKIP

"""

from cryptosvc.adapters.policy.cedar import CedarPolicy, load_policy

__all__ = ["CedarPolicy", "load_policy"]
