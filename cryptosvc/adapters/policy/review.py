"""The table for reviewers as text, CSV or JSON."""

import csv
import io
from collections.abc import Sequence

import orjson

from cryptosvc.adapters.policy.matrix import ROLES, Row
from cryptosvc.adapters.policy.source import Rule

COLUMNS = (
    "key_class",
    "operation",
    "content",
    "state",
    "environment",
    "user_role",
    "ceiling",
    "decision",
    "policies",
    "clauses",
)


def matrix_records(rows: Sequence[Row]) -> list[dict[str, str]]:
    """One flat record per cell, by the names in COLUMNS."""
    return [
        {
            "key_class": row.facts.key_class,
            "operation": row.facts.operation.value,
            "content": row.facts.content_kind.value,
            "state": row.facts.state.value,
            "environment": row.facts.environment.value,
            "user_role": row.facts.user_role.value if row.facts.user_role else "none",
            "ceiling": "allows" if row.under_ceiling else "forbids",
            "decision": "permit" if row.answer.allowed and row.under_ceiling else "refuse",
            "policies": " ".join(row.answer.policies),
            "clauses": " ".join(row.answer.clauses),
        }
        for row in rows
    ]


def matrix_csv(rows: Sequence[Row]) -> str:
    """The table as CSV with a header line."""
    out = io.StringIO()
    writer = csv.DictWriter(out, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(matrix_records(rows))
    return out.getvalue()


def matrix_json(rows: Sequence[Row]) -> bytes:
    """The table as a JSON array of records, one per line."""
    return b"[\n" + b",\n".join(orjson.dumps(record) for record in matrix_records(rows)) + b"\n]\n"


def matrix_text(rows: Sequence[Row]) -> str:
    """What is permitted, one line per (class, content, state, environment): the User Roles and the clauses."""
    lines: dict[tuple[str, str, str, str], dict[str, set[str]]] = {}
    for record in matrix_records(rows):
        if record["decision"] == "permit":
            key = (record["key_class"], record["content"], record["state"], record["environment"])
            line = lines.setdefault(key, {"roles": set(), "clauses": set()})
            line["roles"].add(record["user_role"])
            line["clauses"].update(record["clauses"].split())
    header = ("KEY CLASS", "MAY SIGN", "IN STATE", "ENVIRONMENT", "USER ROLES", "CLAUSES")
    body = [(*key, _roles(line["roles"]), " ".join(sorted(line["clauses"]))) for key, line in lines.items()]
    widths = [max(len(line[column]) for line in (header, *body)) for column in range(len(header))]
    return "".join(
        "  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip() + "\n"
        for line in (header, *body)
    )


def rules_text(rules: Sequence[Rule]) -> str:
    """The policies, one paragraph each: id, clause, effect, file, sentence."""
    return "".join(
        f"{rule.rule_id}  {rule.clause}  {rule.effect}  {rule.file}\n    {rule.text}\n" for rule in rules
    )


def _roles(roles: set[str]) -> str:
    every = ["none" if role is None else role.value for role in ROLES]
    return "all" if roles == set(every) else " ".join(role for role in every if role in roles)
