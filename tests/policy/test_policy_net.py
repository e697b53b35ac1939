"""Policy files that must not load, and what stops those that no load-time check can see."""

from dataclasses import replace

import pytest

from cryptosvc.adapters.policy import CedarPolicy, load_policy
from cryptosvc.adapters.policy.matrix import favourable, table
from cryptosvc.adapters.policy.source import parse_source
from cryptosvc.core.errors import Malformed
from cryptosvc.core.names import ContentKind, Environment, UserRole
from cryptosvc.core.registry import KeyState

HEAD = '@id("extra") @clause("G2.56") @text("An extra policy.")\n'


def refused(files: dict[str, bytes], extra: str = "", *, without: str = "") -> Malformed:
    chosen = {name: octets for name, octets in files.items() if name != without}
    if extra:
        chosen["99-extra.cedar"] = extra.encode()
    with pytest.raises(Malformed) as caught:
        load_policy(chosen)
    return caught.value


# over-wide: the message names the cell


def test_a_permit_of_everything_names_the_first_cell_over_the_ceiling(policy_files) -> None:
    error = refused(policy_files, HEAD + "permit (principal, action, resource);")
    assert error.rule == "policy/over-wide"
    assert "extra" in str(error)
    assert "root-oca sign organisation-certificate in state active" in str(error)


@pytest.mark.parametrize(
    ("key_class", "content"),
    [
        ("root-oca", "organisation-certificate"),
        ("root-oca", "log-checkpoint"),
        ("issuing-oca", "oca-certificate"),
        ("command-signing", "duis-document"),
        ("xml-signing", "gbcs-pre-command"),
        ("audit-signing", "gbcs-pre-command"),
        ("log-authentication", "log-checkpoint"),
    ],
)
def test_one_cell_too_many_is_named(policy_files, key_class: str, content: str) -> None:
    error = refused(
        policy_files,
        HEAD + f'permit (principal, action == Action::"sign", resource in KeyClass::"{key_class}")\n'
        f'when {{ context.content == Content::"{content}" }};',
    )
    assert error.rule == "policy/over-wide"
    assert f"{key_class} sign {content} in state active" in str(error)


@pytest.mark.parametrize(
    "condition",
    [
        "context.module_level == 1 && context.supply_sensitive",
        'principal in UserRole::"OU" && !context.in_united_kingdom',
        'context.environment == Environment::"test" && context.origin == Origin::"adopted"',
        "context.eligible_user_key && context.supply_sensitive_check && context.module_level > 3",
    ],
)
def test_a_cell_too_many_under_rare_facts_only_is_named(policy_files, condition: str) -> None:
    """The table gives these facts other values; the proof leaves them open."""
    error = refused(
        policy_files,
        HEAD + 'permit (principal, action == Action::"sign", resource in KeyClass::"command-signing")\n'
        f'when {{ context.content == Content::"duis-document" && {condition} }};',
    )
    assert error.rule == "policy/over-wide"
    assert "command-signing sign duis-document" in str(error)


@pytest.mark.parametrize("operation", ["explain", "read-keys", "read-log"])
def test_an_operation_no_class_has_is_over_wide(policy_files, operation: str) -> None:
    error = refused(
        policy_files,
        HEAD + f'permit (principal, action == Action::"{operation}", resource in KeyClass::"root-oca");',
    )
    assert error.rule == "policy/over-wide"
    assert f"root-oca {operation}" in str(error)


@pytest.mark.parametrize("state", [state.value for state in KeyState if state != KeyState.ACTIVE])
def test_a_weakened_state_rule_names_the_state(policy_files, state: str) -> None:
    """A policy that only fires on a deactivated key: without the forbid on states, the cell is named."""
    files = dict(policy_files)
    files["20-access.cedar"] = files["20-access.cedar"].replace(
        b'context.state == KeyState::"active" ||',
        f'context.state == KeyState::"active" || context.state == KeyState::"{state}" ||'.encode(),
    )
    error = refused(files)
    assert error.rule == "policy/over-wide"
    assert f"in state {state}" in str(error)


@pytest.mark.parametrize(
    ("file", "part"),
    [
        ("20-access.cedar", "in state ordered"),
        ("21-separation.cedar", "with a key of another system"),
        ("22-modules.cedar", "with an adopted key in live"),
        ("23-supply.cedar", "Supply Sensitive without a check"),
    ],
)
def test_a_file_of_forbids_cannot_go_missing(policy_files, file: str, part: str) -> None:
    error = refused(policy_files, without=file)
    assert error.rule == "policy/over-wide"
    assert part in str(error)


@pytest.mark.parametrize(
    ("before", "after", "part"),
    [
        (b"context.module_level >= 3", b"context.module_level >= 2", "module of level 2"),
        (b"context.module_accepted && ", b"", "standard that is not accepted"),
        (
            b'context.origin == Origin::"adopted"',
            b'context.origin == Origin::"adopted" && !context.supply_sensitive',
            "with an adopted key in live",
        ),
    ],
)
def test_a_weakened_module_rule_is_named(policy_files, before: bytes, after: bytes, part: str) -> None:
    files = dict(policy_files)
    files["22-modules.cedar"] = files["22-modules.cedar"].replace(before, after)
    assert files != policy_files
    assert part in str(refused(files))


@pytest.mark.parametrize(
    "policy",
    [
        # never holds: an ungranted caller is refused by another policy
        """permit (principal, action == Action::"sign", resource in KeyClass::"root-oca")
        when { context.content == Content::"gbcs-pre-command" && !context.granted };""",
        # under the ceiling, with open facts before the one that settles it
        """permit (principal in UserRole::"IS", action == Action::"sign", resource in KeyClass::"command-signing")
        when { context.same_system && context.module_level > 2 && context.content == Content::"gbcs-pre-command" };""",
        'forbid (principal in UserRole::"OU", action, resource);',
    ],
)
def test_an_odd_policy_under_the_ceiling_loads(policy_files, policy: str) -> None:
    """The net refuses what is too wide and nothing else, in whatever order the conditions stand."""
    load_policy({**policy_files, "99-extra.cedar": (HEAD + policy).encode()})


def test_the_message_gives_facts_that_would_be_permitted(policy_files) -> None:
    error = refused(
        policy_files,
        HEAD + 'permit (principal, action == Action::"sign", resource in KeyClass::"xml-signing")\n'
        'when { context.module_level == 4 && principal in UserRole::"LC" && context.content == Content::"log-checkpoint" };',
    )
    assert "xml-signing sign log-checkpoint in state active" in str(error)
    assert "module_level 4" in str(error)
    assert "role LC" in str(error)


def test_a_narrower_policy_set_loads(policy_files) -> None:
    narrower = load_policy(
        {name: octets for name, octets in policy_files.items() if name != "12-documents.cedar"}
    )
    assert not narrower.decide(favourable("xml-signing", ContentKind.DUIS_DOCUMENT)).allowed


# what the matrix cannot see


@pytest.mark.parametrize(
    "policy",
    [
        'permit (principal == Caller::"alice", action == Action::"sign", resource in KeyClass::"root-oca");',
        'permit (principal in Caller::"alice", action == Action::"sign", resource in KeyClass::"root-oca");',
        'permit (principal, action == Action::"sign", resource == Key::"root-2026");',
        'permit (principal, action == Action::"sign", resource) when { principal == Caller::"alice" };',
        'permit (principal, action == Action::"sign", resource) when { [Caller::"alice"].contains(principal) };',
        'forbid (principal, action, resource) unless { principal == Caller::"alice" };',
    ],
)
def test_a_named_individual_is_refused_by_lint(policy_files, policy: str) -> None:
    error = refused(policy_files, HEAD + policy)
    assert error.rule == "policy/individual"
    assert error.field == "99-extra.cedar"
    assert "extra" in str(error)


NAMED = (
    HEAD
    + 'permit (principal == Caller::"alice", action == Action::"sign", resource in KeyClass::"root-oca")\n'
    'when { context.content == Content::"gbcs-pre-command" };'
)


def test_the_table_does_not_see_a_named_individual(policy_files) -> None:
    """Every cell of it is under the ceiling all the same, so something else must look."""
    unchecked = CedarPolicy(parse_source({**policy_files, "99-extra.cedar": NAMED.encode()}))
    assert all(row.under_ceiling for row in table(unchecked.decide_all) if row.answer.allowed)


def test_neither_does_the_proof(policy_files, monkeypatch: pytest.MonkeyPatch) -> None:
    """So without the lint the file would load."""
    monkeypatch.setattr("cryptosvc.adapters.policy.cedar.lint", lambda _source: None)
    load_policy({**policy_files, "99-extra.cedar": NAMED.encode()})


OVERFLOW = (
    HEAD + "forbid (principal, action, resource) when {\n"
    '  context.environment == Environment::"test" && context.module_level == 4 &&\n'
    "  context.module_level + 9223372036854775807 > 0\n};"
)


def test_a_forbid_that_fails_to_evaluate_is_a_refusal_and_not_a_permit(policy_files) -> None:
    """It loads, since no cell of the table is in test with a module of level 4; Cedar alone would then allow."""
    policy = load_policy({**policy_files, "99-extra.cedar": OVERFLOW.encode()})
    fine = favourable("root-oca", ContentKind.OCA_CERTIFICATE, environment=Environment.TEST)
    assert policy.decide(fine).allowed
    answer = policy.decide(replace(fine, module_level=4))
    assert not answer.allowed
    assert answer.rule == "policy/evaluation-error"
    assert answer.policies == ("extra",)
    assert answer.clauses == ("G2.56",)
    assert "could not be evaluated" in answer.text


def test_a_permit_that_fails_to_evaluate_refuses_although_another_permits(policy_files) -> None:
    policy = CedarPolicy(
        parse_source({**policy_files, "99-extra.cedar": OVERFLOW.replace("forbid", "permit").encode()})
    )
    fine = favourable("root-oca", ContentKind.OCA_CERTIFICATE, environment=Environment.TEST)
    answer = policy.decide(replace(fine, module_level=4))
    assert not answer.allowed
    assert answer.rule == "policy/evaluation-error"


def test_a_condition_that_fails_in_a_cell_of_the_table_does_not_load(policy_files) -> None:
    error = refused(
        policy_files,
        HEAD
        + "forbid (principal, action, resource) when { context.module_level + 9223372036854775807 > 0 };",
    )
    assert error.rule == "policy/evaluation-error"
    assert "extra" in str(error)


# words


@pytest.mark.parametrize(
    ("policy", "rule", "part"),
    [
        (
            'permit (principal, action == Action::"sign", resource in KeyClass::"root-ocaa");',
            "unknown-word",
            "root-oca",
        ),
        (
            'permit (principal, action == Action::"sing", resource in KeyClass::"root-oca");',
            "unknown-word",
            "sign",
        ),
        (
            'forbid (principal, action, resource) when { context.content == Content::"organization-crl" };',
            "unknown-word",
            "organisation-crl",
        ),
        (
            'forbid (principal, action, resource) when { context.state == "active" };',
            "string-constant",
            "active",
        ),
        ('forbid (principal, action, resource) when { context.state == "actve" };', "unknown-word", "active"),
        ('forbid (principal, action, resource) when { "live" like "l*" };', "like", "like"),
    ],
)
def test_a_word_the_schema_does_not_know_is_refused(policy_files, policy: str, rule: str, part: str) -> None:
    error = refused(policy_files, HEAD + policy)
    assert error.rule in (f"policy/{rule}", "policy/string-constant")
    assert part in str(error)


def test_a_fact_that_does_not_exist_is_refused_by_the_schema(policy_files) -> None:
    error = refused(policy_files, HEAD + "forbid (principal, action, resource) when { context.colour };")
    assert error.rule == "policy/schema"
    assert "extra" in str(error)


def test_a_comparison_that_is_never_equal_is_refused(policy_files) -> None:
    error = refused(
        policy_files,
        HEAD + 'forbid (principal, action, resource) when { context.state == Content::"oca-certificate" };',
    )
    assert error.rule == "policy/never-equal"
    assert "KeyState" in str(error)


@pytest.mark.parametrize(
    ("before", "after", "part"),
    [
        (b'"root-oca", ', b"", "root-oca"),
        (b'"root-oca", ', b'"root-oca", "rot-oca", ', "rot-oca"),
        (b'"suspended", ', b"", "suspended"),
        (b'"read-log"', b'"read-log", "destroy"', "destroy"),
        (b'"LC"', b'"LC", "XX"', "XX"),
    ],
)
def test_a_schema_with_other_words_than_the_service_is_refused(policy_files, before, after, part) -> None:
    files = dict(policy_files)
    files["schema.cedarschema"] = files["schema.cedarschema"].replace(before, after)
    assert files != policy_files
    error = refused(files)
    assert error.rule == "policy/schema-words"
    assert part in str(error)


# annotations and files

PERMIT = 'permit (principal, action == Action::"sign", resource in KeyClass::"root-oca") when { context.content == Content::"oca-certificate" };'


@pytest.mark.parametrize(
    ("annotations", "rule"),
    [
        ('@clause("G2.60(a)") @text("x.")', "missing-id"),
        ('@id("extra") @text("x.")', "missing-clause"),
        ('@id("extra") @clause("") @text("x.")', "missing-clause"),
        ('@id("extra") @clause("G2.60(a)")', "missing-text"),
        ('@id("extra") @clause("G2.60(a)") @text(" ")', "missing-text"),
        ('@id("extra") @clause("G2.60(a)") @text("x.") @claus("y")', "unknown-annotation"),
        ('@id("Extra One") @clause("G2.60(a)") @text("x.")', "id"),
        ('@id("extra") @clause("2.60a") @text("x.")', "clause"),
        ('@id("root-oca-signs-oca-certificate") @clause("G2.60(a)") @text("x.")', "duplicate-id"),
    ],
)
def test_annotations(policy_files, annotations: str, rule: str) -> None:
    error = refused(policy_files, f"{annotations}\n{PERMIT}")
    assert error.rule == f"policy/{rule}"
    assert "99-extra.cedar" in str(error)


def test_the_same_policy_well_annotated_loads(policy_files) -> None:
    load_policy({**policy_files, "99-extra.cedar": (HEAD + PERMIT).encode()})


def test_a_template_is_refused(policy_files) -> None:
    error = refused(
        policy_files, HEAD + 'permit (principal == ?principal, action == Action::"sign", resource);'
    )
    assert error.rule == "policy/template"


def test_what_is_not_cedar_is_refused_with_its_name(policy_files) -> None:
    assert refused(policy_files, "permit principal").rule == "policy/syntax"
    assert refused(policy_files, "permit principal").field == "99-extra.cedar"
    assert refused({**policy_files, "99-extra.cedar": b"\xff"}).rule == "policy/encoding"


def test_a_folder_needs_policies_and_one_schema(policy_files) -> None:
    assert refused(policy_files, without="schema.cedarschema").rule == "policy/files"
    assert (
        refused({**policy_files, "b.cedarschema": policy_files["schema.cedarschema"]}).rule == "policy/files"
    )
    assert refused({"schema.cedarschema": policy_files["schema.cedarschema"]}).rule == "policy/files"
    assert refused({**policy_files, "schema.cedarschema": b"entity"}).rule == "policy/schema"


def test_a_policy_set_that_is_all_comments_is_refused(policy_files) -> None:
    """It permits nothing, which is under the ceiling, and still nobody meant it."""
    error = refused({"10.cedar": b"// nothing", "schema.cedarschema": policy_files["schema.cedarschema"]})
    assert error.rule == "policy/files"


# the rest of what a set of facts is


def test_a_role_outside_every_group_is_refused(policy: CedarPolicy) -> None:
    refused_roles = [
        role
        for role in UserRole
        if not policy.decide(favourable("issuing-oca", ContentKind.ORGANISATION_CRL, role=role)).allowed
    ]
    assert set(refused_roles) == set(UserRole) - {UserRole.DCC}
