"""Every key press of a ceremony, from its plan: what custodians follow, and what a test types.

Example:
    >>> NAME
    'NAME'
"""

from cryptosvc.core.ceremony.acts import Act
from cryptosvc.core.ceremony.rows import ActKind, Role
from cryptosvc.core.ceremony.script import Script, number_of

ENTER = "Enter"
NAME = "NAME"
"""Stands for the name of whoever makes a statement, where several could."""

_NOTHING_TO_COMPARE = frozenset({ActKind.ATTEST})
"""Acts after which nothing is shown, so that nobody has to say when they have compared it."""


def presses(act: Act, script: Script) -> tuple[str, ...]:
    """What is typed in one step, line by line; an empty line is the Enter key alone."""
    typed = [act.confirmation]
    if act.kind is ActKind.ATTEST and number_of(script, Role(act.text("role"))) > 1:
        typed.append(NAME)
    if act.kind not in _NOTHING_TO_COMPARE:
        typed.append("")
    return tuple(typed)


def guide_markdown(script: Script, name: str) -> str:
    """Print the steps of a plan with their key presses.

    Args:
        script: the plan.
        name: of its file.

    """
    people = ", ".join(f"{number} {role.value}" for role, number in script.people)
    rows = [
        f"| {act.number} | {act.sentence} | {' '.join(_key(one) for one in presses(act, script))} |"
        for act in script.acts
    ]
    return "\n".join(
        [
            f"### {script.title} (`{name}`)",
            "",
            f"{script.purpose}. Clause {script.clause}. Who comes: {people}.",
            "",
            "| step | read out | keys |",
            "|---|---|---|",
            f"|  | The fingerprint of the ceremony file is the one that was reviewed. | {_key('')} |",
            *rows,
            "",
        ]
    )


def _key(line: str) -> str:
    """Print a line that is typed, with the Enter key that ends it."""
    if not line:
        return f"{ENTER}."
    return f"{line} {ENTER}." if line == NAME else f"`{line}` {ENTER}."
