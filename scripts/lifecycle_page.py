"""Print docs/lifecycle.md from the tables of the code.

.venv/bin/python scripts/lifecycle_page.py > docs/lifecycle.md
"""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from cryptosvc.core import due, lifecycle, replay
from cryptosvc.core.acts.table import ACTS
from cryptosvc.core.keyclass import KEY_CLASSES
from cryptosvc.core.life import Event
from cryptosvc.core.lifecycle import TRANSITIONS, USES, Use
from cryptosvc.core.quorum import EMERGENCY
from cryptosvc.core.registry import KeyState

_MEANINGS = {
    KeyState.ORDERED: 'a record, and no key yet (the Code\'s "ordered")',
    KeyState.PRE_ACTIVATION: "there is a key; it proves possession of itself and does nothing else",
    KeyState.ACTIVE: "it does what its class may do",
    KeyState.SUSPENDED: "it protects nothing new, until it is resumed",
    KeyState.IN_TRANSFER: "it was exported to another system and does nothing here (G2.22G; `docs/transfer.md`)",
    KeyState.SPLIT: "it is in parts that their holders have, and nowhere whole (G2.44B; `docs/ceremonies.md`)",
    KeyState.DEACTIVATED: "its time is over: what it protected may still be looked into",
    KeyState.COMPROMISED: "not to be trusted, from a date the record says",
    KeyState.DESTROYED: "its objects are gone, and the module said so",
}
_USES = {
    Use.APPLY: "protect something new (sign, encrypt, wrap)",
    Use.PROCESS: "look into what was protected (verify, decrypt, unwrap)",
    Use.OWN_REQUEST: "sign the request for its own certificate",
    Use.CARRIED: "be wrapped for the Device that is to have it",
}
_COMING = {
    Event.ACTIVATE.value: "it becomes active by itself",
    Event.DEACTIVATE.value: "it is deactivated by itself, at its date or the end of its crypto-period",
    due.REPLACE: "it serves other purposes too and must have been replaced (G2.57)",
    due.DISPOSE: "it moved to another system, and its copy here must be gone by the date that was approved (G2.22I(b)(i))",
    due.CERTIFICATE: "its certificate ends; the key may sign no Commands or documents after that",
}


def page() -> str:
    """The whole page."""
    return "\n".join(_lines()) + "\n"


def _lines() -> Iterator[str]:
    yield "# The life of a key"
    yield ""
    yield "<!-- Printed by scripts/lifecycle_page.py from the tables of the code; a test holds it to them. -->"
    yield ""
    yield "From order to destruction (G5.13(b), G5.24): which states a key goes through, what leads from one to the next,"
    yield "what each lets it do, and what happens without anybody. What is not in these tables does not happen. States and"
    yield "transitions are those of NIST SP 800-57 Part 1 Rev 5, section 7; `ordered` and some events are the Code's own."
    yield ""
    yield "## States and events"
    yield ""
    yield from _diagram()
    yield ""
    yield "What stands after `by` happens by a rule of the schedule, without a person. Events that change no state are in the"
    yield "table only."
    yield ""
    yield from _table(("state", "what it means"), [(f"`{state}`", _MEANINGS[state]) for state in KeyState])
    yield ""
    yield from _table(("event", "from", "to", "act", "source"), list(_transitions()))
    yield ""
    yield "Every act is proposed, approved by a quorum and carried out once (`docs/adr/0009-governed-acts.md`). An event that is"
    yield "not in the table for the key's state is refused with rule `lifecycle/event`. Destroying a key needs it deactivated,"
    yield "compromised or never activated first. A compromise may be found out after destruction: the record then says so too."
    yield ""
    yield "## What each state lets a key do"
    yield ""
    yield from _table(
        ("state", *(_USES[use] for use in Use)),
        [(f"`{state}`", *(USES[state].get(use, "no") for use in Use)) for state in KeyState],
    )
    yield ""
    yield "On top of that stands the ceiling of the key's class (`core/keyclass.py`) and then policy; neither gives back what a"
    yield "state takes away. A refusal names `lifecycle/state`, or the rule of the schedule that led to the state."
    yield ""
    yield "## What happens without anybody"
    yield ""
    rules = [(f"`{rule}`", event.value, when) for rule, (event, when) in lifecycle.RULES.items()]
    expiry = (f"`{replay.EXPIRY}`", "a proposal expires", "the end comes that its statement names")
    yield from _table(("rule", "event", "when"), [*rules, expiry])
    yield ""
    yield "Dates take effect in the moment they come, in every worker, with nothing written: the state of a key is worked out"
    yield "from its record and the time of the request. A limit takes effect in the claim, across all workers and nodes: the"
    yield "first claim beyond it is refused with rule `lifecycle/usage-limit`. Some seconds later one worker writes down what"
    yield "has come about, with the moment it was due and the rule behind it, so that the log derives it again"
    yield "(`docs/adr/0010-dates-and-limits.md`). A date that comes to a key whose state has no such event is passed over."
    yield ""
    yield from _table(
        ("class", "crypto-period, days", "people who approve, at least", "clause"),
        [
            (f"`{row.name}`", str(row.crypto_period_days), str(row.quorum), row.clause)
            for row in KEY_CLASSES.values()
        ],
    )
    yield ""
    urgent = " and ".join(f"`key.{event.value}`" for event in sorted(EMERGENCY))
    yield f"The policy on governance may ask for more people, never for fewer. For {urgent} one is enough."
    yield ""
    yield "## What is coming"
    yield ""
    yield f"What comes within {_days()} days, and what is overdue, is listed and exported as metric `cryptosvc_keys_due`:"
    yield ""
    yield from _table(("event", "meaning"), [(f"`{event}`", _COMING[event]) for event in due.EVENTS])


def _days() -> int:
    from cryptosvc.flow.schedule import DAYS

    return DAYS


def _diagram() -> Iterator[str]:
    edges: dict[tuple[KeyState | None, KeyState], list[str]] = {}
    for (state, event), transition in TRANSITIONS.items():
        if state is not transition.to:
            edges.setdefault((state, transition.to), []).append(event.value)
    yield "```mermaid"
    yield "stateDiagram-v2"
    for state in KeyState:
        yield f'    state "{state.value}" as {_node(state)}'
    for (begins, ends), events in edges.items():
        by = [rule for rule, (event, _) in lifecycle.RULES.items() if event.value in events]
        named = ", ".join(events) + (
            f" (or by {', '.join(one.removeprefix('schedule/') for one in by)})" if by else ""
        )
        yield f"    {_node(begins)} --> {_node(ends)}: {named}"
    yield f"    {_node(KeyState.DESTROYED)} --> [*]"
    yield "```"


def _node(state: KeyState | None) -> str:
    return "[*]" if state is None else state.name.lower()


def _transitions() -> Iterator[tuple[str, ...]]:
    acts = {act.event: act.name for act in ACTS.values() if act.event is not None}
    for event in Event:
        rows: dict[tuple[str, str], list[str]] = {}
        for (state, found), transition in TRANSITIONS.items():
            if found is event:
                to = "stays" if state is transition.to else f"`{transition.to.value}`"
                begins = "no record" if state is None else f"`{state.value}`"
                rows.setdefault((to, transition.source), []).append(begins)
        for (to, source), states in rows.items():
            yield event.value, ", ".join(states), to, f"`{acts[event]}`", source


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield "| " + " | ".join(heads) + " |"
    yield "|" + "---|" * len(heads)
    for row in rows:
        yield "| " + " | ".join(row) + " |"


if __name__ == "__main__":
    sys.stdout.write(page())
