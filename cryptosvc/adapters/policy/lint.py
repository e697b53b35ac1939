"""What neither Cedar's validator nor the matrix can see.

The matrix asks about groups of callers and keys, so a policy for one named caller or key never fires there; Cedar
compares a string with a constant that no string ever equals without complaint. So policies may name groups only, and
only words the service has.
"""

from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass

from cedarpy import pst

from cryptosvc.adapters.policy.source import Rule, Source
from cryptosvc.adapters.policy.words import FACT_WORDS, WORDS, nearest
from cryptosvc.core.errors import Malformed


def lint(source: Source) -> None:
    """Raise Malformed at the first policy that names an individual, an unknown word, or is a template."""
    if source.templates:
        raise Malformed(
            "policy files contain a template; write one policy per group, so that a reader sees all there are",
            rule="policy/template",
        )
    for policy, tree in source.trees.items():
        rule = source.rules[policy]
        for node in _nodes(tree):
            _require_known(node, rule)


def _require_known(node: object, rule: Rule) -> None:
    match node:
        case pst.EntityUid(type=kind, id=word):
            _require_group(str(kind), word, rule)
        case pst.StringLit(value=word):
            if not any(word in words for words in WORDS.values()):
                raise _refused(
                    f'compares with "{word}", a word the schema does not know{nearest(word)}',
                    "unknown-word",
                    rule,
                )
            raise _refused(
                f'compares with the string "{word}"; facts are enumerated, so write the type too, as in '
                f'Content::"gbcs-pre-command"',
                "string-constant",
                rule,
            )
        case pst.BinaryOp(op="eq" | "not_eq" | "in" | "contains", left=left, right=right):
            _require_comparable(left, right, rule)
            _require_comparable(right, left, rule)
        case pst.Like():
            raise _refused("uses `like`, which hides the words it matches; name them", "like", rule)
        case _:
            return


def _require_comparable(asked: object, words: object, rule: Rule) -> None:
    """A fact compared with words of another kind is never equal, and Cedar does not complain."""
    match asked:
        case pst.GetAttr(base=pst.Var(name="context"), attr=attribute):
            expected = FACT_WORDS.get(attribute, "")
        case pst.Var(name="principal"):
            expected = "UserRole"
        case pst.Var(name="resource"):
            expected = "KeyClass"
        case pst.Var(name="action"):
            expected = "Action"
        case _:
            return
    for node in _nodes(words):
        if isinstance(node, pst.EntityUid) and str(node.type) in WORDS and str(node.type) != expected:
            raise _refused(
                f"compares {expected or 'a yes or no'} with {node}, which it never is", "never-equal", rule
            )


def _require_group(kind: str, word: str, rule: Rule) -> None:
    if kind not in WORDS:
        raise _refused(
            f'names the one {kind} "{word}"; policies speak of groups ({", ".join(sorted(WORDS))}), and single '
            "callers and keys belong into the register",
            "individual",
            rule,
        )
    if word not in WORDS[kind]:
        raise _refused(
            f'names {kind}::"{word}", which does not exist{nearest(word, kind)}', "unknown-word", rule
        )


def _refused(what: str, name: str, rule: Rule) -> Malformed:
    return Malformed(f"{rule.file}: the policy {rule.rule_id} {what}", rule=f"policy/{name}", field=rule.file)


def _nodes(root: object) -> Iterator[object]:
    """Every node under `root`, itself included; on a stack of its own, so depth costs memory and no frames."""
    stack: list[object] = [root]
    while stack:
        node = stack.pop()
        if isinstance(node, Mapping):
            stack.extend(node.values())
        elif isinstance(node, tuple):
            stack.extend(node)
        elif is_dataclass(node):
            yield node
            stack.extend(getattr(node, field.name) for field in fields(node) if field.name != "annotations")
