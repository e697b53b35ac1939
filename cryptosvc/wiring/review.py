"""`policy check | explain | matrix`: the policy adapter's answers as documents for the command line."""

from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path

from cryptosvc.adapters.clock import SystemClock
from cryptosvc.adapters.policy import CedarPolicy, load_policy
from cryptosvc.adapters.policy.explain import explain
from cryptosvc.adapters.policy.governance import GOVERNANCE_FILE
from cryptosvc.adapters.policy.matrix import favourable, table
from cryptosvc.adapters.policy.review import matrix_records, matrix_text
from cryptosvc.adapters.policy.source import POLICY_SUFFIX, SCHEMA_SUFFIX
from cryptosvc.adapters.policy.tables import check_tables, read_tables
from cryptosvc.config.settings import read_settings
from cryptosvc.core.canonical import JsonValue
from cryptosvc.core.case import Facts
from cryptosvc.core.errors import Corrupt, Malformed
from cryptosvc.core.keyclass import ceiling
from cryptosvc.core.names import ContentKind, Environment, UserRole
from cryptosvc.flow.gather import in_module
from cryptosvc.wiring import modules

TABLES = "tests"
"""Folder of decision tables inside a policy folder."""

_ASKED = frozenset({"operation", "key_class", "content_kind"})


def folder_files(folder: Path) -> dict[str, bytes]:
    """Name → bytes of every file directly in a folder. Malformed where it cannot be read."""
    try:
        return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.is_file()}
    except OSError as error:
        raise Malformed(
            f"cannot read {folder}: {error.strerror}", rule="config/unreadable", field="policy.folder"
        ) from None


def load(folder: Path, proven: str = "") -> CedarPolicy:
    """Load a policy folder; Malformed where it does not hold. `proven` as in `load_policy`."""
    return load_policy(folder_files(folder), proven)


def kept_files(folder: Path) -> dict[str, str]:
    """Name → text of the files of a policy folder that its digest is over; Malformed where they cannot be read."""
    try:
        return {
            name: octets.decode()
            for name, octets in folder_files(folder).items()
            if name.endswith((POLICY_SUFFIX, SCHEMA_SUFFIX)) or name == GOVERNANCE_FILE
        }
    except UnicodeDecodeError:
        raise Malformed(
            f"a file of {folder} is not UTF-8", rule="policy/encoding", field="policy.folder"
        ) from None


def check(folder: Path) -> dict[str, JsonValue]:
    """Load, and run the decision tables. Corrupt: a row does not hold, or a policy decides no row."""
    policy = load(folder)
    tables = folder / TABLES
    rows = read_tables(folder_files(tables)) if tables.is_dir() else []
    found = check_tables(rows, policy.rules, policy.decide_all) if rows else []
    if found:
        raise Corrupt(
            "; ".join(f"{finding.where}: {finding.wrong}" for finding in found), rule="policy/decision-table"
        )
    return {
        "sound": True,
        "digest": policy.digest,
        "policies": len(policy.rules),
        "cells": len(table(policy.decide_all)),
        "decision_rows": len(rows),
    }


def matrix(folder: Path) -> tuple[str, list[dict[str, str]]]:
    """What is permitted as text, and every cell as a record."""
    rows = table(load(folder).decide_all)
    return matrix_text(rows), matrix_records(rows)


def explained(
    folder: Path, words: Mapping[str, str], config: Path | None = None, classification: str = ""
) -> dict[str, JsonValue]:
    """What ceiling, state and policies say of the facts in words, and what would change the answer.

    With a configuration, of each module in it also whether the same would be permitted there.
    """
    facts = _facts(words)
    policy = load(folder)
    answer = explain(policy, facts)
    document: dict[str, JsonValue] = {
        "permitted": answer.permitted,
        "facts": {field.name: _shown(getattr(facts, field.name)) for field in fields(facts)},
        "ceiling": answer.ceiling_says or f"allows it ({answer.ceiling_clause})",
        "state": answer.state_says or "allows it",
        "policy": "permits it" if answer.answer.allowed else answer.answer.text,
        "decided_by": tuple(f"{rule.rule_id} ({rule.clause}): {rule.text}" for rule in answer.rules),
    }
    if answer.remedies:
        document["would_be_permitted_if"] = tuple(
            " and ".join(f"{change.fact} were {change.needed} instead of {change.now}" for change in remedy)
            for remedy in answer.remedies
        )
    if config is not None:
        document |= _modules(policy, facts, config, classification)
    return document


def _modules(policy: CedarPolicy, facts: Facts, config: Path, classification: str) -> dict[str, JsonValue]:
    """Each configured module in the place of the one asked about: which would do, and which would not, and why."""
    settings = read_settings(config)
    profile, now = modules.assurance_profile(settings), SystemClock().now().at
    would: list[JsonValue] = []
    would_not: list[JsonValue] = []
    for module in modules.module_configs(settings):
        stated = module.facts()
        found = explain(policy, in_module(facts, stated, profile, classification, now), remedies=False)
        certificate = f"certificate {stated.certificate}" if stated.certificate else "no certificate"
        said = f"{stated.name}: {stated.standard or 'no standard'} level {stated.level}, {certificate}, {stated.country}"
        if found.permitted:
            would.append(said)
        else:
            why = found.answer.clauses or ("ceiling or state",)
            would_not.append(f"{said} ({', '.join(why)})")
    return {"modules_that_would_do": tuple(would), "modules_that_would_not": tuple(would_not)}


def _facts(words: Mapping[str, str]) -> Facts:
    ceiling(words["key_class"])
    facts = favourable(words["key_class"], ContentKind(words["content_kind"]), environment=Environment.TEST)
    changes = {name: _value(facts, name, word) for name, word in words.items() if name not in _ASKED}
    return replace(facts, **changes)  # type: ignore[arg-type]  # each value was read as its fact's own type


def _value(facts: Facts, name: str, word: str) -> bool | int | str | None:
    known = [field.name for field in fields(Facts) if field.name not in _ASKED]
    if name not in known:
        raise Malformed(
            f"there is no fact {name!r}; facts are {', '.join(known)}", rule="config/fact", field=name
        )
    now = getattr(facts, name)
    try:
        if name == "user_role":
            return None if word == "none" else UserRole(word)
        if isinstance(now, bool):
            return {"true": True, "yes": True, "false": False, "no": False}[word.lower()]
        return type(now)(word)  # type: ignore[no-any-return]  # str, int and the enumerations all read from text
    except (ValueError, KeyError):
        raise Malformed(f"{word!r} is not a value of {name}", rule="config/fact", field=name) from None


def _shown(value: object) -> JsonValue:
    match value:
        case None:
            return "none"
        case bool() | int():
            return value
        case _:
            return str(value)
