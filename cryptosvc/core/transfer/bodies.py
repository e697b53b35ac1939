"""Who approves a transfer, by the classes of the keys that move.

Where material is connected with a Public Key of the Code the SMKI PMA approves (G2.22I(a)), whatever is configured. Where it
is not, as the keys that SMETS1 Devices' keys are stored under, G2.22I does not say who: then it is the body that
`policies/governance.toml` names for the class, and the SMKI PMA where it names none.

Source: Smart Energy Code G2.22G, G2.22I.

Example:
    >>> body_of(["command-signing"], [])
    'smki-pma'
"""

from collections.abc import Collection
from dataclasses import dataclass

from cryptosvc.core.errors import Forbidden
from cryptosvc.core.keyclass import Algorithm, ceiling

PMA = "smki-pma"


@dataclass(frozen=True, slots=True)
class Body:
    """A body that approves transfers of some classes.

    Args:
        name: as plans name it.
        classes: of keys; none is connected with a Public Key of the Code.
        members: custodian ids of those who sign for it, role `transfer-approver`; two at least.

    """

    name: str
    classes: frozenset[str]
    members: frozenset[str]


def is_connected(key_class: str) -> bool:
    """Whether keys of a class are connected with a Public Key of the Code; Forbidden where there is no such class."""
    return ceiling(key_class).template.algorithm is Algorithm.EC_P256


def body_of(key_classes: Collection[str], bodies: Collection[Body]) -> str:
    """Name of the body that approves a transfer of keys of these classes.

    Raises:
        Forbidden: `transfer/bodies`: two bodies approve parts of it.

    """
    named = {_of_class(one, bodies) for one in key_classes}
    if len(named) != 1:
        raise Forbidden(
            f"keys of these classes are approved by {', '.join(sorted(named)) or 'nobody'}; make a transfer for each",
            rule="transfer/bodies",
            clause="G2.22I",
        )
    return named.pop()


def require_body(name: str, key_classes: Collection[str], bodies: Collection[Body] | None) -> None:
    """Require that a plan names the body that approves keys of its classes.

    Args:
        name: that the plan names.
        key_classes: of the keys that move.
        bodies: as configured here; None where the policies are not at hand, as in a replay and off-line: then all that can
            be told is that no other body than the SMKI PMA approves what is connected with a Public Key.

    Raises:
        Forbidden: `transfer/other-body`, `transfer/bodies`.

    """
    allowed = name == PMA or not any(map(is_connected, key_classes))
    if not allowed or (bodies is not None and body_of(key_classes, bodies) != name):
        raise Forbidden(
            f"the plan names {name!r}, and another body than that approves keys of these classes",
            rule="transfer/other-body",
            clause="G2.22I",
        )


def _of_class(key_class: str, bodies: Collection[Body]) -> str:
    if is_connected(key_class):
        return PMA
    return next((one.name for one in bodies if key_class in one.classes), PMA)
