"""The digest, the cache, explanations and the table for reviewers."""

import csv
import io
import timeit
from dataclasses import fields, replace

import cedarpy
import orjson
import pytest

from cryptosvc.adapters.policy import CedarPolicy, load_policy
from cryptosvc.adapters.policy.explain import explain
from cryptosvc.adapters.policy.matrix import Row, allowed_at_most, favourable, table
from cryptosvc.adapters.policy.proof import VALUES
from cryptosvc.adapters.policy.query import context, entities, query
from cryptosvc.adapters.policy.review import COLUMNS, matrix_csv, matrix_json, matrix_text, rules_text
from cryptosvc.adapters.policy.words import WORDS
from cryptosvc.core.case import Facts
from cryptosvc.core.keyclass import DEVICE_CLASSES, KEY_CLASSES
from cryptosvc.core.names import ContentKind, Environment, UserRole
from cryptosvc.core.registry import KeyState

COMMAND = favourable("command-signing", ContentKind.GBCS_PRE_COMMAND)


@pytest.fixture(scope="module")
def rows(policy: CedarPolicy) -> list[Row]:
    return table(policy.decide_all)


def test_the_digest_changes_with_any_byte_any_name_and_the_schema(policy_files, policy: CedarPolicy) -> None:
    digests = {policy.digest}
    changes = [
        {**policy_files, "10-oca.cedar": policy_files["10-oca.cedar"] + b"\n"},
        {**policy_files, "schema.cedarschema": policy_files["schema.cedarschema"] + b"\n"},
        {
            ("11-oca.cedar" if name == "10-oca.cedar" else name): octets
            for name, octets in policy_files.items()
        },
    ]
    for files in changes:
        digests.add(load_policy(files).digest)
    assert len(digests) == 4


def test_the_digest_ignores_order_and_what_is_no_policy(policy_files, policy: CedarPolicy) -> None:
    files = dict(reversed([*policy_files.items(), ("README.md", b"hello"), ("x.toml", b"")]))
    assert load_policy(files).digest == policy.digest


def test_a_repeated_decision_is_the_same_object_and_takes_no_evaluation(policy: CedarPolicy) -> None:
    first = policy.decide(COMMAND)
    assert policy.decide(replace(COMMAND)) is first
    best = min(timeit.repeat(lambda: policy.decide(COMMAND), number=2000, repeat=20)) / 2000
    assert best < 10e-6  # an evaluation takes about 80 µs, the look-up 0.5


def test_the_cache_is_bounded(policy_files, monkeypatch: pytest.MonkeyPatch) -> None:
    policy = load_policy(policy_files)
    monkeypatch.setattr("cryptosvc.adapters.policy.cedar.CACHED_AT_MOST", 8)
    for number in range(50):
        policy.decide(replace(COMMAND, module_standard=f"standard {number}"))
    assert len(policy._answers) <= 8


def test_several_refusals_are_all_named_in_the_order_of_the_files(policy: CedarPolicy) -> None:
    answer = policy.decide(replace(COMMAND, granted=False, same_system=False))
    assert answer.policies == ("caller-is-granted", "dcc-systems-are-separated")
    assert answer.clauses == ("G2.20", "G2.20(c)")
    assert answer.text.index("grants no such operation") < answer.text.index("different systems")


# explain


def test_a_permit_needs_no_remedy(policy: CedarPolicy) -> None:
    found = explain(policy, COMMAND)
    assert found.permitted
    assert found.ceiling_clause == "G2.56"
    assert [rule.rule_id for rule in found.rules] == ["dcc-command-signing-signs-pre-command"]
    assert found.remedies == ()


def test_explain_names_the_module_that_would_have_been_accepted(policy: CedarPolicy) -> None:
    found = explain(policy, replace(COMMAND, module_level=2, module_accepted=False, module_standard="X"))
    assert not found.permitted
    assert [(rule.rule_id, rule.clause) for rule in found.rules] == [
        ("dcc-commands-in-level-3-modules", "G2.44(f)")
    ]
    assert [[(change.fact, change.needed) for change in remedy] for remedy in found.remedies] == [
        [("module", "level 3 under an accepted standard")],
        [("module", "level 4 under an accepted standard")],
    ]


def test_explain_names_every_layer(policy: CedarPolicy) -> None:
    found = explain(policy, replace(COMMAND, key_class="root-oca", state=KeyState.SUSPENDED))
    assert found.ceiling_clause == ""
    assert "may not sign gbcs-pre-command" in found.ceiling_says
    assert "suspended" in found.state_says
    assert found.state_says.endswith("(G5.13(b))")
    needed = {tuple((change.fact, change.needed) for change in remedy) for remedy in found.remedies}
    assert (("state", "active"), ("key_class", "command-signing")) in needed


@pytest.mark.parametrize(
    ("changed", "remedy"),
    [
        ({"granted": False}, [("granted", "yes")]),
        ({"same_system": False}, [("same_system", "yes")]),
        ({"state": KeyState.SUSPENDED}, [("state", "active")]),
    ],
)
def test_explain_finds_the_one_fact(policy: CedarPolicy, changed, remedy) -> None:
    found = explain(policy, replace(COMMAND, **changed))
    assert [(change.fact, change.needed) for change in found.remedies[0]] == remedy
    assert all(len(one) == 1 for one in found.remedies)


def test_every_remedy_works(policy: CedarPolicy) -> None:
    """What explain says would help does help: asked again, it is permitted."""
    start = replace(
        COMMAND, user_role=UserRole.IMPORT_SUPPLIER, supply_sensitive=True, in_united_kingdom=False
    )
    found = explain(policy, start)
    assert found.remedies
    for remedy in found.remedies:
        changed = start
        for change in remedy:
            known = {"yes": True, "no": False}
            value = known.get(change.needed, change.needed)
            if change.fact == "user_role":
                value = None if value == "none" else UserRole(value)
            changed = replace(changed, **{change.fact: value})
        assert policy.decide(changed).allowed, remedy


def test_no_remedy_is_invented_where_more_than_two_facts_are_wrong(policy: CedarPolicy) -> None:
    found = explain(policy, replace(COMMAND, granted=False, same_system=False, state=KeyState.DESTROYED))
    assert not found.permitted
    assert found.remedies == ()


# the table


def test_the_table_has_every_cell_once_and_permits_exactly_the_ceiling_to_the_dcc(rows) -> None:
    assert len(rows) == len(KEY_CLASSES) * len(ContentKind) * len(KeyState) * len(Environment) * 12
    assert len({row.facts for row in rows}) == len(rows)
    for row in rows:
        assert row.under_ceiling == allowed_at_most(row.facts)
        stated = None
        if row.facts.key_class == "prepayment":  # a User's key alone
            stated = UserRole.IMPORT_SUPPLIER
        elif row.facts.key_class in DEVICE_CLASSES:
            stated = UserRole.DUAL_CONTROL
        if row.facts.user_role is stated:
            assert row.answer.allowed == row.under_ceiling, row.facts


def test_the_table_as_csv_and_json_say_the_same(rows) -> None:
    from_csv = list(csv.DictReader(io.StringIO(matrix_csv(rows))))
    assert from_csv == orjson.loads(matrix_json(rows))
    assert list(from_csv[0]) == list(COLUMNS)
    assert sum(record["decision"] == "permit" for record in from_csv) == sum(
        row.answer.allowed for row in rows
    )


def test_the_table_as_text_has_a_line_per_permitted_cell(rows) -> None:
    lines = matrix_text(rows).splitlines()
    assert lines[0].startswith("KEY CLASS")
    (line,) = [
        line
        for line in lines
        if line.startswith("root-oca") and "oca-certificate" in line and " live " in line
    ]
    assert line.split() == ["root-oca", "oca-certificate", "active", "live", "none", "DCC", "G2.60(a)"]
    cells = {
        (row.facts.key_class, row.facts.content_kind, row.facts.state, row.facts.environment)
        for row in rows
        if row.answer.allowed
    }
    assert len(lines) == 1 + len(cells)
    assert {environment for *_, environment in cells} == set(Environment)


def test_the_rules_as_text_name_id_clause_and_sentence(policy: CedarPolicy) -> None:
    text = rules_text(list(policy.rules.values()))
    assert "root-oca-signs-oca-certificate  G2.60(a)  permit  10-oca.cedar" in text
    assert "A Root OCA key may digitally sign an OCA Certificate." in text


# facts


def test_every_fact_reaches_policy_schema_and_proof(policy: CedarPolicy) -> None:
    """A new fact that one of them does not know would be decided on nowhere."""
    seen = set(context(COMMAND))
    by_other_names = {
        "operation",  # the action
        "key_class",  # the resource
        "user_role",  # the principal
        "module_standard",  # accepted or not, by the dated table
        "content_kind",  # `content`
    }
    assert {field.name for field in fields(Facts)} - by_other_names == seen - {"content"}
    assert set(VALUES) == seen | {"role"}
    answer = cedarpy.is_authorized(
        dict(query(COMMAND)), policy.source.policies, entities(), schema=policy.source.schema
    )
    assert answer.diagnostics.errors == []
    assert answer.allowed


def test_the_proof_tries_every_word(policy: CedarPolicy) -> None:
    assert set(VALUES["role"]) == WORDS["UserRole"]
    assert set(VALUES["content"]) == set(ContentKind)
    assert set(VALUES["state"]) == set(KeyState)
    assert set(VALUES["environment"]) == set(Environment)
