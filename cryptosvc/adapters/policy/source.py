"""Policy files as bytes → parsed policies, their annotations, and the digest that names the whole.

Every policy says in annotations what it is called (`@id`), which clause it comes from (`@clause`) and what a caller
it stops is told (`@text`). Cedar's diagnostics know positions only, so the table is kept here.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cedarpy
from cedarpy import pst

from cryptosvc.adapters.policy.governance import GOVERNANCE_FILE, read_governance
from cryptosvc.core.canonical import canonical
from cryptosvc.core.errors import Malformed
from cryptosvc.core.quorum import Governance

POLICY_SUFFIX = ".cedar"
SCHEMA_SUFFIX = ".cedarschema"
ANNOTATIONS = ("id", "clause", "text")

_POLICY = re.compile(r"(?<=`)policy\d+(?=`)")
_ID = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
_CLAUSE = re.compile(r"G\d{1,2}\.\d{1,2}[A-Z]?(\([a-z]+\))*")


@dataclass(frozen=True, slots=True)
class Rule:
    """One policy as people refer to it.

    Args:
        rule_id: its `@id`.
        clause: clause of the Smart Energy Code, as `G2.60(a)`.
        text: one sentence for who is refused.
        effect: `permit` or `forbid`.
        file: where it stands.
        order: position in the whole set, from 0.

    """

    rule_id: str
    clause: str
    text: str
    effect: str
    file: str
    order: int


@dataclass(frozen=True, slots=True)
class Source:
    """Parsed policy files.

    Args:
        policies: the whole set, as the engine takes it.
        schema: the schema.
        schema_file: its name.
        rules: Cedar's own policy id (by position) → the policy's annotations.
        trees: the same ids → syntax trees.
        templates: syntax trees of templates; none is ever accepted.
        text: the set as text, for the validator.
        digest: SHA-256 over names and bytes of policies, schema and rules of dual control, lower-case hex.
        governance: the rules of dual control; None where the folder has none.

    """

    policies: cedarpy.PolicySet
    schema: cedarpy.Schema
    schema_file: str
    rules: Mapping[str, Rule]
    trees: Mapping[str, pst.Template]
    templates: Mapping[str, pst.Template]
    text: str
    digest: str
    governance: Governance | None = None


def parse_source(files: Mapping[str, bytes]) -> Source:
    """Parse policy files.

    Args:
        files: name → bytes; `*.cedar` are policies, one `*.cedarschema` is the schema, `governance.toml` the rules of
            dual control; other names are not looked at.

    Raises:
        Malformed: a file is not UTF-8 or not Cedar, schema or policies are missing, an annotation is missing,
            misspelt or used twice; the field names the file.

    """
    policy_files = {name: _text(name, files[name]) for name in sorted(files) if name.endswith(POLICY_SUFFIX)}
    schema_files = {name: _text(name, files[name]) for name in sorted(files) if name.endswith(SCHEMA_SUFFIX)}
    if not policy_files or len(schema_files) != 1:
        raise Malformed(
            f"a policy folder has *{POLICY_SUFFIX} files and exactly one *{SCHEMA_SUFFIX}; "
            f"found {len(policy_files)} and {len(schema_files)}",
            rule="policy/files",
        )
    ((schema_file, schema_text),) = schema_files.items()
    try:
        schema = cedarpy.Schema.from_str(schema_text)
    except ValueError as error:
        raise Malformed(
            f"{schema_file} is no Cedar schema: {error}", rule="policy/schema", field=schema_file
        ) from None
    parsed = {name: _parsed(name, text) for name, text in policy_files.items()}
    origin = [name for name, tree in parsed.items() for _ in tree.static_policies]
    text = "\n".join(policy_files.values())
    whole = _parsed("all policy files together", text)
    if not whole.static_policies and not whole.templates:
        raise Malformed("the policy files have no policy", rule="policy/files")
    ruled = {name: files[name] for name in (GOVERNANCE_FILE,) if name in files}
    trees = {policy: whole.static_policies[policy] for policy in sorted(whole.static_policies, key=_position)}
    return Source(
        policies=cedarpy.PolicySet.from_str(text),
        schema=schema,
        schema_file=schema_file,
        rules=_rules(trees, origin),
        trees=trees,
        templates=whole.templates,
        text=text,
        digest=_digest(
            {name: files[name] for name in policy_files} | {schema_file: files[schema_file]} | ruled
        ),
        governance=read_governance(ruled[GOVERNANCE_FILE]) if ruled else None,
    )


def named_in(errors: Sequence[str], source: Source) -> list[Rule]:
    """Find the policies that Cedar's evaluation errors are about, in the order of the files."""
    named = {policy for error in errors for policy in _POLICY.findall(error)}
    return sorted(
        (source.rules[policy] for policy in named & source.rules.keys()), key=lambda rule: rule.order
    )


def _rules(trees: Mapping[str, pst.Template], origin: list[str]) -> dict[str, Rule]:
    rules: dict[str, Rule] = {}
    taken: dict[str, str] = {}
    for order, (policy, tree) in enumerate(trees.items()):
        file = origin[order]
        rule = _rule(tree, file, order)
        if rule.rule_id in taken:
            raise Malformed(
                f"{file}: the id {rule.rule_id} is used twice (first in {taken[rule.rule_id]}); "
                "records name policies by id",
                rule="policy/duplicate-id",
                field=file,
            )
        taken[rule.rule_id] = file
        rules[policy] = rule
    return rules


def _rule(tree: pst.Template, file: str, order: int) -> Rule:
    said = tree.annotations
    name = said.get("id") or f"policy {order + 1} of the set"
    for annotation in ANNOTATIONS:
        if not said.get(annotation, "").strip():
            raise Malformed(
                f"{file}: {name} has no @{annotation}", rule=f"policy/missing-{annotation}", field=file
            )
    if unknown := sorted(set(said) - set(ANNOTATIONS)):
        raise Malformed(
            f"{file}: {name} has an annotation @{unknown[0]}; known are @id, @clause and @text",
            rule="policy/unknown-annotation",
            field=file,
        )
    if not _ID.fullmatch(said["id"]):
        raise Malformed(
            f"{file}: the id {said['id']!r} is not lower-case words joined by hyphens",
            rule="policy/id",
            field=file,
        )
    if not _CLAUSE.fullmatch(said["clause"]):
        raise Malformed(
            f"{file}: {name} names the clause {said['clause']!r}; write it as G2.60(a)",
            rule="policy/clause",
            field=file,
        )
    return Rule(said["id"], said["clause"], said["text"], tree.effect, file, order)


def _parsed(name: str, text: str) -> pst.PolicySet:
    try:
        return cedarpy.policies_to_pst(text)
    except ValueError as error:
        raise Malformed(f"{name} is not Cedar: {error}", rule="policy/syntax", field=name) from None


def _text(name: str, octets: bytes) -> str:
    try:
        return octets.decode()
    except UnicodeDecodeError:
        raise Malformed(f"{name} is not UTF-8", rule="policy/encoding", field=name) from None


def _digest(files: Mapping[str, bytes]) -> str:
    return hashlib.sha256(
        canonical({name: hashlib.sha256(octets).hexdigest() for name, octets in files.items()})
    ).hexdigest()


def _position(policy: str) -> int:
    """Cedar numbers policies by position: policy0, policy1, … policy10."""
    return int(policy.removeprefix("policy"))
