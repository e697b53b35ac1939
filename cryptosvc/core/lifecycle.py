"""Which operations a key state allows. A missing entry is illegal.

Source: NIST SP 800-57 Part 1 Rev 5, section 7 (key states); Smart Energy Code G5.13(b).

The corridor issue needs the operations of a state only; events between states arrive with governed acts.
"""

from collections.abc import Mapping
from types import MappingProxyType

from cryptosvc.core.errors import WrongState
from cryptosvc.core.names import ContentKind, Operation
from cryptosvc.core.registry import KeyState

_CSR = ContentKind.CERTIFICATION_REQUEST
_SIGNED_WHEN_ACTIVE = frozenset(ContentKind)

ALLOWED: Mapping[KeyState, frozenset[tuple[Operation, ContentKind]]] = MappingProxyType(
    {
        KeyState.PRE_ACTIVATION: frozenset({(Operation.SIGN, _CSR)}),
        KeyState.ACTIVE: frozenset((Operation.SIGN, kind) for kind in _SIGNED_WHEN_ACTIVE),
        KeyState.SUSPENDED: frozenset(),
        KeyState.DEACTIVATED: frozenset(),
        KeyState.COMPROMISED: frozenset(),
        KeyState.DESTROYED: frozenset(),
    }
)


def permits(state: KeyState, operation: Operation, kind: ContentKind) -> bool:
    """Whether a key in `state` may do this at all."""
    return (operation, kind) in ALLOWED[state]


def require(state: KeyState, operation: Operation, kind: ContentKind) -> None:
    """Raise WrongState unless the table has the entry."""
    if (operation, kind) not in ALLOWED[state]:
        raise WrongState(
            f"a key that is {state} may not {operation} {kind}; ask a key custodian to activate or replace it",
            rule="lifecycle/state",
            clause="G5.13(b)",
            field="key_id",
        )
